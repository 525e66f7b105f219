"""Coherence over a private client that holds more than can be had near."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.coherent import Cluster, Node, idle
from tests.fakes import VersionedFake
from tiered.clients.base import CacheClient, Capabilities, Entry
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.coherence import CoherenceManager, CoherentWrapperClient
from tiered.testing.buses import LocalBus
from tiered.typing import HotPath, Key


class Slow(Wrapper):
    """Of this process, as a database in a file is: nothing of it is near."""

    def near(self, key: Key) -> Entry | None:
        return None

    def hot_path(self) -> HotPath | None:
        return None

    @property
    def capabilities(self) -> Capabilities:
        return super().capabilities._replace(near=False, blocking=True)


def tiers(cluster: Cluster) -> CacheClient:
    """The first of them holds little."""
    return TieredInclusiveClient(
        InprocCacheClient(5, clock=cluster.clock), InprocCacheClient(5_000, clock=cluster.clock)
    )


def slow(cluster: Cluster) -> CacheClient:
    return Slow(InprocCacheClient(5_000, clock=cluster.clock))


def wrapped(cluster: Cluster) -> CacheClient:
    return Wrapper(tiers(cluster))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def settle(cluster: Cluster, *managers: CoherenceManager) -> None:
    for _ in range(30):
        cluster.advance(0.1)
        idle(*managers)


@pytest.fixture(params=[tiers, slow, wrapped])
def nodes(cluster: Cluster, request: pytest.FixtureRequest) -> tuple[Node, Node]:
    made: Callable[[Cluster], CacheClient] = request.param

    def node() -> Node:
        private, shared = made(cluster), VersionedFake(cluster.server)
        bus = LocalBus(cluster.hub)
        manager = CoherenceManager("test", private, shared, bus)
        client = CoherentWrapperClient(TieredInclusiveClient(private, shared), manager)
        manager.start()
        settle(cluster, manager)
        return Node(private, shared, bus, manager, client)  # type: ignore[arg-type]

    return node(), node()


def test_all_that_it_holds_is_dropped(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    for number in range(2_500):  # the ledger looks what is held still
        b.client.put(number, number, 600)
    a.client.put("k", 2, 600)
    assert b.client.get("k") == 2


def test_all_that_it_holds_is_suspected(cluster: Cluster, nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    for number in range(10):
        b.client.put(number, number, 600)
    b.bus.cut = True
    a.client.put("k", 2, 600)
    cluster.hub.kill()
    settle(cluster, a.manager, b.manager)
    b.bus.cut = False
    cluster.hub.begin()
    settle(cluster, a.manager, b.manager)
    assert b.manager.verified
    assert b.client.get("k") == 2
