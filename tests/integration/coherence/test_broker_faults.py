"""Brokers that are killed or frozen, while a thousand deletes a second go on."""

from __future__ import annotations

import pytest

from tests.integration.coherence.cluster import ROUNDS, Cluster
from tests.integration.coherence.conftest import Made
from tests.integration.coherence.process import Process
from tests.integration.coherence.settings import Load
from tests.integration.coherence.truth import Kind

THOUSAND = Load(readers=2, reads=300, deletes=500, synchronous=20)
READING = Load(readers=2, reads=300, deletes=0, synchronous=20)
MANY = 2000
"""Keys: of a few, each would be deleted again before it was noticed that it is too old."""


def started(cluster: Cluster) -> None:
    """Two nodes delete, three read, and have something to lose."""
    cluster.begin(THOUSAND, "a", "b")
    cluster.begin(READING, "c")
    cluster.lasting(1.5)


def finished(cluster: Cluster) -> None:
    """What holds at the end of each of these tests."""
    cluster.enough(reads=1001, deleted=501, served=101)
    verdict = cluster.finish()
    assert verdict.counts[Kind.READ] > 1000
    assert verdict.counts[Kind.DELETED] > 500
    assert sum(cluster.served.values()) > 100, cluster.served


def test_a_broker_of_its_own_is_killed(cluster: Made) -> None:
    it = cluster(plain=MANY)
    broker = it.broker()
    it.start("a", "b", "c")
    started(it)
    it.note("the broker is killed")
    broker.kill()
    it.lasting(3.0)
    leader = it.leading()
    assert leader.state.bus["takeovers"] >= 1
    finished(it)


def test_the_broker_in_a_node_is_killed(cluster: Made) -> None:
    it = cluster(plain=MANY)
    it.start("a", "b", "c", "d")
    started(it)
    it.begin(THOUSAND, "d")
    broker = it.leading()
    it.note(f"{broker.name} is killed, and with it the broker")
    broker.kill()
    it.lasting(3.0)
    it.leading(but=broker)
    finished(it)


def test_a_broker_that_nobody_can_replace_is_killed_and_started_again(cluster: Made) -> None:
    it = cluster(plain=MANY, candidate=False)
    broker = it.broker()
    it.start("a", "b", "c")
    started(it)
    it.note("the broker is killed")
    broker.kill()
    it.lasting(2.0)
    it.note("another one is started")
    it.broker()
    finished(it)


@pytest.mark.parametrize("kind", ["of its own", "in a node"])
def test_a_broker_is_frozen(cluster: Made, kind: str) -> None:
    it = cluster(plain=MANY)
    if kind == "of its own":
        it.broker()
    it.start("a", "b", "c")
    started(it)
    broker: Process = it.brokers[0] if it.brokers else it.leading()
    for _ in range(ROUNDS):
        with it.frozen(broker):
            it.lasting(3.0)
        it.recovered()
        it.lasting(0.5)
    finished(it)


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_nobody_hangs_at_exit_without_a_broker(cluster: Made, fault: str) -> None:
    it = cluster(candidate=False)
    broker = it.broker()
    it.start("a")
    it.start("b", closes=False)
    it.begin(READING._replace(deletes=100))
    it.lasting(0.5)
    if fault == "frozen":
        broker.freeze()
    else:
        broker.kill()
    it.lasting(0.5)
    # Amid everything: threads read, delete, and wait for all to have applied their deletes.
    broker.killed = True
    it.ended()
