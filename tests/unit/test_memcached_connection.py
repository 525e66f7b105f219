"""One connection: what ends it, what does not, and that nobody reads another's answer."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.integration.peers import Cut, Peer, honest
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.probe import Knowledge
from tiered.clients.memcached.stream import Traffic
from tiered.errors import BackendError, ServerRefusal, ValueTooLarge
from tiered.routing.addresses import parse_address


def connection_to(address: str) -> Connection:
    return Connection(parse_address(address), Terms(20, 20), Traffic(), Knowledge())


@pytest.fixture(params=["meta", "text"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    with Peer(speaks_meta=request.param == "meta") as peer:
        peer.rewrite(b"k", b"value")
        yield peer


@pytest.fixture
def link(peer: Peer) -> Iterator[Connection]:
    link = connection_to(peer.address)
    yield link
    link.close()


def get(link: Connection) -> bytes | None:
    return link.run(lambda link: link.dialect.get(link.stream, b"k"))


def turns_of(
    link: Connection, turns: Callable[[Connection], Generator[None, None, Any]]
) -> Generator[None, None, Any]:
    return link.converse(turns)


def get_many(link: Connection) -> Generator[None, None, dict[bytes, bytes]]:
    return link.dialect.get_many(link.stream, [b"k"])


class Timeout(BaseException):
    """What cooperative schedulers throw."""


INTERRUPTIONS = [KeyboardInterrupt, SystemExit, Timeout, ZeroDivisionError, MemoryError]


# -- What does not end it -------------------------------------------------------------------


def test_it_is_opened_on_first_use_and_used_again(peer: Peer, link: Connection) -> None:
    assert peer.accepted == 0
    for _ in range(3):
        assert get(link) == b"value"
    assert peer.accepted == 1
    assert link.profile.dialect is link.dialect


@pytest.mark.parametrize("error", [ServerRefusal, ValueTooLarge])
def test_a_clean_refusal_leaves_it_open(
    peer: Peer, link: Connection, error: type[Exception]
) -> None:
    def refused(link: Connection) -> None:
        link.stream.send(b"mn\r\n")
        link.stream.line()
        raise error("no")

    with pytest.raises(error, match="no"):
        link.run(refused)
    assert get(link) == b"value"
    assert peer.accepted == 1


# -- What ends it -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", INTERRUPTIONS)
@pytest.mark.parametrize("moment", ["before", "asked", "answered"])
def test_an_interruption_ends_it_and_is_raised_as_it_is(
    peer: Peer, link: Connection, error: type[BaseException], moment: str
) -> None:
    def interrupted(link: Connection) -> None:
        if moment != "before":
            link.stream.send(b"get k\r\n")
        if moment == "answered":
            link.stream.line()
        raise error

    get(link)
    with pytest.raises(error):
        link.run(interrupted)
    assert get(link) == b"value"
    assert peer.accepted == 2


@pytest.mark.parametrize("error", [OSError("x"), TimeoutError(), BackendError("x")])
def test_a_failure_ends_it_and_names_the_server(
    peer: Peer, link: Connection, error: Exception
) -> None:
    def failing(_link: Connection) -> None:
        raise error

    get(link)
    with pytest.raises(BackendError, match=peer.address) as caught:
        link.run(failing)
    assert caught.value.__cause__ is error
    assert get(link) == b"value"
    assert peer.accepted == 2


@pytest.mark.parametrize("error", [ServerRefusal, ValueTooLarge])
def test_a_refusal_that_is_not_the_whole_answer_ends_it(
    peer: Peer, link: Connection, error: type[Exception]
) -> None:
    def refused(link: Connection) -> None:
        link.stream.send(b"get k\r\n")
        link.stream.line()
        raise error("no")

    get(link)
    with pytest.raises(BackendError) as caught:
        link.run(refused)
    assert type(caught.value) is BackendError
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_an_answer_that_is_longer_than_the_exchange_ends_it(peer: Peer, link: Connection) -> None:
    def hasty(link: Connection) -> bytes:
        link.stream.send(b"get k\r\n")
        return link.stream.line()

    with pytest.raises(BackendError, match="after the answer"):
        link.run(hasty)
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_an_interruption_of_the_cleaning_up_leaves_nothing_to_the_next(
    peer: Peer, link: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(link: Connection) -> None:
        link.stream.send(b"get k\r\n")
        raise KeyboardInterrupt

    def impatient(_error: BaseException) -> None:
        raise KeyboardInterrupt  # a second time

    go = threading.Event()

    def late(request: bytes, answer: bytes) -> bytes:
        assert go.wait(10)
        return answer

    get(link)
    peer.spoil = late
    with monkeypatch.context() as patched:
        patched.setattr(link, "_fail", impatient)
        with pytest.raises(KeyboardInterrupt):
            link.run(interrupted)
    peer.spoil = honest
    link.prepare()  # the late answer has not come yet
    assert peer.accepted == 2
    go.set()
    assert get(link) == b"value"


@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_an_interrupted_conversation_ends_it(
    peer: Peer, link: Connection, error: type[BaseException]
) -> None:
    talk = turns_of(link, get_many)
    next(talk)
    with pytest.raises(error):
        talk.throw(error)
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_a_conversation_that_is_given_up_ends_it(peer: Peer, link: Connection) -> None:
    talk = turns_of(link, get_many)
    next(talk)
    talk.close()
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_a_conversation_that_is_dropped_ends_it(peer: Peer, link: Connection) -> None:
    talk = turns_of(link, get_many)
    next(talk)
    del talk
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_a_conversation_that_is_finished_does_not(peer: Peer, link: Connection) -> None:
    talk = turns_of(link, get_many)
    next(talk)
    with pytest.raises(StopIteration) as end:
        next(talk)
    assert end.value.value == {b"k": b"value"}
    assert get(link) == b"value"
    assert peer.accepted == 1


def test_an_answer_that_breaks_off_ends_it(peer: Peer, link: Connection) -> None:
    get(link)
    peer.spoil = lambda request, answer: Cut(answer[:-1])
    with pytest.raises(BackendError, match="cannot be reached"):
        get(link)
    peer.spoil = honest
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_what_was_sent_and_did_not_arrive_never_does() -> None:
    # The kernel would go on trying for minutes. A write that is given up and arrives after the
    # delete that was made for it brings back what was deleted.
    said = b"VERSION 1.4.33\r\nERROR\r\nERROR\r\n", b"ERROR\r\n"
    go, ended = threading.Event(), []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                for answer in said:
                    accepted.recv(1000)
                    accepted.sendall(answer)
                assert go.wait(10)
                try:
                    while accepted.recv(65536):
                        pass
                    ended.append("in order")
                except ConnectionResetError:
                    ended.append("reset")

        server = threading.Thread(target=serve)
        server.start()
        link = connection_to(f"127.0.0.1:{listener.getsockname()[1]}")
        link.prepare()  # which has all the time that it needs; what follows gets no answer

        def written(link: Connection) -> object:
            assert link._socket is not None
            link._socket.settimeout(0.2)
            link.stream._timeout = 0.2
            return link.dialect.set(link.stream, b"k", bytes(500_000), 100)

        with pytest.raises(BackendError, match="cannot be reached"):
            link.run(written)
        go.set()
        server.join(10)
    assert ended == ["reset"]


# -- Between two uses -----------------------------------------------------------------------


def test_noise_on_an_idle_connection_is_nobodys_answer(peer: Peer, link: Connection) -> None:
    get(link)
    peer.say(b"END\r\n")
    assert link._poll.poll(10_000)
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_an_idle_connection_that_the_server_closed_is_opened_again(
    peer: Peer, link: Connection
) -> None:
    get(link)
    peer.hang_up()
    assert link._poll.poll(10_000)
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_a_connection_is_closed_as_often_as_one_likes(peer: Peer, link: Connection) -> None:
    link.close()
    get(link)
    link.close()
    link.close()
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_numbers_of_sockets_that_were_given_back_are_no_longer_watched(
    peer: Peer, link: Connection
) -> None:
    for _ in range(5):
        get(link)
        link.close()
    reading, writing = os.pipe()
    try:
        os.write(writing, b"x")  # one of the old numbers, most likely, and it is readable
        get(link)
        accepted = peer.accepted
        get(link)
        assert peer.accepted == accepted
    finally:
        os.close(reading)
        os.close(writing)


# -- Children -------------------------------------------------------------------------------


def test_a_child_opens_its_own(peer: Peer, link: Connection) -> None:
    get(link)
    before: Any = link._socket
    link.after_fork()
    assert before.fileno() == -1
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_a_fork_in_the_middle_of_an_exchange_ends_it_in_the_child(
    peer: Peer, link: Connection
) -> None:
    def forking(link: Connection) -> bytes | None:
        link.stream.send(b"get k\r\n")
        link.after_fork()
        link.stream.line()
        raise AssertionError("the child has read the answer to its parent")

    with pytest.raises(BackendError, match="cannot be reached"):
        link.run(forking)
    assert get(link) == b"value"
    assert peer.accepted == 2


def test_a_real_child_in_the_middle_of_an_exchange_does_not_take_the_parents_answer(
    peer: Peer, link: Connection
) -> None:
    """The parent's connection is not even ended by what the child does."""

    def forking(link: Connection) -> bytes | None:
        link.stream.send(b"get k\r\n")
        child = os.fork()
        if not child:
            status = 1
            try:
                link.stream.line()
            except OSError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert link.stream.line() == b"VALUE k 0 5"
        data = link.stream.block(5)
        assert link.stream.line() == b"END"
        return data

    assert link.run(forking) == b"value"
    assert get(link) == b"value"
    assert peer.accepted == 1


def test_the_end_of_a_childs_connection_is_not_the_end_of_the_parents(
    peer: Peer, link: Connection
) -> None:
    get(link)
    connected: Any = link._socket
    # What is set on a socket is set for all processes that have it.
    linger = connected.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    link.after_fork()
    assert struct.unpack("ii", linger)[0] == 0
