"""Coherence over a private client of the user's, which fails at times."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.coherent import Cluster, idle
from tests.fakes import FailingClient, VersionedFake
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.coherence import CoherenceManager, CoherentWrapperClient
from tiered.testing.buses import LocalBus

ERROR = OSError("the private client fails")


class Node:
    """One process."""

    def __init__(self, cluster: Cluster) -> None:
        self.private = FailingClient(InprocCacheClient(5_000, clock=cluster.clock))
        shared = VersionedFake(cluster.server)
        self.manager = CoherenceManager("test", self.private, shared, LocalBus(cluster.hub))
        tiers = TieredInclusiveClient(self.private, shared)
        self.client = CoherentWrapperClient(tiers, self.manager)
        self.manager.start()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def nodes(cluster: Cluster) -> tuple[Node, Node]:
    nodes = Node(cluster), Node(cluster)
    settle(cluster, *nodes)
    return nodes


def settle(cluster: Cluster, *nodes: Node) -> None:
    for _ in range(30):
        cluster.advance(0.1)
        idle(*(node.manager for node in nodes))


@pytest.mark.parametrize("who", [0, 1], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.delete("k"),
        lambda client: client.delete_multi(["k"]),
        lambda client: client.expire("k"),
        lambda client: client.put("k", 2, 600),
    ],
    ids=["delete", "delete_multi", "expire", "put"],
)
def test_a_copy_that_cannot_be_dropped_is_not_served(
    cluster: Cluster,
    nodes: tuple[Node, Node],
    who: int,
    change: Callable[[CoherentWrapperClient], object],
) -> None:
    here = nodes[0]
    here.client.put("k", 1, 600)
    assert here.client.get("k") == 1
    here.private.error = ERROR
    change(nodes[who].client)
    here.private.error = None
    assert here.client.get("k", None) != 1
    settle(cluster, *nodes)
    assert here.manager.verified
    assert here.client.get("k", None) != 1


def test_marking_is_tried_again_until_it_is_done(
    cluster: Cluster, nodes: tuple[Node, Node]
) -> None:
    here = nodes[0]
    here.client.put("k", 1, 600)
    here.private.error = ERROR
    here.manager.distrust("events may be missing")
    while not here.manager._unmarked:
        os.sched_yield()
    assert not here.manager.stats.verified
    here.private.error = None
    settle(cluster, *nodes)
    assert here.manager.verified
    assert here.client.get("k") == 1


def test_a_clear_that_cannot_be_done_makes_all_confirm(
    cluster: Cluster, nodes: tuple[Node, Node]
) -> None:
    here = nodes[0]
    here.client.put("k", 1, 600)
    here.private.error = ERROR
    here.manager.forget_all()
    assert not here.manager.stats.verified


def test_reads_and_writes_pass_over_it(cluster: Cluster, nodes: tuple[Node, Node]) -> None:
    here = nodes[0]
    for number in range(1_000):
        here.client.put(number, number, 600)
    here.private.error = ERROR
    for number in range(3_000):  # the ledger looks what is held
        assert here.client.put(number, number, 600)
        assert here.client.get(number) == number
    assert sum(held.uses for _, held in here.manager.copies.ledger.all()) == 0
    cluster.hub.kill()
    cluster.advance(2.0)
    assert not here.manager.stats.verified
    assert here.client.get(7) == 7


def test_a_change_passes_over_a_suspect_copy_that_cannot_be_dropped(
    cluster: Cluster, nodes: tuple[Node, Node]
) -> None:
    here = nodes[0]
    here.client.put("k", 1, 600)
    here.manager.distrust("events may be missing")
    idle(here.manager)
    here.private.error = ERROR
    assert here.client.put("k", 2, 600)
    here.private.error = None
    assert here.client.get("k") == 2
