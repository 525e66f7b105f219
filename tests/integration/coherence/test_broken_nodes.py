"""Nodes that are broken on purpose: the checker notices, and tells which."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.coherence.checker import Stale
from tests.integration.coherence.cluster import Cluster
from tests.integration.coherence.conftest import Made
from tests.integration.coherence.process import eventually
from tests.integration.coherence.settings import Load

USUAL = Load(readers=2, reads=300, deletes=100, synchronous=50)


def found(cluster: Cluster, enough: Callable[[list[Stale]], bool]) -> list[Stale]:
    """The stale reads, once they are *enough*; all end then, though they may not converge."""

    def holds() -> bool:
        return enough(cluster.verdict().stale)

    eventually(holds, 15.0, lambda: f"the checker finds too little: {cluster.verdict()}")
    stale = cluster.verdict().stale
    cluster.quiet()
    cluster.ended()
    return stale


@pytest.mark.parametrize("fault", ["deaf", "mute"])
def test_events_that_are_lost_in_silence(cluster: Made, fault: str) -> None:
    it = cluster(plain=400)
    it.start("a", "b")
    it.start("broken", fault=fault, neighbours=False)
    it.begin(USUAL)
    groups = (it.settings.plain, it.settings.synchronous)

    def enough(stale: list[Stale]) -> bool:
        return all(any(one.key in keys for one in stale) for keys in groups)

    stale = found(it, enough)
    assert {one.who if fault == "deaf" else one.by for one in stale} == {"broken"}


def test_a_lease_that_does_not_end(cluster: Made) -> None:
    it = cluster(plain=400, candidate=False)
    broker = it.broker()
    it.start("a", "b")
    it.start("broken", fault="trusting", neighbours=False)
    it.begin(USUAL)
    it.lasting(0.7)
    with it.frozen(broker):
        it.lasting(3.0)
    assert {one.who for one in found(it, bool)} == {"broken"}
