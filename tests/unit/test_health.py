"""How long a failing server is left alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tiered.routing.health import NodeHealth
from tiered.testing import ManualClock


@pytest.fixture
def health(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> NodeHealth:
    """Without jitter, so that pauses are known."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return NodeHealth(clock)


def pause_after_failure(health: NodeHealth, clock: ManualClock) -> float:
    """In sixteenths of a second, of which every pause has a whole number."""
    health.failed()
    started = clock.monotonic()
    while not health.usable:
        clock.advance(1 / 16)
    return clock.monotonic() - started


def test_a_new_server_is_asked_at_once(health: NodeHealth) -> None:
    assert health.usable


def test_pauses_double_up_to_the_longest(health: NodeHealth, clock: ManualClock) -> None:
    pauses = [pause_after_failure(health, clock) for _ in range(30)]
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0] + [10.0] * 24


def test_the_server_is_asked_again_when_the_pause_is_over(
    health: NodeHealth, clock: ManualClock
) -> None:
    health.failed()
    assert not health.usable
    clock.advance(0.25)
    assert health.usable


def test_an_answer_ends_the_pause_and_forgets_the_failures(
    health: NodeHealth, clock: ManualClock
) -> None:
    for _ in range(5):
        pause_after_failure(health, clock)
    health.failed()
    health.succeeded()
    assert health.usable
    assert pause_after_failure(health, clock) == 0.25


def test_requests_that_meet_the_same_outage_are_one_failure(
    health: NodeHealth, clock: ManualClock
) -> None:
    for _ in range(8):
        health.failed()
    clock.advance(0.25)
    assert health.usable
    assert pause_after_failure(health, clock) == 0.5


def test_a_failure_in_the_pause_does_not_lengthen_it(
    health: NodeHealth, clock: ManualClock
) -> None:
    health.failed()
    clock.advance(0.125)
    health.failed()
    clock.advance(0.125)
    assert health.usable


def test_the_fleet_does_not_return_in_one_wave(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    monkeypatch.setattr(random, "uniform", uniform)
    health = NodeHealth(clock)
    health.failed()
    assert asked == [(0.75, 1.0)]
    clock.advance(0.1874)
    assert not health.usable
    clock.advance(0.0002)
    assert health.usable


def test_the_wall_clock_has_no_say(health: NodeHealth, clock: ManualClock) -> None:
    health.failed()
    clock.step_wall(3600)
    assert not health.usable
    clock.step_wall(-7200)
    clock.advance(0.25)
    assert health.usable
