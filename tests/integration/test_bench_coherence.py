"""The benchmark of invalidations: each contender does what it is timed for."""

from __future__ import annotations

import os

import pytest

from bench import bus_chorde, coherence_reads, coherence_takeover
from bench.actors import Actor
from bench.coherence_latency import ONE_HOP, OURS, TWO_HOPS, latencies
from bench.coherence_rates import HELD, NOT_HELD, rates
from bench.sections import measure
from tiered.cli.demo.server import PrivateMemcached


class Parrot:
    """Says what it is told."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    def say(self, word: str) -> str:
        if not word:
            raise ValueError("nothing to say")
        return f"{self._greeting}, {word}"

    def process(self) -> int:
        return os.getpid()


def test_an_actor_lives_in_a_process_of_its_own() -> None:
    parrot = Actor(Parrot, "hello")
    parrot.post("say", "you")
    parrot.post("process")
    assert parrot.answer() == "hello, you"
    assert parrot.answer() != os.getpid()
    with pytest.raises(RuntimeError, match=r"Parrot.say: ValueError\('nothing to say'\)"):
        parrot.ask("say", "")
    assert parrot.ask("say", "again") == "hello, again"
    parrot.kill()
    with pytest.raises((EOFError, ConnectionError)):
        parrot.ask("process")
    parrot.close()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_every_contender_brings_every_delete(transport: str, memcached: PrivateMemcached) -> None:
    found = {one.name: one for one in latencies(transport, memcached.address, 1, 5, 0.0)}
    assert {ONE_HOP, TWO_HOPS} < set(found)
    assert sum(name.startswith(OURS) for name in found) == 7
    assert any(name.startswith("chorde") for name in found) == (
        transport == "tcp" and bus_chorde.installed()
    )
    assert all(0 < one.p50 <= one.p99 for one in found.values())
    assert found[ONE_HOP].ratio == 1


def test_a_flood_is_counted_where_it_arrives() -> None:
    found = {one.name: one for one in rates("ipc", 1, 2_000)}
    assert set(found) == {TWO_HOPS, HELD, NOT_HELD}
    for name in (HELD, NOT_HELD):
        assert (found[name].lost, found[name].unnoticed) == (0, 0)
        assert found[name].rate > 0


def test_somebody_takes_over(monkeypatch: pytest.MonkeyPatch, memcached: PrivateMemcached) -> None:
    monkeypatch.setattr(coherence_takeover, "NODES", 2)
    for one in coherence_takeover.takeovers("tcp", memcached.address, 1):
        assert 0 < one.first <= one.worst
        assert one.verified > 0
        assert one.stale == 0


def test_an_unverified_read_asks_and_a_verified_one_does_not(memcached: PrivateMemcached) -> None:
    # The median of several rounds: in one, a machine that stalls would turn the order round.
    (measured,) = measure(
        {"read": coherence_reads.reads()[coherence_reads.title("1 MB")]}, 3
    ).values()
    found = {result.name: result.value for result in measured.results}
    assert found[coherence_reads.NEAR] < found[coherence_reads.ASKING] < found[coherence_reads.FAR]
