"""Nodes that are frozen, killed, late, forked or overwhelmed, and clocks that are set."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bench.soak_servers import Servers
from tests.integration.coherence.checker import Bound, judged
from tests.integration.coherence.cluster import ROUNDS, Cluster
from tests.integration.coherence.conftest import Made
from tests.integration.coherence.settings import Load
from tests.integration.coherence.truth import Kind
from tests.ports import free_port

USUAL = Load(readers=2, reads=300, deletes=100, synchronous=20)
NOISY = Load(readers=1, reads=300, deletes=20, synchronous=0, noise=20_000)
MEMORY = 400_000_000
"""Bytes that no process needs."""


def finished(cluster: Cluster) -> None:
    """What holds at the end of each of these tests."""
    cluster.enough(reads=1001, deleted=201, served=101)
    verdict = cluster.finish()
    assert verdict.counts[Kind.READ] > 1000
    assert verdict.counts[Kind.DELETED] > 200
    assert sum(cluster.served.values()) > 100, cluster.served


def test_without_a_fault(cluster: Made) -> None:
    it = cluster()
    it.start("a", "b")
    it.start("c", closes=False)
    it.begin(USUAL)
    it.lasting(2.0)
    finished(it)


def test_a_synchronous_delete_is_known_everywhere_when_it_returns(cluster: Made) -> None:
    it = cluster(plain=10, synchronous=2)
    it.broker()
    it.start("a", "b", "c")
    # As fast as they can: between the delete and what others know there must be nothing.
    it.begin(Load(readers=1, reads=1e9, deletes=0, synchronous=0), "b", "c")
    it.begin(Load(readers=0, deletes=0, synchronous=1e9), "a")
    it.lasting(2.0)
    it.enough(reads=5001, deleted=31)
    verdict = it.finish()
    assert verdict.counts[Kind.READ] > 5000
    assert verdict.counts[Kind.DELETED] > 30


def test_a_node_is_frozen(cluster: Made) -> None:
    it = cluster()
    it.broker()
    it.start("a", "b", "c")
    it.begin(USUAL)
    it.lasting(2.0)
    for _ in range(ROUNDS):
        with it.frozen(it.workers["b"]):
            it.lasting(3.0)
        it.recovered()
        it.lasting(0.5)
    finished(it)


def test_a_node_is_killed_while_it_deletes(cluster: Made) -> None:
    it = cluster()
    it.broker()
    it.start("a", "b", "c")
    it.begin(USUAL._replace(deletes=400))
    it.lasting(2.0)
    it.note("b is killed")
    it.workers["b"].kill()
    it.lasting(3.0)
    finished(it)


def test_a_node_that_joins_late_serves_nothing_of_before(cluster: Made) -> None:
    it = cluster()
    it.broker()
    it.start("a", "b")
    (late,) = it.start("late", joins=False)
    it.begin(USUAL, "a", "b")
    it.begin(Load(readers=4, reads=300, deletes=0, synchronous=0), "late")
    it.lasting(2.0)
    assert not late.state.verified
    joined = it.note("late joins")
    late.ask("join")
    it.start("new")
    it.begin(USUAL, "late", "new")
    it.lasting(2.0)
    finished(it)
    keys = it.settings.plain
    for name in ("late", "new"):
        stale = judged(it.folder, [keys], [Bound(0.0, keys, until=joined)], name).stale
        assert stale == [], f"{len(stale)}, {stale[0]}"


@pytest.mark.parametrize("stall", ["frozen", "thread held up"])
def test_a_node_cannot_keep_up_with_twenty_thousand_events(cluster: Made, stall: str) -> None:
    it = cluster(plain=500)
    broker = it.broker()
    it.start("a", "b", "c")
    it.begin(USUAL, "b", "c")
    it.begin(NOISY, "a")
    it.lasting(2.0)
    if stall == "frozen":
        with it.frozen(it.workers["b"]):
            it.lasting(3.0)
    else:
        since = it.note("b is held up")
        it.workers["b"].ask("hold", 4.0)
        it.lasting(4.0)
        it.cut_off(["b"], since, since + 4.0)
    it.lasting(1.0)
    assert broker.memory < MEMORY
    for worker in it.workers.values():
        assert worker.memory < MEMORY, worker.name
    finished(it)


@pytest.mark.parametrize("kind", ["node", "broker that is killed"])
def test_a_node_is_forked(cluster: Made, kind: str) -> None:
    it = cluster()
    if kind == "node":
        it.broker()
    (parent,) = it.start("a")
    it.start("b", "c")
    it.begin(USUAL)
    it.lasting(1.0)
    it.note("a is forked")
    it.fork(parent, "child")
    it.begin(USUAL, "child")
    it.lasting(1.0)
    if kind == "broker that is killed":
        # Its child has the socket's file too: that must not keep others from the address.
        it.note("a is killed")
        parent.kill()
    it.lasting(2.0)
    it.recovered()
    finished(it)


def test_clocks_are_set(cluster: Made) -> None:
    it = cluster()
    it.broker()
    it.start("a", "b", "c")
    it.begin(USUAL)
    it.lasting(1.0)
    for steps in ({"a": 3600.0, "b": -3600.0}, {"a": -7200.0, "b": 3600.0}):
        for name, seconds in steps.items():
            it.note(f"the clock of {name} is set by {seconds} s")
            it.workers[name].ask("step", seconds)
        it.lasting(1.5)
    finished(it)


def test_the_shared_server_is_killed_and_started_again(tmp_path: Path) -> None:
    with (
        Servers(1) as servers,
        Cluster(tmp_path, servers.addresses, [f"tcp://127.0.0.1:{free_port()}"]) as it,
    ):
        it.broker()
        it.start("a", "b", "c")
        it.begin(USUAL)
        it.lasting(1.5)
        (server,) = servers.all
        it.note("the server is killed")
        os.kill(server.pid, signal.SIGKILL)
        it.lasting(1.0)
        server.stop()
        server.start(server.port)
        it.note("it is back, and empty")
        it.lasting(2.0)
        finished(it)
