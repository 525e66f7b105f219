"""Waiting for sockets outside of libzmq: nothing that has come is slept through."""

from __future__ import annotations

import math
import select
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("zmq")

import zmq

from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.tuning import Socket, is_readable

LONG = 30.0
"""Seconds; a test that sleeps as long has failed."""


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    """Two ends of one connection."""
    with zmq.Context() as context:
        one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        one.bind("inproc://pair")
        other.connect("inproc://pair")
        yield one, other
        one.close(0)
        other.close(0)


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


def is_silent(socket: Socket) -> bool:
    """Whether its descriptor says nothing."""
    poll = select.poll()
    poll.register(int(socket.getsockopt(zmq.FD)), select.POLLIN)
    return not poll.poll(0)


def nothing() -> None: ...


@pytest.fixture
def sleepless(readiness: Readiness, monkeypatch: pytest.MonkeyPatch) -> Readiness:
    """One that must not sleep."""
    monkeypatch.setattr(readiness, "sleep", lambda seconds: pytest.fail("slept"))
    return readiness


def test_what_can_be_read_ends_a_wait(readiness: Readiness, pair: tuple[Socket, Socket]) -> None:
    one, other = pair
    read: list[bytes] = []
    readiness.add(one, lambda: read.append(one.recv(zmq.NOBLOCK)))
    readiness.ready()
    other.send(b"a")
    readiness.act(readiness.wait(LONG))
    assert read == [b"a"]
    assert readiness.wait(0.0) == []


def test_what_a_use_of_the_socket_has_brought_to_light_is_not_slept_through(
    sleepless: Readiness, pair: tuple[Socket, Socket]
) -> None:
    one, other = pair
    sleepless.add(one, nothing)
    other.send(b"a")
    assert is_readable(one)
    assert is_silent(one)  # the word that something has come was taken
    assert sleepless.ready() == [one]
    assert sleepless.wait(LONG) == [one]


def test_what_is_left_of_several_messages_is_not_slept_through(
    sleepless: Readiness, pair: tuple[Socket, Socket]
) -> None:
    one, other = pair
    sleepless.add(one, nothing)
    for _ in range(3):
        other.send(b"a")
    assert sleepless.wait(LONG) == [one]
    one.recv()
    assert is_silent(one)
    assert sleepless.wait(LONG) == [one]


def test_after_all_was_looked_at_a_new_message_ends_a_sleep(
    readiness: Readiness, pair: tuple[Socket, Socket]
) -> None:
    one, other = pair
    readiness.add(one, nothing)
    for _ in range(3):
        assert readiness.ready() == []
        other.send(b"a")
        assert readiness.sleep(LONG) == [one]
        one.recv()


def test_a_socket_may_be_used_by_another_thread_while_one_sleeps(
    readiness: Readiness, pair: tuple[Socket, Socket]
) -> None:
    one, other = pair
    readiness.add(one, nothing)
    readiness.ready()
    stirred: list[Socket | int] = []
    sleeper = threading.Thread(target=lambda: stirred.extend(readiness.sleep(LONG)))
    sleeper.start()
    for number in range(100):
        one.send(b"%d" % number)
        assert other.recv() == b"%d" % number
    assert readiness.ready() == []
    other.send(b"a")
    sleeper.join(LONG)
    assert stirred == [one]


def test_a_ring_ends_one_sleep(readiness: Readiness, pair: tuple[Socket, Socket]) -> None:
    one, _ = pair
    readiness.add(one, nothing)
    readiness.ready()
    readiness.bell.ring()
    readiness.bell.ring()
    assert readiness.sleep(LONG) == []
    poll = select.poll()
    poll.register(readiness.bell.descriptor, select.POLLIN)
    assert not poll.poll(0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, -float("inf")])
def test_a_time_that_is_over_is_not_waited_for(readiness: Readiness, seconds: float) -> None:
    assert readiness.wait(seconds) == []


def test_what_was_removed_meanwhile_is_left_alone(
    readiness: Readiness, pair: tuple[Socket, Socket]
) -> None:
    one, other = pair
    done: list[str] = []

    def remove_other() -> None:
        done.append("one")
        readiness.remove(other)

    readiness.add(one, remove_other)
    readiness.add(other, lambda: done.append("other"))
    one.send(b"a")
    other.send(b"a")
    readiness.act([one, other])
    assert done == ["one"]
    assert readiness.ready() == [one]


def test_the_action_given_last_counts(readiness: Readiness, pair: tuple[Socket, Socket]) -> None:
    one, other = pair
    done: list[str] = []
    readiness.add(one, lambda: done.append("first"))
    readiness.add(one, lambda: done.append("second"))
    other.send(b"a")
    readiness.act(readiness.wait(LONG))
    assert done == ["second"]


def test_a_socket_can_be_removed_closed_and_followed_by_another(readiness: Readiness) -> None:
    with zmq.Context() as context:
        for number in range(3):
            one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
            one.bind(f"inproc://{number}")
            other.connect(f"inproc://{number}")
            readiness.add(one, nothing)
            other.send(b"a")
            assert readiness.wait(LONG) == [one]
            readiness.remove(one)
            one.close(0)
            other.close(0)
            assert readiness.wait(0.0) == []


@pytest.mark.parametrize("seconds", [3e7, 1e15, math.inf])
def test_a_sleep_of_months_is_one_that_ends(readiness: Readiness, seconds: float) -> None:
    readiness.bell.ring()
    assert readiness.sleep(seconds) == []
