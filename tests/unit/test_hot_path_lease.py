"""What is near counts only while a lease lasts, on every way to it that is made for speed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

import tiered
from tests.fakes import RemoteFake, inproc
from tiered import (
    NO_NAMESPACE,
    InprocCacheClient,
    NamespaceWrapper,
    TieredInclusiveClient,
    cached,
)
from tiered.clients.base import CacheClient, Entry, HotPath
from tiered.clients.revision import Lease, PythonLease, PythonRevision, Revision
from tiered.clients.wrapper import Wrapper
from tiered.testing import ManualClock
from tiered.typing import Key


class Leased(Wrapper):
    """Answers by itself while its lease lasts; writes down what it is asked for otherwise."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.lease = Lease()
        self.asked: list[Key] = []

    def hot_path(self) -> HotPath | None:
        path = self.client.hot_path()
        return None if path is None else path._replace(lease=self.lease)

    def entry(self, key: Key) -> Entry | None:
        self.asked.append(key)
        return super().entry(key)

    def near(self, key: Key) -> Entry | None:
        return self.client.near(key) if self.clock.monotonic() < self.lease.horizon else None


POLICIES = ["lru", "s3fifo", "lfu"]
"""With the compiled core, the last one has no store of it: its doors are generated."""


@pytest.fixture(params=POLICIES)
def leased(request: pytest.FixtureRequest, clock: ManualClock) -> Leased:
    return Leased(InprocCacheClient(10, policy=request.param, clock=clock))


def around(client: CacheClient, depth: int) -> CacheClient:
    for number in range(depth):
        client = NamespaceWrapper(f"outer{number}", client)
    return client


def of_nothing(x: Any) -> object:
    return object()


async def awaited(x: Any) -> object:
    return object()


def test_a_lease_has_not_begun() -> None:
    for lease in (Lease(), PythonLease(), Revision(), PythonRevision()):
        assert lease.horizon == -math.inf
        lease.horizon = 3
        assert lease.horizon == 3.0
    assert issubclass(Revision, Lease)
    assert issubclass(PythonRevision, PythonLease)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"namespace": NO_NAMESPACE},
        {"typed": True},
        {"key": lambda x: x},
        {"early_refresh": 0.1},
    ],
    ids=["namespace", "no namespace", "typed", "key", "early refresh"],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("function", [of_nothing, awaited])
def test_the_front_door_needs_the_lease(
    clock: ManualClock,
    leased: Leased,
    function: Callable[..., Any],
    depth: int,
    options: dict[str, Any],
) -> None:
    f = cached(around(leased, depth), 600, **options)(function)

    def call() -> Any:
        return asyncio.run(f(1)) if function is awaited else f(1)

    first = call()
    leased.asked.clear()
    assert call() is first  # never begun: the client is asked
    assert (len(leased.asked), f.stats.near_hits) == (1, 0)
    leased.lease.horizon = clock.monotonic() + 10
    assert call() is call() is first
    assert (len(leased.asked), f.stats.near_hits) == (1, 2)
    clock.advance(9.999)
    assert call() is first
    assert (len(leased.asked), f.stats.near_hits) == (1, 3)
    clock.advance(0.001)
    assert call() is first
    assert (len(leased.asked), f.stats.near_hits) == (2, 3)
    leased.lease.horizon = math.inf
    assert call() is first
    assert (len(leased.asked), f.stats.near_hits) == (2, 4)
    leased.lease.horizon = -math.inf
    assert call() is first
    assert (len(leased.asked), f.stats.near_hits) == (3, 4)


def test_a_lease_does_not_make_stale_values_fresh(clock: ManualClock, leased: Leased) -> None:
    f = cached(leased, 10)(of_nothing)
    leased.lease.horizon = math.inf
    first = f(1)
    assert f(1) is first
    clock.advance(10)
    assert f(1) is not first


def test_a_lease_and_the_revision_of_a_shared_namespace_are_both_needed(
    clock: ManualClock, leased: Leased
) -> None:
    tiers = TieredInclusiveClient(leased, RemoteFake(inproc(clock)))
    f = cached(tiers, 600)(of_nothing)
    first = f(1)
    leased.lease.horizon = math.inf
    assert f(1) is first
    assert f.stats.near_hits == 1
    clock.advance(1.5)  # beyond the recheck of the namespace
    leased.asked.clear()
    assert f(1) is first
    assert f.stats.near_hits == 1
    leased.lease.horizon = -math.inf
    assert f(1) is first
    assert f.stats.near_hits == 1
    assert len(leased.asked) == 2


def test_tiers_over_it_need_the_lease_too(clock: ManualClock, leased: Leased) -> None:
    if tiered.accelerated and leased.client.hot_path().store is None:  # type: ignore[union-attr]
        pytest.skip("get of the compiled core looks into stores of it only")
    tiers = TieredInclusiveClient(leased, inproc(clock))
    outer = TieredInclusiveClient(tiers, inproc(clock))
    outer.put("k", "v", 600)
    for client in (tiers, outer):
        leased.asked.clear()
        hits = client.stats.hits
        leased.lease.horizon = clock.monotonic() + 10
        assert client.get("k") == client.get("k", "nothing") == "v"
        assert leased.asked == []
        clock.advance(10)
        assert client.get("k") == "v"
        assert leased.asked == ["k"]
        assert client.stats.hits == hits + 3
        assert client.near("k") is None


def test_a_value_that_is_found_for_it_is_not_given_after_it(
    clock: ManualClock, leased: Leased
) -> None:
    """A key whose comparison takes long."""

    class Slow:
        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            leased.lease.horizon = -math.inf
            return isinstance(other, Slow)

    tiers = TieredInclusiveClient(leased, inproc(clock))
    f = cached(tiers, 600, namespace=NO_NAMESPACE)(of_nothing)
    for ask in (lambda: tiers.get(Slow(), None), lambda: f(Slow())):
        ask()
        tiers.put(Slow(), "v", 600)
        leased.lease.horizon = math.inf
        leased.asked.clear()
        assert ask() == "v"
        assert len(leased.asked) == 1
    assert f.stats.near_hits == 0


def test_the_system_clock_meets_a_horizon_to_the_moment() -> None:
    leased = Leased(InprocCacheClient(10))
    tiers = TieredInclusiveClient(leased, InprocCacheClient(10))
    f = cached(tiers, 600)(of_nothing)
    first = f(1)
    key, now = f.client.inner_key(f.callkey(1)), leased.clock.monotonic  # type: ignore[attr-defined]
    for ask in (lambda: f(1), lambda: tiers.get(key)):
        for seconds, asked in ((60.0, 0), (0.0, 1), (-0.001, 1)):
            leased.asked.clear()
            leased.lease.horizon = now() + seconds
            assert ask() is first
            assert len(leased.asked) == asked


@pytest.mark.skipif(not tiered.accelerated, reason="about the compiled core")
def test_the_compiled_door_takes_compiled_leases_only() -> None:
    class Foreign(Leased):
        def hot_path(self) -> HotPath | None:
            path = super().hot_path()
            return None if path is None else path._replace(lease=PythonLease())

    with pytest.raises(TypeError, match="Lease"):
        cached(Foreign(InprocCacheClient(10)), 60)(of_nothing)
