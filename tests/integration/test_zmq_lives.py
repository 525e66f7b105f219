"""Forks of processes on a ZeroMQ bus, and their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.integration.busnode import PATIENCE, SELDOM, TOPIC, BusProcess, Listener, wait_until
from tests.integration.test_forked_children import fork, in_child
from tests.integration.test_zmq_bus import new_address
from tiered.coherence import ZmqBus
from tiered.coherence.messages import Kind


@pytest.fixture(params=["tcp", "ipc", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request.param, tmp_path)


def run(program: str, *arguments: str) -> tuple[int, str, str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - began


# -- Forks ---------------------------------------------------------------------------


def test_a_forked_child_is_a_node_of_its_own(address: str) -> None:
    with ZmqBus([address], detection=SELDOM) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)
        before = bus.stats.node

        def take_part() -> bool:
            assert bus.stats.node != before
            assert bus.stats.role == "detached"
            mine = Listener()
            bus.start()
            bus.join(mine)
            wait_until(lambda: mine.verified)
            assert bus.stats.role == "node"
            receipt = bus.publish(Kind.DELETE, TOPIC, [b"of the child"], source=mine)
            assert receipt.accepted(PATIENCE)
            wait_until(lambda: mine.heard == ["of the parent"])
            bus.close()
            return True

        pid = fork()
        if not pid:
            status = 1
            try:
                status = 0 if take_part() else 2
            finally:
                os._exit(status)
        wait_until(lambda: member.heard == ["of the child"])
        bus.publish(Kind.DELETE, TOPIC, [b"of the parent"], source=member)
        assert os.waitpid(pid, 0)[1] == 0
        assert bus.stats.node == before
        wait_until(lambda: bus.stats.nodes == 1 and member.verified)


def test_a_child_takes_part_again_as_soon_as_it_publishes(address: str) -> None:
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)
        in_child(lambda: bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE))
        wait_until(lambda: member.heard == ["a"])


def test_a_child_that_uses_nothing_leaves_the_parent_alone(address: str) -> None:
    with ZmqBus([address], detection=SELDOM) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)
        member.distrusted.clear()
        for _ in range(3):
            in_child(lambda: True)
        assert bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE)
        wait_until(lambda: member.verified)
        assert not member.distrusted


def test_closing_in_a_child_closes_nothing_of_the_parent(address: str) -> None:
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)

        def close() -> bool:
            bus.close()
            return True

        in_child(close)
        assert bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE)
        with BusProcess([address]) as other:
            wait_until(lambda: other.verified)
            wait_until(lambda: other.stats["role"] == "node")


@pytest.mark.parametrize("broker", [False, True])
def test_a_child_that_lives_on_does_not_keep_the_address(address: str, broker: bool) -> None:
    """It has copies of all descriptors, also of the one that its dead parent listened at."""
    with BusProcess([address], broker=broker) as first:
        wait_until(lambda: first.stats["role"] == "broker")
        sleeper = first.ask("sleeper")
        try:
            with ZmqBus([address]) as bus:
                member = Listener()
                bus.join(member)
                wait_until(lambda: member.verified)
                first.kill()
                wait_until(lambda: bus.stats.role == "broker" and member.verified)
        finally:
            os.kill(sleeper, signal.SIGKILL)


FORKING = """
    import os, sys, time
    from tiered.coherence import ZmqBus
    bus = ZmqBus([sys.argv[1]])
    bus.start()
    while bus.stats.phase != "following":
        time.sleep(0.005)
    pid = os.fork()
    if pid:
        print(os.waitpid(pid, 0)[1], bus.stats.phase, flush=True)
    elif sys.argv[2] == "use":
        bus.start()
        while bus.stats.phase != "following":
            time.sleep(0.005)
"""


@pytest.mark.parametrize("use", ["use", "leave"])
def test_parent_and_child_exit_as_interpreters_do(address: str, use: str) -> None:
    status, out, err, seconds = run(FORKING, address, use)
    assert (status, out, err) == (0, "0 following\n", "")
    assert seconds < 10.0


# -- Ends ----------------------------------------------------------------------------


STARTED = """
    import sys, time
    from tiered.coherence import ZmqBus
    from tiered.coherence.messages import Kind
    bus = ZmqBus([sys.argv[1]], candidate=sys.argv[2] == "candidate")
    bus.start()
    if sys.argv[2] == "candidate":
        while bus.stats.phase != "following":
            time.sleep(0.005)
    bus.publish(Kind.DELETE, b"a-topic.", [b"last words"] * 100)
    print("leaving")
"""


def test_the_exit_of_an_interpreter_closes_the_bus(address: str) -> None:
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)
        status, out, err, _ = run(STARTED, address, "candidate")
        assert (status, out, err) == (0, "leaving\n", "")
        wait_until(lambda: len(member.heard) == 100)
        wait_until(lambda: bus.stats.nodes == 1)


def test_an_exit_without_a_broker_does_not_hang(address: str) -> None:
    status, out, err, seconds = run(STARTED, address, "no candidate")
    assert (status, out) == (0, "leaving\n")
    assert "were not accepted by any broker" in err
    assert seconds < 10.0


def test_an_exit_just_after_the_start_does_not_hang(address: str) -> None:
    status, out, err, _ = run(
        """
        import sys
        from tiered.coherence import ZmqBus
        ZmqBus([sys.argv[1]]).start()
        kept = ZmqBus([sys.argv[1]])
        kept.start()
        """,
        address,
    )
    assert (status, out, err) == (0, "", "")


def test_an_unhandled_error_ends_the_process_as_usual(address: str) -> None:
    status, _, err, _ = run(
        """
        import sys
        from tiered.coherence import ZmqBus
        with ZmqBus([sys.argv[1]]) as bus:
            raise SystemExit(3)
        """,
        address,
    )
    assert (status, err) == (3, "")


def test_a_process_that_is_terminated_leaves_no_trace(address: str) -> None:
    with BusProcess([address]) as process, ZmqBus([address]) as bus:
        wait_until(lambda: process.verified and bus.stats.phase == "following")
        process.signal(signal.SIGTERM)
        assert process.process.wait(PATIENCE) == -signal.SIGTERM
        wait_until(lambda: bus.stats.role == "broker")
