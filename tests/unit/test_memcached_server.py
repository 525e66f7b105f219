"""One server: when it is asked, how it comes back, and what it is told before it serves again."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.fakes import Held, together
from tests.fleets import PAUSE_IS_OVER, make_server
from tests.integration.peers import Cut, Peer, honest
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Dialer
from tiered.clients.memcached.journal import Journal
from tiered.clients.memcached.server import Server
from tiered.errors import BackendError, PoolTimeout, ServerRefusal
from tiered.testing import ManualClock


@pytest.fixture(params=["meta", "text"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    with Peer(speaks_meta=request.param == "meta") as peer:
        yield peer


@pytest.fixture
def server(peer: Peer, clock: ManualClock) -> Iterator[Server]:
    server = make_server(peer.address, clock)
    assert get(server, b"k") is None
    yield server
    server.pool.close()


def get(server: Server, key: bytes) -> bytes | None:
    return server.ask(lambda link: link.dialect.get(link.stream, key))


def is_up(server: Server) -> bool:
    return server.up


def fail(server: Server) -> None:
    def exchange(_connection: Connection) -> None:
        raise BackendError("it broke off")

    with pytest.raises(BackendError, match="it broke off"):
        server.ask(exchange)


def deletes(peer: Peer) -> list[bytes]:
    """The keys that the peer was told to delete."""
    told = [request.split() for request in peer.requests]
    return [words[1] for words in told if words[0] in (b"md", b"delete")]


# -- Up and down --------------------------------------------------------------------------


def test_it_is_up_until_it_fails(server: Server, clock: ManualClock) -> None:
    assert is_up(server)
    assert server.ready()
    fail(server)
    assert not is_up(server)
    assert not server.ready()
    clock.advance(PAUSE_IS_OVER)
    assert server.ready()
    assert is_up(server)


def test_a_refusal_is_no_failure(peer: Peer, server: Server) -> None:
    peer.spoil = lambda request, answer: b"SERVER_ERROR busy\r\n"
    with pytest.raises(ServerRefusal):
        get(server, b"k")
    assert server.up
    assert server.stats.errors == 1


def test_a_full_pool_is_no_failure(peer: Peer, clock: ManualClock) -> None:
    server = make_server(peer.address, clock, pool_size=1)
    taken = server.pool.take()
    with pytest.raises(PoolTimeout):
        get(server, b"k")
    assert server.up
    assert server.stats.errors == 0
    server.pool.give(taken)
    server.pool.close()


def test_a_failure_closes_what_is_idle(peer: Peer, clock: ManualClock) -> None:
    server, held = make_server(peer.address, clock), Held()
    thread = threading.Thread(target=lambda: server.ask(lambda link: held()))
    thread.start()
    assert held.started.wait(10)
    get(server, b"k")
    assert peer.accepted == 2
    held.go.set()
    thread.join(10)
    fail(server)
    # Each of those would fail one request, if the server is another one by now.
    assert [connection._socket for connection in server.pool._idle] == [None, None]
    clock.advance(PAUSE_IS_OVER)
    assert server.ready()
    assert peer.accepted == 3
    server.pool.close()


def test_it_answers_nothing_while_it_is_left_alone_but_may_be_looked_at_early(
    peer: Peer, server: Server
) -> None:
    fail(server)
    asked = len(peer.requests)
    assert not server.ready()
    assert len(peer.requests) == asked
    assert server.ready(at_once=True)


def test_who_fails_slowly_is_not_looked_at_early(
    server: Server,
) -> None:
    fail(server)
    server.health.failed(slowly=True)
    assert not server.ready(at_once=True)


def test_its_figures(peer: Peer, server: Server, clock: ManualClock) -> None:
    before = server.stats
    assert (before.up, before.owed, before.errors, before.dead_time) == (True, 0, 0, 0.0)
    assert before.address == peer.address
    assert before.release == ("1.6.18" if peer.speaks_meta else "1.4.33")
    assert before.sent > 0
    assert before.received > 0
    assert sum(count for _, count in before.latency) == 1
    fail(server)
    server.owe(b"k")
    clock.advance(30)
    during = server.stats
    assert (during.up, during.owed, during.errors, during.dead_time) == (False, 1, 1, 30.0)
    assert server.ready()
    clock.advance(30)
    after = server.stats
    assert (after.up, after.owed, after.errors, after.dead_time) == (True, 0, 1, 30.0)


def test_it_was_never_seen_and_has_no_figures(clock: ManualClock) -> None:
    server = make_server("127.0.0.1:1", clock)
    assert (server.stats.release, server.profile) == (None, None)


# -- Coming back ----------------------------------------------------------------------------


def test_it_is_told_what_it_missed_before_it_is_up(
    peer: Peer, server: Server, clock: ManualClock
) -> None:
    fail(server)
    keys = [b"key%d" % number for number in range(2000)]
    for key in keys:
        peer.rewrite(key, b"old")
        assert server.owe(key)
    clock.advance(PAUSE_IS_OVER)
    up: set[bool] = set()

    def looked_at(request: bytes, answer: bytes) -> bytes:
        if request.startswith((b"md ", b"delete ")):
            up.add(server.up)
        return answer

    peer.spoil = looked_at
    assert server.ready()
    assert up == {False}
    assert deletes(peer) == keys
    assert not peer.items
    assert not server.owe(b"k")
    assert server.trusted_from < 0


def test_a_delete_that_came_meanwhile_is_told_too(
    peer: Peer, server: Server, clock: ManualClock
) -> None:
    fail(server)
    server.owe(b"first")
    clock.advance(PAUSE_IS_OVER)
    more = [b"second", b"first"]

    def meanwhile(request: bytes, answer: bytes) -> bytes:
        if request.startswith((b"md ", b"delete ")) and more:
            server.owe(more.pop())
        return answer

    peer.spoil = meanwhile
    assert server.ready()
    # The first again: what was written between the two would be out of date.
    assert deletes(peer) == [b"first", b"first", b"second"]


def test_it_comes_back_although_others_note_without_an_end(
    peer: Peer, server: Server, clock: ManualClock
) -> None:
    fail(server)
    server.owe(b"k")
    clock.advance(PAUSE_IS_OVER)
    numbers, asked, answered = itertools.count(), threading.Semaphore(0), threading.Semaphore(0)
    over = threading.Event()

    def note() -> None:
        # A thread whose writes all go elsewhere, and each is a delete owed to this one.
        while True:
            asked.acquire()
            if over.is_set():
                return
            server.owe(b"key%d" % next(numbers))
            answered.release()

    def meanwhile(request: bytes, answer: bytes) -> bytes:
        if request.startswith((b"md ", b"delete ")) and not over.is_set():
            asked.release()
            if not server.journal._lock.locked():
                answered.acquire(timeout=10)
        return answer

    peer.spoil = meanwhile
    noting = threading.Thread(target=note)
    noting.start()
    reviving = threading.Thread(target=server.ready)
    reviving.start()
    reviving.join(20)
    came_back = not reviving.is_alive()
    over.set()
    asked.release()
    for thread in (noting, reviving):
        thread.join(10)
        assert not thread.is_alive()
    assert came_back
    assert server.up
    assert len(deletes(peer)) < 20


def runs(peer: Peer, *starts: bytes) -> None:
    """Have the peer say that it was started then, each time it is asked, the last for ever."""
    left = list(starts)

    def statistics(request: bytes, answer: bytes) -> bytes:
        if request == b"stats":
            start = left.pop(0) if len(left) > 1 else left[0]
            return b"STAT pid 1\r\nSTAT uptime 0\r\nSTAT time %b\r\nEND\r\n" % start
        return answer

    peer.spoil = statistics


def refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = bool
) -> None:
    """Nobody is there when the server is asked; *meanwhile* happens before that is known."""

    def dial(_self: Dialer) -> socket.socket:
        try:
            raise ConnectionRefusedError
        finally:
            meanwhile()

    with monkeypatch.context() as patched:
        patched.setattr(Dialer, "dial", dial)
        server.pool.close()
        with pytest.raises(BackendError, match="cannot be reached"):
            get(server, b"k")


def test_a_server_that_was_restarted_is_told_what_was_noted_while_we_did_not_look(
    clock: ManualClock,
) -> None:
    # It came back long before we saw it, and others have filled it since: what they wrote
    # before our delete is out of date.
    with Peer() as peer:
        runs(peer, b"100", b"200")
        server = make_server(peer.address, clock)
        get(server, b"k")
        before = server.profile
        fail(server)
        assert server.owe(b"k")
        peer.rewrite(b"k", b"older than the delete")
        clock.advance(PAUSE_IS_OVER)
        assert server.ready()
        assert before is not None
        assert server.profile is not None
        assert server.profile.run != before.run
        assert get(server, b"k") is None
        server.pool.close()


def test_a_server_that_was_restarted_is_not_told_what_was_noted_before_it_was_gone(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer() as peer:
        runs(peer, b"100", b"200")
        server = make_server(peer.address, clock)
        get(server, b"k")
        fail(server)
        assert server.owe(b"before")
        refused(server, monkeypatch)
        assert server.owe(b"after")
        peer.rewrite(b"before", b"of the new run")
        clock.advance(PAUSE_IS_OVER)
        assert server.ready()
        assert deletes(peer) == [b"after"]
        assert get(server, b"before") == b"of the new run"
        server.pool.close()


def test_what_is_noted_before_a_refusal_is_known_may_be_about_the_new_run(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer() as peer:
        runs(peer, b"100", b"200")
        server = make_server(peer.address, clock)
        get(server, b"k")
        fail(server)
        assert server.owe(b"before")
        # It starts right after it has refused us, and others fill it.
        refused(server, monkeypatch, meanwhile=lambda: server.owe(b"between"))
        clock.advance(PAUSE_IS_OVER)
        assert server.ready()
        assert deletes(peer) == [b"between"]
        server.pool.close()


def test_a_restart_is_counted_once_although_the_replay_after_it_breaks_off(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer() as peer:
        runs(peer, b"100", b"200")
        server = make_server(peer.address, clock)
        get(server, b"k")
        refused(server, monkeypatch)
        assert server.owe(b"k")
        answering = peer.spoil
        peer.spoil = lambda request, answer: (
            Cut(b"") if request.startswith(b"md ") else answering(request, answer)
        )
        clock.advance(PAUSE_IS_OVER)
        with pytest.raises(BackendError):
            server.ready()
        peer.spoil = answering
        peer.requests.clear()
        refused(server, monkeypatch)
        clock.advance(PAUSE_IS_OVER)
        assert server.ready()
        assert deletes(peer) == [b"k"]
        server.pool.close()


def test_one_that_refused_for_a_while_and_is_the_same_is_told_everything(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer() as peer:
        runs(peer, b"100", b"200")
        server = make_server(peer.address, clock)
        get(server, b"k")
        for round_ in (b"first", b"second", b"third"):
            # The first time it was restarted, and is the same ever since.
            refused(server, monkeypatch)
            assert server.owe(round_)
            refused(server, monkeypatch)
            clock.advance(PAUSE_IS_OVER)
            assert server.ready()
        assert deletes(peer) == [b"second", b"third"]
        server.pool.close()


def test_what_was_there_is_not_believed_when_more_was_missed_than_is_known(
    peer: Peer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "LIMIT", 2)
    server = make_server(peer.address, clock)
    server.journal._limit = 2
    fail(server)
    assert [server.owe(b"%d" % number) for number in range(4)] == [True] * 4
    assert server.stats.owed == 2
    clock.advance(PAUSE_IS_OVER)
    assert server.ready()
    assert deletes(peer) == [b"0", b"1"]
    assert server.trusted_from == clock.wall()
    assert not server.journal.overflowed
    # And that is over: the next failure is a new one.
    came_back = clock.wall()
    fail(server)
    server.owe(b"5")
    clock.advance(PAUSE_IS_OVER)
    assert server.ready()
    assert server.trusted_from == came_back
    server.pool.close()


def test_a_replay_that_breaks_off_is_made_again_from_what_was_not_told(
    peer: Peer, server: Server, clock: ManualClock
) -> None:
    fail(server)
    server.owe(b"k")
    clock.advance(PAUSE_IS_OVER)
    peer.spoil = lambda request, answer: (
        Cut(b"") if request.startswith((b"md ", b"delete ")) else answer
    )
    with pytest.raises(BackendError, match="cannot be reached"):
        server.ready()
    assert (server.up, server.stats.owed) == (False, 1)
    assert not server.ready()  # a pause again
    peer.spoil = honest
    peer.rewrite(b"k", b"old")
    clock.advance(PAUSE_IS_OVER)
    assert server.ready()
    assert (server.up, server.stats.owed) == (True, 0)
    assert not peer.items


def test_a_replay_that_is_refused_is_not_tried_with_every_request(
    peer: Peer, server: Server, clock: ManualClock
) -> None:
    fail(server)
    server.owe(b"k")
    clock.advance(PAUSE_IS_OVER)
    peer.spoil = lambda request, answer: (
        b"SERVER_ERROR read only\r\n" if request.startswith((b"md ", b"delete ")) else answer
    )
    with pytest.raises(ServerRefusal):
        server.ready()
    assert (server.up, server.stats.owed) == (False, 1)
    asked = len(peer.requests)
    assert not server.ready()
    assert len(peer.requests) == asked
    peer.spoil = honest
    clock.advance(PAUSE_IS_OVER)
    assert server.ready()


def test_one_thread_brings_it_back_and_the_others_do_not_wait(
    peer: Peer, server: Server, clock: ManualClock
) -> None:
    fail(server)
    clock.advance(PAUSE_IS_OVER)
    held = Held()

    def late(request: bytes, answer: bytes) -> bytes:
        held()
        return answer

    peer.spoil = late
    reviving = threading.Thread(target=server.ready)
    reviving.start()
    assert held.started.wait(10)
    assert together(lambda _: server.ready(at_once=True), 4) == [False] * 4
    assert not is_up(server)
    peer.spoil = honest
    held.go.set()
    reviving.join(10)
    assert is_up(server)
    assert peer.accepted == 2


def test_an_interruption_leaves_the_way_free_for_the_next(
    server: Server, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(server)
    clock.advance(PAUSE_IS_OVER)
    with monkeypatch.context() as patched:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(server, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.ready()
    assert server.ready()


def test_a_child_brings_it_back_itself(server: Server, clock: ManualClock) -> None:
    fail(server)
    clock.advance(PAUSE_IS_OVER)
    server._reviving.acquire()  # by a thread that is not in the child
    assert not server.ready()
    server.after_fork()
    assert server.ready()


# -- Taken out of use -------------------------------------------------------------------------


def test_a_server_that_is_up_is_suspended_until_it_has_been_told(
    peer: Peer, server: Server
) -> None:
    assert not server.owe(b"k")
    peer.rewrite(b"k", b"old")
    server.suspend(b"k")
    assert not server.up
    assert server.stats.owed == 1
    assert server.ready()  # at once: there was no failure
    assert not peer.items


def test_one_that_is_down_is_owed_the_key_by_a_suspension(
    server: Server, clock: ManualClock
) -> None:
    fail(server)
    clock.advance(5)
    server.suspend(b"k")
    clock.advance(5)
    assert server.stats.owed == 1
    assert server.stats.dead_time == 10
