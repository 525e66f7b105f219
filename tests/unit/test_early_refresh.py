"""Early refresh: the chance rises towards the end, and with what a computation costs."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from tests.fakes import inproc
from tiered import WorkerPool, cached
from tiered.decorators.plan import Plan
from tiered.decorators.terms import Terms
from tiered.testing import ManualClock


def terms(clock: ManualClock, beta: float, cost: float) -> Terms:
    plan = Plan.checked(
        function=print, client=inproc(clock), ttl=1000, pool=WorkerPool(0), early_refresh=beta
    )
    made = Terms(plan)
    made.measured(cost)
    return made


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("cost", [0.01, 2.0])
@pytest.mark.parametrize("gaps", [0.25, 1.0, 2.0])
def test_the_chance_at_a_gap_is_that_of_xfetch(
    clock: ManualClock, beta: float, cost: float, gaps: float
) -> None:
    random.seed(20)
    draws = 20_000
    one = terms(clock, beta, cost)
    gap = gaps * beta * cost
    share = sum(one.due() >= gap for _ in range(draws)) / draws
    expected = math.exp(-gap / (beta * cost))
    deviation = math.sqrt(expected * (1 - expected) / draws)
    assert abs(share - expected) < 5 * deviation
    assert one.horizon == pytest.approx(25 * beta * cost)


def test_nothing_is_early_before_a_cost_is_known(clock: ManualClock) -> None:
    plan = Plan.checked(
        function=print,
        client=inproc(clock),
        ttl=100,
        pool=WorkerPool(0),
        early_refresh=True,
        async_ttl=30,
    )
    one = Terms(plan)
    assert (one.due(), one.horizon) == (30, 30)
    one.measured(0.001)
    assert one.due() == 30
    one.measured(100.0)
    assert one.horizon > 100


def test_the_cost_follows_the_newest_computations(clock: ManualClock) -> None:
    one = terms(clock, 1, 8.0)
    assert one.cost == 8.0
    for _ in range(50):
        one.measured(2.0)
    assert one.cost == pytest.approx(2.0, rel=0.01)


def test_plain_calls_refresh_early_behind_their_callers(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    @cached(inproc(clock), 100, early_refresh=2.0, pool=WorkerPool(0))
    def f(x: int) -> int:
        calls.append(x)
        clock.advance(1.0)
        return len(calls)

    assert f(1) == 1
    monkeypatch.setattr(random, "random", lambda: 1 - math.exp(-5))  # due at 10 s from the end
    clock.advance(89.5)
    assert f(1) == 1
    assert calls == [1]
    hits = f.stats
    assert (hits.near_hits, hits.hits) == (0, 1)  # within reach of a draw, hits are settled
    clock.advance(0.6)
    assert f(1) == 1  # the caller has the old value, and the new one is there
    assert calls == [1, 1]
    assert f(1) == 2
    assert f.stats.near_hits == 1
    assert asyncio.run(f.aio(1)) == 2
    clock.advance(95)
    assert f.bg()(1) == 2
    assert f.future()(1).result(0) == 3


def test_an_early_refresh_is_one_for_all_tiers(clock: ManualClock) -> None:
    from tests.fakes import RemoteFake
    from tiered import TieredInclusiveClient

    server = inproc(clock)
    calls: list[int] = []

    def function(x: int) -> int:
        calls.append(x)
        clock.advance(1.0)
        return len(calls)

    one, other = (
        cached(
            TieredInclusiveClient(inproc(clock), RemoteFake(server)),
            100,
            early_refresh=1e9,  # always due
            pool=WorkerPool(0),
            namespace="n",
        )(function)
        for _ in range(2)
    )
    assert one(1) == 1
    assert other(1) == 1
    other._core.reading.terms.measured(1.0)
    assert one(1) == 1  # refreshes
    assert calls == [1, 1]
    assert other(1) == 1  # finds what the first has refreshed, and computes nothing
    assert calls == [1, 1]
    assert other(1) == 2
