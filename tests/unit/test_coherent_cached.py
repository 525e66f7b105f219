"""``coherent_cached``: the functions of several processes, kept in step."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.coherent import Cluster, idle
from tests.fakes import VersionedFake, waiting
from tiered import (
    CachedFunction,
    InprocCacheClient,
    NamespaceWrapper,
    NullCacheClient,
    coherent_cached,
)
from tiered.coherence import CoherentWrapperClient
from tiered.testing.buses import LocalBus


class Process:
    """One that has the function ``f``, which counts."""

    def __init__(self, cluster: Cluster, *, alone: bool = False, **options: Any) -> None:
        self.computed: list[int] = []
        self.private = InprocCacheClient(1_000, clock=cluster.clock)
        self.bus = LocalBus(cluster.hub)
        self.source = 0
        self.shared = None if alone else VersionedFake(cluster.server)
        self.compute: Callable[[int], Any] = lambda x: (x, self.source)

        def f(x: int) -> Any:
            self.computed.append(x)
            return self.compute(x)

        decorate = coherent_cached(
            self.private, self.shared, self.bus, 60, namespace="f", **options
        )
        self.f: CachedFunction[[int], Any] = decorate(f)
        client = self.f.client.client
        assert isinstance(client, CoherentWrapperClient)
        self.client = client
        client.manager.start()
        cluster.advance(2.0)
        idle(client.manager)


def prefix(process: Process) -> str:
    """What the keys of its function begin with."""
    namespace = process.f.client
    assert isinstance(namespace, NamespaceWrapper)
    return namespace.state.prefix


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_what_one_computes_all_have(cluster: Cluster) -> None:
    a, b = Process(cluster), Process(cluster)
    assert a.f(1) == b.f(1) == (1, 0)
    assert (a.computed, b.computed) == ([1], [])


@pytest.mark.parametrize("change", ["invalidate", "expire", "clear", "put", "refresh"])
def test_what_one_changes_nobody_serves(cluster: Cluster, change: str) -> None:
    a, b = Process(cluster), Process(cluster)
    a.f(1)
    b.f(1)
    hits = b.f.stats.near_hits
    b.f(1)
    assert b.f.stats.near_hits == hits + 1
    a.source = b.source = 7
    if change == "clear":
        a.f.clear()
    elif change == "put":
        a.f.put(1, _cache_put=(1, 7))
    else:
        getattr(a.f, change)(1)
    assert b.f(1) == (1, 7)


def test_the_hit_path_closes_with_the_lease_and_opens_again(cluster: Cluster) -> None:
    a, b = Process(cluster), Process(cluster)
    a.f(1)
    b.f(1)
    b.bus.cut = True
    cluster.advance(1.5)
    a.source = 5
    a.f.invalidate(1)
    near = b.f.stats.near_hits
    b.source = 5
    assert b.f(1) == (1, 5)
    assert b.f.stats.near_hits == near
    b.bus.cut = False
    cluster.advance(2.0)
    b.f(1)
    b.f(1)
    assert b.f.stats.near_hits > near


def test_a_clear_while_cut_off_is_heard_of(cluster: Cluster) -> None:
    a, b = Process(cluster), Process(cluster)
    a.f(1)
    b.f(1)
    b.bus.cut = True
    cluster.advance(1.5)
    a.f.clear()
    a.source = b.source = 5
    assert b.f(1) == (1, 5)


def test_without_a_shared_tier(cluster: Cluster) -> None:
    a, b = Process(cluster, alone=True), Process(cluster, alone=True)
    assert a.f(1) == b.f(1) == (1, 0)
    assert a.computed == b.computed == [1]
    a.source = b.source = 5
    a.f.invalidate(1)
    assert a.f(1) == b.f(1) == (1, 5)
    a.source = b.source = 6
    a.f.clear()
    assert b.f(1) == a.f(1) == (1, 6)
    a.source = b.source = 7
    b.f.invalidate(1)
    assert a.f(1) == (1, 7)


def test_without_a_shared_tier_a_computation_takes_nobodys_copy(cluster: Cluster) -> None:
    a, b = (Process(cluster, alone=True, quick_refresh=True) for _ in range(2))
    for _ in range(2):
        assert a.f(1) == b.f(1) == (1, 0)
    assert (a.computed, b.computed) == ([1], [1])
    a.source = b.source = 5
    assert a.f.refresh(1) == b.f(1) == (1, 5)


def test_what_is_deleted_elsewhere_while_it_is_computed_is_not_kept(cluster: Cluster) -> None:
    for alone in (False, True):
        a, b = Process(cluster, alone=alone), Process(cluster, alone=alone)

        def compute(x: int, b: Process = b) -> Any:
            b.f.invalidate(x)
            return "old"

        a.compute = compute
        assert a.f(2) == "old"
        a.compute = lambda x: "new"
        assert a.f(2) == "new"


def test_one_computation_in_the_cluster(cluster: Cluster) -> None:
    for alone in (False, True):
        a, b = Process(cluster, alone=alone), Process(cluster, alone=alone)
        begun, go = threading.Event(), threading.Event()

        def compute(x: int, begun: threading.Event = begun, go: threading.Event = go) -> Any:
            begun.set()
            assert go.wait(10)
            return "once"

        a.compute = compute
        first = threading.Thread(target=a.f, args=(3,))
        first.start()
        assert begun.wait(10)
        assert b.client.claim((prefix(a), 3)) is None
        go.set()
        first.join(10)
        if not alone:
            assert b.f(3) == "once"
            assert b.computed == []


def test_functions_with_the_same_clients_share_one(cluster: Cluster) -> None:
    private, shared = InprocCacheClient(10, clock=cluster.clock), VersionedFake(cluster.server)
    bus = LocalBus(cluster.hub)
    f = coherent_cached(private, shared, bus, 60, namespace="f")(lambda x: x)
    g = coherent_cached(private, shared, bus, 60, namespace="g")(lambda x: x)
    h = coherent_cached(private, shared, bus, 60, namespace="h", synchronous=True)(lambda x: x)
    clients = [function.client.client for function in (f, g, h)]
    assert clients[0] is clients[1]
    assert clients[0] is not clients[2]


def test_a_null_client_is_no_shared_tier(cluster: Cluster) -> None:
    private = InprocCacheClient(10, clock=cluster.clock)
    f = coherent_cached(private, NullCacheClient(), LocalBus(cluster.hub), 60)(lambda x: x)
    assert f(1) == 1
    assert f.client.client.manager.shared is None


def test_a_bus_that_fails_breaks_no_call(cluster: Cluster) -> None:
    class Broken(LocalBus):
        def start(self) -> None:
            raise OSError("no bus today")

        def publish(self, *args: Any, **options: Any) -> Any:
            raise OSError("no bus today")

    private, shared = InprocCacheClient(10, clock=cluster.clock), VersionedFake(cluster.server)
    f = coherent_cached(private, shared, Broken(cluster.hub), 60, namespace="f")(lambda x: x)
    manager = f.client.client.manager
    assert f(1) == 1
    idle(manager)  # nothing is kept that was begun before all came into doubt
    assert f(1) == 1
    assert f.invalidate(1)
    idle(manager)
    assert f(1) == 1
    client = f.client
    assert client.delete(f.callkey(1))


def test_what_cannot_be_right_is_refused(cluster: Cluster) -> None:
    private, bus = InprocCacheClient(10, clock=cluster.clock), LocalBus(cluster.hub)
    with pytest.raises(ValueError, match="wait_time"):
        coherent_cached(private, None, bus, 60, wait_time=-1)
    with pytest.raises(TypeError, match="shared"):
        coherent_cached(private, object(), bus, 60)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected"):
        coherent_cached(private, None, bus, 60, no_such_option=1)


def test_a_computation_tells_that_it_is_done_and_drops_nobodys_copies(cluster: Cluster) -> None:
    for alone in (False, True):
        a, b = Process(cluster, alone=alone), Process(cluster, alone=alone)
        b.f(1)
        a.f(1)
        heard: list[str] = []
        follow = b.client.follow((prefix(b), 2), heard.append)
        assert follow is not None
        a.f(2)
        assert heard == ["done"]
        near = b.f.stats.near_hits
        b.f(1)
        assert b.f.stats.near_hits == near + 1


def test_out_of_step_nobody_joins_what_began_before_he_asked(cluster: Cluster) -> None:
    a, b = Process(cluster), Process(cluster)
    begun, go, values = threading.Event(), threading.Event(), []

    def slow(x: int) -> Any:
        value = b.source
        begun.set()
        assert go.wait(10)
        return value

    b.bus.cut = True
    cluster.advance(1.5)
    b.compute = slow
    first = threading.Thread(target=lambda: values.append(b.f(9)))
    first.start()
    assert begun.wait(10)
    b.source = a.source = 1
    a.f.invalidate(9)
    cluster.clock.advance(0.1)
    late = [threading.Thread(target=lambda: values.append(b.f(9))) for _ in range(3)]
    for thread in late:
        thread.start()
    while waiting(b.f) < 3:
        os.sched_yield()
    go.set()
    for thread in (first, *late):
        thread.join(10)
    assert sorted(values) == [0, 1, 1, 1]
    assert len(b.computed) == 2
