"""The bytes of one connection: however they come, the same lines and blocks, in bounded time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.clients.memcached import stream as module
from tiered.clients.memcached.stream import Stream, Traffic
from tiered.errors import BackendError
from tiered.testing import ManualClock

TIMEOUT = 20.0


class Ends(NamedTuple):
    """A stream, what it counts, and the server's end of it."""

    stream: Stream
    traffic: Traffic
    server: socket.socket


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    traffic = Traffic()
    with ours, theirs:
        yield Ends(Stream(ours, TIMEOUT, traffic), traffic, theirs)


class Drip:
    """A socket from which *pieces* come, each *seconds* after the one before."""

    def __init__(self, pieces: list[bytes], clock: ManualClock, seconds: float) -> None:
        self.pieces = pieces
        self.clock = clock
        self.seconds = seconds
        self.timeouts: list[float] = []
        self.sent: list[bytes] = []

    def settimeout(self, timeout: float) -> None:
        self.timeouts.append(timeout)

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _size: int) -> bytes:
        if self.seconds > self.timeouts[-1]:
            self.clock.advance(self.timeouts[-1])
            raise TimeoutError("timed out")
        self.clock.advance(self.seconds)
        return self.pieces.pop(0)


@pytest.fixture
def drip(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Drip, Stream]]:
    monkeypatch.setattr(module, "SYSTEM_CLOCK", clock)

    def made(pieces: list[bytes], seconds: float, timeout: float = 1.0) -> tuple[Drip, Stream]:
        dripping: Any = Drip(pieces, clock, seconds)
        return dripping, Stream(dripping, timeout, Traffic())

    return made


ANSWER = b"VALUE k 0 9\r\nda\r\nta\r\n!\r\nVALUE l 0 0\r\n\r\nEND\r\n"


def understood(stream: Stream) -> list[bytes]:
    parts = [stream.line(), stream.block(9), stream.line(), stream.block(0), stream.line()]
    stream.settle()
    return parts


MEANING = [b"VALUE k 0 9", b"da\r\nta\r\n!", b"VALUE l 0 0", b"", b"END"]


@given(cuts=st.sets(st.integers(1, len(ANSWER) - 1)))
def test_an_answer_means_the_same_in_whatever_pieces_it_comes(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[start:end] for start, end in pairwise(edges)]
    dripping: Any = Drip(pieces, ManualClock(), 0)
    assert understood(Stream(dripping, 1, Traffic())) == MEANING
    assert not pieces


def test_what_is_sent_and_received_is_counted(ends: Ends) -> None:
    ends.stream.send(b"get k l\r\n")
    assert ends.server.recv(100) == b"get k l\r\n"
    ends.server.sendall(ANSWER)
    assert understood(ends.stream) == MEANING
    assert (ends.traffic.sent, ends.traffic.received) == (9, len(ANSWER))


def test_a_block_larger_than_any_buffer_arrives_whole(ends: Ends) -> None:
    data = bytes(range(256)) * 4096
    thread = threading.Thread(target=ends.server.sendall, args=(data + b"\r\nEND\r\n",))
    thread.start()
    assert ends.stream.block(len(data)) == data
    assert ends.stream.line() == b"END"
    thread.join(10)
    assert not thread.is_alive()


def test_serial_numbers_are_all_different(ends: Ends) -> None:
    assert len({ends.stream.serial() for _ in range(100)}) == 100


def test_it_is_polled_by_its_number_and_closed_once(ends: Ends) -> None:
    assert ends.stream.fileno() >= 0
    ends.stream.close()
    assert ends.stream.fileno() == -1
    ends.stream.close()


# -- What cannot be an answer ---------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[b"x" * 8193], [b"x" * 4096] * 3, [b"x"] * 8200])
def test_a_line_without_an_end_is_given_up(pieces: list[bytes]) -> None:
    endless: Any = Drip([*pieces, *[b"x"] * 10], ManualClock(), 0)
    with pytest.raises(BackendError, match="a line of more than 8192 bytes"):
        Stream(endless, 1, Traffic()).line()


@pytest.mark.parametrize("end", [b"xx", b"\n\r", b"\rx", b"\x00\x00"])
def test_a_block_that_ends_elsewhere_is_given_up(ends: Ends, end: bytes) -> None:
    ends.server.sendall(b"data" + end + b"END\r\n")
    with pytest.raises(BackendError, match="does not end where it should"):
        ends.stream.block(4)


def test_a_question_is_settled_by_the_end_of_its_answer_only(ends: Ends) -> None:
    states = [ends.stream.settled]
    ends.stream.send(b"mn\r\n")
    states.append(ends.stream.settled)
    ends.server.sendall(b"MN\r\nMN\r\n")
    ends.stream.line()
    with pytest.raises(BackendError):
        ends.stream.settle()
    states.append(ends.stream.settled)
    ends.stream.line()
    ends.stream.settle()
    states.append(ends.stream.settled)
    assert states == [True, False, False, True]


def test_what_follows_an_answer_is_told(ends: Ends) -> None:
    ends.server.sendall(b"STORED\r\nSTORED\r\n")
    assert ends.stream.line() == b"STORED"
    with pytest.raises(BackendError, match=r"b'STORED.*' after the answer"):
        ends.stream.settle()


@pytest.mark.parametrize("read", [lambda stream: stream.line(), lambda stream: stream.block(9)])
def test_the_end_of_the_connection_is_no_answer(ends: Ends, read: Callable[[Stream], Any]) -> None:
    ends.server.sendall(b"half")
    ends.server.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError, match="the server closed the connection"):
        read(ends.stream)


def test_memory_is_taken_for_what_arrives_only(ends: Ends) -> None:
    ends.server.sendall(b"short")
    ends.server.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        ends.stream.block(2**30)


def test_a_block_larger_than_any_item_is_not_waited_for(ends: Ends) -> None:
    with pytest.raises(BackendError, match="1073741825 bytes"):
        ends.stream.block(2**30 + 1)


# -- Time -----------------------------------------------------------------------------------

Drips = Callable[..., tuple[Drip, Stream]]


def test_a_slow_drip_is_waited_for_no_longer_than_the_timeout_in_all(
    drip: Drips, clock: ManualClock
) -> None:
    _, stream = drip([b"x"] * 100, seconds=0.3)
    began = clock.monotonic()
    with pytest.raises(TimeoutError):
        stream.line()
    assert clock.monotonic() - began == pytest.approx(1.0)


def test_lines_and_blocks_of_one_answer_share_the_time(drip: Drips) -> None:
    _, stream = drip([b"VALUE k 0 4\r\n", b"da", b"ta", b"\r\n", b"E", b"ND\r\n"], seconds=0.3)
    assert stream.line() == b"VALUE k 0 4"
    with pytest.raises(TimeoutError):
        stream.block(4)


def test_a_large_answer_has_the_time_for_each_256_kb_of_it(drip: Drips) -> None:
    kilobytes = [b"x" * 1024] * (4 * 256)
    dripping, stream = drip([*kilobytes, b"\r\n"], seconds=0.9 / 256)
    assert len(stream.block(len(kilobytes) * 1024)) == len(kilobytes) * 1024
    assert not dripping.pieces


def test_a_large_answer_of_small_items_has_it_too(drip: Drips) -> None:
    item = b"VALUE k 0 1000\r\n" + b"x" * 1000 + b"\r\n"
    count = 4 * 256
    _, stream = drip([item] * count, seconds=0.9 / 256)
    for _ in range(count):
        assert stream.line() == b"VALUE k 0 1000"
        assert len(stream.block(1000)) == 1000
    stream.settle()


def test_each_question_of_an_exchange_has_the_time_of_its_own(
    drip: Drips, clock: ManualClock
) -> None:
    dripping, stream = drip([b"MN\r\n", b"M", b"N\r\n"], seconds=0.4)
    stream.send(b"mn\r\n")
    assert stream.line() == b"MN"
    clock.advance(2)  # the answers of other servers were waited for in between
    stream.send(b"mn\r\n")
    assert stream.line() == b"MN"
    assert dripping.timeouts[-1] == pytest.approx(0.6)
    stream.send(b"mn\r\n")
    assert dripping.timeouts[-1] == 1.0  # for sending, too


def test_the_time_begins_anew_with_the_next_exchange(drip: Drips, clock: ManualClock) -> None:
    dripping, stream = drip([b"O", b"K\r\n", b"O", b"K\r\n"], seconds=0.4)
    for _ in range(2):
        assert stream.line() == b"OK"
        stream.settle()
        clock.advance(100)
    assert dripping.timeouts[-1] == 1.0
