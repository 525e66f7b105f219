"""Tags of coherent functions: who invalidates one tells everybody at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.coherent import Cluster, idle
from tests.fakes import Held, VersionedFake
from tiered import CachedFunction, CacheMissError, InprocCacheClient, coherent_cached
from tiered.clients.base import CacheClient
from tiered.testing.buses import LocalBus

LATE = 20.0


class Process:
    """One with two functions over a private tier, and a shared one or none."""

    def __init__(self, cluster: Cluster, *, alone: bool) -> None:
        self.bus = LocalBus(cluster.hub)
        self.source = 0
        self.held: Held | None = None
        private = InprocCacheClient(1_000, clock=cluster.clock)
        shared = None if alone else VersionedFake(cluster.server)

        def read(x: int) -> tuple[int, int]:
            source = self.source
            if self.held is not None:
                self.held()
            return (x, source)

        def function(name: str, tags: Any) -> CachedFunction[[int], Any]:
            decorate = coherent_cached(
                private, shared, self.bus, 600, namespace=name, tags=tags, claim_ttl=LATE
            )
            return decorate(read)

        self.f = function("f", lambda x: [("x", x), "all"])
        self.g = function("g", lambda x: [("x", x)])
        client: Any = self.f.client
        self.client: CacheClient = client.client.client
        self.manager = client.client.client.manager
        self.manager.start()
        cluster.advance(2.0)
        idle(self.manager)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(params=["shared tier", "no shared tier"])
def processes(cluster: Cluster, request: pytest.FixtureRequest) -> list[Process]:
    return [Process(cluster, alone=request.param != "shared tier") for _ in range(3)]


def test_an_invalidation_is_seen_by_everybody_at_once(processes: list[Process]) -> None:
    for process in processes:
        assert [process.f(1), process.f(2), process.g(1)] == [(1, 0), (2, 0), (1, 0)]
    for process in processes:
        process.source = 1
    processes[0].client.invalidate_tag(("x", 1))
    for process in processes:
        assert (process.f(1), process.g(1)) == ((1, 1), (1, 1))
    for process in processes:
        process.source = 2
    processes[1].client.invalidate_tag("all")
    for process in processes:
        assert [process.f(1), process.f(2)] == [(1, 2), (2, 2)]


def test_a_hit_asks_nobody(cluster: Cluster, processes: list[Process]) -> None:
    process = processes[0]
    process.f(1)
    process.f(1)
    hits = process.f.stats.near_hits
    for _ in range(5):
        cluster.advance(0.5)
        assert process.f(1) == (1, 0)
    # A revision is a copy of the lease, which is made anew once it has passed.
    assert process.f.stats.near_hits >= hits + 2


def test_what_is_being_computed_elsewhere_is_not_fresh_after_it(processes: list[Process]) -> None:
    one, other = processes[:2]
    other.held = held = Held()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(other.f, 1)
        assert held.started.wait(LATE)
        one.source = other.source = 1
        one.client.invalidate_tag(("x", 1))
        other.held = None
        held.go.set()
        assert answer.result(LATE) == (1, 0)  # who asked before
    for process in (one, other):
        with pytest.raises(CacheMissError):
            process.f.peek(1)
    assert one.f(1) == other.f(1) == (1, 1)


def test_what_is_being_computed_here_is_not_fresh_after_it(processes: list[Process]) -> None:
    one = processes[0]
    one.held = held = Held()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(one.f(1)))
    thread.start()
    assert held.started.wait(LATE)
    one.held, one.source = None, 1
    one.client.invalidate_tag("all")
    assert one.f(1) == (1, 1)
    held.go.set()
    thread.join(LATE)
    assert answers == [(1, 0)]
    assert one.f(1) == (1, 1)


def test_an_invalidation_while_one_is_cut_off_is_seen_by_him(
    cluster: Cluster, processes: list[Process]
) -> None:
    one, other = processes[:2]
    assert one.f(1) == other.f(1) == (1, 0)
    other.bus.cut = True
    cluster.advance(1.5)
    one.source = other.source = 1
    one.client.invalidate_tag(("x", 1))
    assert other.f(1) == (1, 1)
    other.bus.cut = False
    cluster.advance(2.0)
    assert one.f(1) == other.f(1) == (1, 1)
