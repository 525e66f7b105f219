"""The two ends of a connection, by themselves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.integration.busnode import wait_until
from tests.integration.test_zmq_bus import new_address
from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.messages import Bye, Hello, Pong
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import BusAddress, parse_bus_address
from tiered.coherence.zeromq.election import BindResult, Prospect
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.link import Link
from tiered.coherence.zeromq.listener import CannotBind, Listener
from tiered.concurrency.filelock import FileLock

WIRE = Wire()
HELLO = Hello(b"the-node", 1, 0, 0, 1, "test")


@pytest.fixture
def foreign() -> ForeignCount:
    return ForeignCount(SYSTEM_CLOCK)


@pytest.fixture(params=["tcp", "ipc", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> BusAddress:
    return parse_bus_address(new_address(request.param, tmp_path))


@pytest.fixture
def listener(address: BusAddress, foreign: ForeignCount) -> Iterator[Listener]:
    one = Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK)
    yield one
    one.close(0.0)


@pytest.fixture
def link(address: BusAddress, foreign: ForeignCount) -> Iterator[Link]:
    with zmq.Context() as context:
        one = Link(context, address, wire=WIRE, curve=None, foreign=foreign)
        yield one
        one.close()


def attend(link: Link, prospect: Prospect) -> None:
    """Wait until *link* has come to *prospect*."""

    def has_come() -> bool:
        link.watch()
        return link.prospect is prospect

    wait_until(has_come)


def connected(link: Link) -> None:
    attend(link, Prospect.THERE)


def received(end: Listener | Link) -> list[Any]:
    """What has come to *end*, once there is anything."""
    taken: list[Any] = []

    def has_come() -> bool:
        taken.extend(end.receive(10))
        return bool(taken)

    wait_until(has_come)
    return taken


def test_messages_pass_both_ways(listener: Listener, link: Link) -> None:
    connected(link)
    assert link.send(HELLO)
    taken = received(listener)
    [(route, message)] = taken
    assert message == HELLO
    listener.send([route], WIRE.pack(Pong(1, 2, 3)))
    assert received(link) == [Pong(1, 2, 3)]


def test_nothing_is_sent_before_there_is_somebody(link: Link) -> None:
    attend(link, Prospect.VACANT)
    assert not link.send(HELLO)


def test_what_was_not_sent_does_not_come_late(
    address: BusAddress, link: Link, foreign: ForeignCount
) -> None:
    link.send(HELLO)
    listener = Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK)
    try:
        connected(link)
        bye = Bye(b"the-node", 1)
        assert link.send(bye)
        taken = received(listener)
        assert [message for _, message in taken] == [bye]
    finally:
        listener.close(0.0)


def test_who_has_no_room_is_counted_and_who_is_gone_is_left_out(
    listener: Listener, link: Link
) -> None:
    connected(link)
    link.send(HELLO)
    taken = received(listener)
    route = taken[0][0]
    frame = bytes(100_000)

    def is_refused() -> bool:
        before = listener.full
        for _ in range(1000):
            listener.send([b"nobody", route], frame)
            if listener.full > before:
                return listener.full == before + 1
        return False

    wait_until(is_refused)
    # Those that follow are whole. What was sent goes on its way meanwhile, and makes room once
    # more, but not for ever: nobody reads it.
    wait_until(is_refused)


def test_an_end_that_is_lost_is_noticed(
    address: BusAddress, link: Link, foreign: ForeignCount
) -> None:
    listener = Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK)
    connected(link)
    listener.close(0.0)
    wait_until(link.watch)
    assert link.prospect is Prospect.VACANT


def test_an_address_is_bound_by_one(
    address: BusAddress, listener: Listener, foreign: ForeignCount
) -> None:
    with pytest.raises(CannotBind) as told:
        Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK)
    assert told.value.result is BindResult.BUSY
    assert told.value.expected


def test_a_file_is_removed_while_it_is_locked(
    tmp_path: Path, foreign: ForeignCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later, it would be somebody else's."""
    path = tmp_path / "bus"
    seen = []
    drop = FileLock.drop

    def looked(lock: FileLock) -> bool:
        seen.append(path.exists())
        return drop(lock)

    monkeypatch.setattr(FileLock, "drop", looked)
    address = parse_bus_address(f"ipc://{path}")
    listener = Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK)
    assert path.is_socket()
    listener.close(0.0)
    assert seen == [False]


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path, foreign: ForeignCount) -> None:
    path = tmp_path / "precious"
    path.write_text("text")
    address = parse_bus_address(f"ipc://{path}")
    with pytest.raises(CannotBind, match="a file that is no socket"):
        Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK)
    assert path.read_text() == "text"


def test_what_a_dead_broker_left_behind_is_taken_over(
    tmp_path: Path, foreign: ForeignCount
) -> None:
    path = tmp_path / "bus"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    address = parse_bus_address(f"ipc://{path}")
    Listener([address], wire=WIRE, curve=None, foreign=foreign, clock=SYSTEM_CLOCK).close(0.0)
    assert not path.exists()


def test_who_does_not_speak_zeromq_is_left_alone(foreign: ForeignCount, tmp_path: Path) -> None:
    """libzmq would try again each ten milliseconds."""
    with socket.create_server(("127.0.0.1", 0)) as server, zmq.Context() as context:
        address = parse_bus_address(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        link = Link(context, address, wire=WIRE, curve=None, foreign=foreign)
        server.settimeout(0.05)

        def answer() -> bool:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                pass
            else:
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            link.watch()
            return link.is_refused

        wait_until(answer)
        assert link.prospect is Prospect.VACANT
        link.close()
