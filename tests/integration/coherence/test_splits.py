"""Links that are cut, and networks that fall apart into two that each go on."""

from __future__ import annotations

from functools import partial

import pytest

from tests.integration.coherence.cluster import RECOVERY, ROUNDS, Cluster
from tests.integration.coherence.conftest import Made
from tests.integration.coherence.network import BUS, STORE
from tests.integration.coherence.process import Worker, eventually
from tests.integration.coherence.settings import Load
from tests.integration.coherence.truth import Kind

USUAL = Load(readers=2, reads=300, deletes=100, synchronous=20)
CUT = 5.0
"""Seconds."""


def have_a_broker(nodes: list[Worker]) -> bool:
    return any(one.state.bus["role"] == "broker" for one in nodes)


def finished(cluster: Cluster) -> None:
    """What holds at the end of each of these tests."""
    cluster.enough(reads=1001, deleted=201, served=101)
    verdict = cluster.finish()
    assert verdict.counts[Kind.READ] > 1000
    assert verdict.counts[Kind.DELETED] > 200
    assert sum(cluster.served.values()) > 100, cluster.served


@pytest.mark.parametrize("networks", [(BUS,), (BUS, STORE), (STORE,)], ids="+".join)
def test_a_link_is_cut_and_healed(apart: Made, networks: tuple[str, ...]) -> None:
    it = apart(1)
    it.start("a", "b", host=0)
    it.start("far", host=1)
    it.begin(USUAL)
    it.lasting(1.5)
    for _ in range(ROUNDS):
        with it.cut(1, *networks, names=["far"]):
            it.lasting(CUT)
        it.recovered()
        it.lasting(0.5)
    finished(it)


@pytest.mark.parametrize(("side", "networks"), [(0, (BUS,)), (1, (BUS, STORE))])
def test_two_brokers_after_a_split(apart: Made, side: int, networks: tuple[str, ...]) -> None:
    it = apart(2)
    here = it.start("a", "b", host=0)
    there = it.start("c", "d", host=1)
    it.begin(USUAL)
    it.lasting(1.5)
    for _ in range(ROUNDS):
        with it.cut(side, *networks, names=["a", "b", "c", "d"]):
            it.lasting(CUT)
            for nodes in (here, there):
                eventually(partial(have_a_broker, nodes), RECOVERY, lambda: "no two brokers")
        it.recovered()
        it.lasting(0.5)
    finished(it)
