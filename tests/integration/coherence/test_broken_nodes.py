"""Nodes that are broken on purpose: the checker notices, and tells which."""

from __future__ import annotations

import pytest

from tests.integration.coherence.checker import Verdict
from tests.integration.coherence.cluster import Cluster
from tests.integration.coherence.conftest import Made
from tests.integration.coherence.settings import Load

USUAL = Load(readers=2, reads=300, deletes=100, synchronous=50)


def judged(cluster: Cluster) -> Verdict:
    """What the checker says of nodes that may not even converge."""
    cluster.quiet()
    verdict = cluster.verdict()
    assert set(cluster.end().values()) == {0}
    return verdict


@pytest.mark.parametrize("fault", ["deaf", "mute"])
def test_events_that_are_lost_in_silence(cluster: Made, fault: str) -> None:
    it = cluster(plain=400, synchronous=200)
    it.start("a", "b")
    it.start("broken", fault=fault)
    it.begin(USUAL)
    it.lasting(3.0)
    verdict = judged(it)
    assert {one.who if fault == "deaf" else one.by for one in verdict.stale} == {"broken"}
    for keys in (it.settings.plain, it.settings.synchronous):
        assert any(one.key in keys for one in verdict.stale), str(verdict)


def test_a_lease_that_does_not_end(cluster: Made) -> None:
    it = cluster(plain=400, candidate=False)
    broker = it.broker()
    it.start("a", "b")
    it.start("broken", fault="trusting")
    it.begin(USUAL)
    it.lasting(0.7)
    with it.frozen(broker):
        it.lasting(3.0)
    verdict = judged(it)
    assert {one.who for one in verdict.stale} == {"broken"}, str(verdict)
