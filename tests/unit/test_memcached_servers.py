"""Asking servers: what a failure is answered with, who stands in, and what is owed to whom."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.fakes import Held, together
from tests.fleets import PAUSE_IS_OVER, Ring
from tests.integration.peers import Cut
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Dialer
from tiered.clients.memcached.server import Server
from tiered.clients.memcached.servers import Servers
from tiered.errors import (
    BackendError,
    CodecError,
    DiscoveryError,
    NoServersError,
    ValueTooLarge,
)
from tiered.routing.discovery import Found, StaticDiscovery
from tiered.routing.health import NodeHealth
from tiered.testing import ManualClock


@pytest.fixture(params=["meta", "text"])
def ring(clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring(clock, speaks_meta=request.param == "meta") as ring:
        yield ring


def getting(key: bytes) -> Callable[[Connection], bytes | None]:
    return lambda link: link.dialect.get(link.stream, key)


def setting(key: bytes, data: bytes) -> Callable[[Connection, bool], bool]:
    return lambda link, away: link.dialect.set(link.stream, key, data + b" away" * away, 100)


def get(servers: Servers, key: bytes) -> bytes | None:
    return servers.read(key, getting(key))


def put(servers: Servers, key: bytes, data: bytes) -> bool:
    return servers.write(key, setting(key, data), False)


def put_many(servers: Servers, keys: list[bytes], data: bytes) -> dict[bytes, Any]:
    return {
        **servers.write_many(
            dict.fromkeys(keys, data),
            lambda connection, away: 10 if away else 100,
            lambda key: data + b" away",
        )
    }


def sealed(data: bytes, away: bool) -> tuple[bytes, int]:
    return (data + b" away", 10) if away else (data, 100)


def saying(outcome: Any) -> Callable[[Connection], Any]:
    """An exchange that asks nothing."""

    def exchange(_connection: Connection) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return exchange


def told_of(ring: Ring, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of these servers; of others, threads of earlier tests may still tell."""
    return [line for line in caplog.messages if any(peer.address in line for peer in ring.peers)]


BROKEN = BackendError("it broke off")


# -- One server -----------------------------------------------------------------------


def test_an_answer_is_passed_on(ring: Ring) -> None:
    assert ring.servers.on(ring.server(0), saying("answer"), "fallback") == "answer"
    assert ring.servers.on(ring.server(0), saying(None), "fallback") is None
    assert ring.counters.errors == 0


def test_a_failure_is_the_fallback_and_counted(ring: Ring) -> None:
    assert ring.servers.on(ring.server(0), saying(BROKEN), "fallback") == "fallback"
    assert ring.counters.errors == 1
    assert ring.server(0).stats.errors == 1


def test_a_server_that_failed_is_not_asked_until_its_pause_is_over(
    ring: Ring, clock: ManualClock
) -> None:
    on, server = ring.servers.on, ring.server(0)
    on(server, saying(BROKEN), "fallback")
    assert on(server, saying("answer"), "fallback") == "fallback"
    assert ring.counters.errors == 2
    assert on(ring.server(1), saying("answer"), "fallback") == "answer"  # the other one is well
    clock.advance(NodeHealth.FIRST_PAUSE)
    assert on(server, saying("answer"), "fallback") == "answer"
    assert on(server, saying("answer"), "fallback") == "answer"


def test_the_failures_of_a_server_are_told_once_an_interval(
    ring: Ring, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = ring.server(0), ring.server(1)
    for _ in range(20):
        ring.servers.on(one, saying(BROKEN), None)
        clock.advance(1)
    assert told_of(ring, caplog) == [f"memcached: {one.address}: it broke off"]
    ring.servers.on(two, saying(BROKEN), None)
    assert len(told_of(ring, caplog)) == 2  # another server is other news
    clock.advance(31)
    ring.servers.on(one, saying(BROKEN), None)
    assert len(told_of(ring, caplog)) == 3
    assert "more since the last such line" in told_of(ring, caplog)[2]


def test_strict_servers_raise_what_was_the_matter(clock: ManualClock) -> None:
    with Ring(clock, strict=True) as ring:
        server = ring.server(0)
        assert ring.servers.on(server, saying("answer"), "fallback") == "answer"
        with pytest.raises(NoServersError, match="it broke off") as caught:
            ring.servers.on(server, saying(BROKEN), "fallback")
        assert isinstance(caught.value.__cause__, BackendError)
        with pytest.raises(NoServersError, match="failed a moment ago and is left alone"):
            ring.servers.on(server, saying("answer"), "fallback")
        assert ring.counters.errors == 2


@pytest.mark.parametrize("strict", [False, True])
def test_the_size_of_a_value_is_the_callers_matter_and_no_failure(
    clock: ManualClock, strict: bool
) -> None:
    with Ring(clock, strict=strict) as ring:
        key = ring.key(0)
        with pytest.raises(ValueTooLarge):
            ring.servers.write(key, lambda link, away: saying(ValueTooLarge("2 MB"))(link), False)
        assert ring.counters.errors == 0
        assert ring.server(0).up
        assert put(ring.servers, key, b"smaller")
        assert ring.peers[0].accepted == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_interruption_or_a_bug_is_nobodys_failure(
    ring: Ring, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        ring.servers.on(ring.server(0), saying(error()), "fallback")
    assert ring.counters.errors == 0
    assert ring.servers.on(ring.server(0), saying("answer"), "fallback") == "answer"


@pytest.mark.parametrize("strict", [False, True])
def test_a_full_pool_is_counted_and_not_the_servers_fault(
    clock: ManualClock, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with Ring(clock, strict=strict, pool_size=1) as ring:
        server, held = ring.server(0), Held()
        thread = threading.Thread(
            target=lambda: ring.servers.on(server, lambda link: held(), "fallback")
        )
        thread.start()
        assert held.started.wait(10)
        for _ in range(3):
            if strict:
                with pytest.raises(NoServersError, match="all 1 connections were in use"):
                    ring.servers.on(server, saying("answer"), "fallback")
            else:
                assert ring.servers.on(server, saying("answer"), "fallback") == "fallback"
        held.go.set()
        thread.join(10)
        assert not thread.is_alive()
        assert ring.counters.errors == 3
        full = [line for line in caplog.messages if "all 1 connections were in use" in line]
        assert len(full) == 1
        assert ring.servers.on(server, saying("answer"), "fallback") == "answer"


def test_failures_that_many_threads_meet_at_once_make_one_pause(
    ring: Ring, clock: ManualClock
) -> None:
    meet, server = threading.Barrier(8), ring.server(0)

    def exchange(_connection: Connection) -> str:
        meet.wait(10)
        raise BROKEN

    answers = together(lambda _: ring.servers.on(server, exchange, "fallback"), 8)
    assert answers == ["fallback"] * 8
    assert ring.counters.errors == 8
    clock.advance(NodeHealth.FIRST_PAUSE)
    assert ring.servers.on(server, saying("answer"), "fallback") == "answer"


def test_each_server_is_asked_by_its_address(ring: Ring) -> None:
    one, two = (peer.address for peer in ring.peers)
    assert ring.servers.each(lambda link: str(link.address), "") == {one: one, two: two}
    ring.servers.on(ring.server(0), saying(BROKEN), None)
    assert ring.servers.each(saying("up"), "down") == {one: "down", two: "up"}


def test_a_server_says_which_it_is_and_whether_it_is_asked(ring: Ring) -> None:
    server = ring.server(0)
    assert repr(server) == f"<Server {server.address}, up>"
    ring.servers.on(server, saying(BROKEN), None)
    assert repr(server) == f"<Server {server.address}, left alone>"


# -- Every method, every failure --------------------------------------------------------


class Method(NamedTuple):
    """A way to ask for one key; its answers from the home, from the stand-in, and from nobody."""

    call: Callable[[Servers, bytes], Any]
    home: Any
    away: Any
    nobody: Any
    writes: bool = False


METHODS = {
    "read": Method(get, b"at home", b"away", None),
    "read_many": Method(
        lambda servers, key: servers.read_many([key]).get(key), b"at home", b"away", None
    ),
    "locate": Method(
        lambda servers, key: (servers.locate(key, getting(key)) or (0, 0, None))[2],
        b"at home",
        b"away",
        None,
    ),
    "write": Method(lambda servers, key: put(servers, key, b"new"), True, True, False, True),
    "write_many": Method(
        lambda servers, key: put_many(servers, [key], b"new").get(key), True, True, None, True
    ),
    "delete_many": Method(lambda servers, key: servers.delete_many([key])[key], True, True, False),
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


@pytest.fixture
def key(ring: Ring) -> bytes:
    """Of the first server; both have an item under it."""
    key = ring.key(0)
    ring.peers[0].rewrite(key, b"at home")
    ring.peers[1].rewrite(key, b"away")
    return key


def test_the_home_answers(ring: Ring, key: bytes, method: Method) -> None:
    assert method.call(ring.servers, key) == method.home
    assert ring.counters.errors == 0
    assert ring.server(0).stats.owed == 0


@pytest.mark.parametrize("known", [False, True])
def test_another_answers_for_a_home_that_fails(
    ring: Ring, key: bytes, method: Method, known: bool
) -> None:
    ring.cut_off(0)
    if known:
        ring.servers.on(ring.server(0), saying("answer"), None)
    errors = ring.counters.errors
    assert method.call(ring.servers, key) == method.away
    # A delete that its home was not told of has failed, wherever else it was made.
    assert ring.counters.errors == errors + (method is METHODS["delete_many"])
    assert not ring.server(0).up
    assert ring.server(1).up
    if method.writes:
        assert ring.holds(1, key) == b"new away"


def test_what_the_home_misses_is_owed_to_it_before_it_serves(
    ring: Ring, key: bytes, method: Method, clock: ManualClock
) -> None:
    ring.cut_off(0)
    method.call(ring.servers, key)
    owes = method.writes or method is METHODS["delete_many"]
    assert ring.server(0).stats.owed == owes
    ring.peers[0].rewrite(key, b"at home")
    clock.advance(PAUSE_IS_OVER)
    ring.restore(0)
    assert get(ring.servers, key) == (None if owes else b"at home")
    assert ring.server(0).up
    assert ring.server(0).stats.owed == 0


def test_nobody_answers_when_both_fail(
    ring: Ring, key: bytes, method: Method, clock: ManualClock
) -> None:
    ring.cut_off(0, 1)
    assert method.call(ring.servers, key) == method.nobody
    assert ring.counters.errors == 1
    assert not ring.server(0).up
    assert not ring.server(1).up
    assert method.call(ring.servers, key) == method.nobody
    assert ring.counters.errors == 2
    ring.peers[0].rewrite(key, b"at home")
    ring.peers[1].rewrite(key, b"away")
    clock.advance(PAUSE_IS_OVER)
    ring.restore(0, 1)
    reads = not method.writes and method is not METHODS["delete_many"]
    assert get(ring.servers, key) == (b"at home" if reads else None)
    # Of what the stand-in was told nobody knows how far it came.
    ring.cut_off(0)
    assert get(ring.servers, key) == (b"away" if reads else None)


def test_a_strict_client_is_told_that_nobody_answers(clock: ManualClock, method: Method) -> None:
    with Ring(clock, strict=True) as ring:
        key = ring.key(0)
        ring.cut_off(0, 1)
        for _ in range(2):
            with pytest.raises(NoServersError, match=r"cannot be reached|failed a moment ago"):
                method.call(ring.servers, key)
        if method.writes or method is METHODS["delete_many"]:
            assert [ring.server(number).stats.owed for number in (0, 1)] == [1, 1]


def test_a_refusal_is_an_answer(ring: Ring, key: bytes, method: Method, clock: ManualClock) -> None:
    commands = (b"get", b"mg", b"set", b"ms", b"delete", b"md")
    ring.refuse(0, commands)
    answer = method.call(ring.servers, key)
    if method is METHODS["write_many"]:
        assert isinstance(answer, BackendError)  # told for each item
    elif method is METHODS["delete_many"]:
        assert answer is True  # the stand-in had one
    else:
        assert answer == method.nobody
        assert ring.counters.errors == 1
    ring.restore(0)
    ring.peers[0].rewrite(key, b"at home")  # the peer refuses after the deed
    # Whoever refuses a delete may go on to serve what it was to remove.
    deleted = method is METHODS["delete_many"]
    assert ring.server(0).up is not deleted
    clock.advance(1)
    assert get(ring.servers, key) == (None if deleted else b"at home")
    assert ring.server(0).up
    assert ring.peers[0].accepted == 1


def test_a_full_pool_is_no_reason_to_ask_another(clock: ManualClock, method: Method) -> None:
    with Ring(clock, pool_size=1) as ring:
        key = ring.key(0)
        ring.peers[0].rewrite(key, b"at home")
        pool = ring.server(0).pool
        taken = pool.take()
        assert method.call(ring.servers, key) == method.nobody
        assert ring.counters.errors == 1
        deleted = method is METHODS["delete_many"]
        # A delete that cannot be told now is told before anything is read there.
        assert ring.server(0).up is not deleted
        assert get(ring.servers, key) is None
        pool.give(taken)
        assert get(ring.servers, key) == (None if deleted else b"at home")
        assert ring.server(0).up


def test_when_no_servers_were_ever_found_nobody_is_asked(
    clock: ManualClock, method: Method
) -> None:
    class Lost:
        def find(self) -> Found:
            raise DiscoveryError("the name server is away")

    with Ring(clock, discovery=Lost()) as ring:
        assert method.call(ring.servers, b"key") == method.nobody
        assert ring.servers.each(saying(1), 0) == {}
        assert ring.counters.errors == 2
    with (
        Ring(clock, strict=True, discovery=Lost()) as ring,
        pytest.raises(NoServersError, match="the name server is away"),
    ):
        method.call(ring.servers, b"key")


# -- Deletes ------------------------------------------------------------------------------


def test_a_delete_goes_to_the_home_and_to_the_stand_in(ring: Ring, key: bytes) -> None:
    assert ring.servers.delete_many([key, b"nothing"]) == {key: True, b"nothing": False}
    assert ring.holds(0, key) is None
    assert ring.holds(1, key) is None


def test_a_delete_finds_out_that_a_server_is_back_before_its_pause_is_over(
    ring: Ring, key: bytes
) -> None:
    ring.cut_off(0)
    get(ring.servers, key)
    ring.restore(0)
    assert not ring.server(0).ready()
    # Others may hold the server for well, and read there what this is to remove.
    ring.servers.delete_many([key])
    assert ring.holds(0, key) is None
    assert ring.server(0).up


def test_a_delete_that_met_nobody_is_not_made_on_what_others_wrote_after_a_restart(
    ring: Ring, key: bytes, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = b"100"

    def statistics(request: bytes, answer: bytes) -> bytes:
        if request == b"stats":
            return b"STAT pid 1\r\nSTAT uptime 0\r\nSTAT time %b\r\nEND\r\n" % started
        return answer

    ring.peers[0].spoil = statistics
    get(ring.servers, key)
    home = ring.server(0)
    dial = Dialer.dial

    def gone(dialer: Dialer) -> socket.socket:
        if dialer._address == home.address:
            raise ConnectionRefusedError
        return dial(dialer)

    with monkeypatch.context() as patched:
        patched.setattr(Dialer, "dial", gone)
        home.pool.close()
        for _ in range(2):  # it is up at first, and known to be gone then
            ring.servers.delete_many([key])
    assert home.stats.owed == 1
    started = b"200"
    ring.peers[0].rewrite(key, b"of the new run")
    clock.advance(PAUSE_IS_OVER)
    assert get(ring.servers, key) == b"of the new run"


def test_a_delete_that_a_stand_in_misses_is_owed_to_it(
    ring: Ring, key: bytes, clock: ManualClock
) -> None:
    ring.cut_off(1)
    assert ring.servers.delete_many([key])[key]
    assert ring.counters.errors == 0  # the value is gone: nothing has failed for the caller
    assert ring.server(1).stats.owed == 1
    ring.restore(1)
    clock.advance(PAUSE_IS_OVER)
    ring.cut_off(0)
    assert get(ring.servers, key) is None
    assert ring.holds(1, key) is None


def test_many_keys_are_deleted_in_one_round_trip_for_each_server(ring: Ring) -> None:
    keys = [*ring.keys(0, 20), *ring.keys(1, 20)]
    for number in (0, 1):
        for wire in keys:
            ring.peers[number].rewrite(wire, b"x")
    sent = threading.Barrier(2)

    def all_asked_first(request: bytes, answer: bytes) -> bytes:
        if request.split()[:2] in ([b"md", keys[0]], [b"delete", keys[0]]):
            sent.wait(10)
        return answer

    assert ring.servers.read_many(keys) == dict.fromkeys(keys, b"x")
    for peer in ring.peers:
        peer.spoil = all_asked_first
    assert ring.servers.delete_many(keys) == dict.fromkeys(keys, True)
    assert not ring.peers[0].items
    assert not ring.peers[1].items


def test_a_delete_that_was_made_before_any_server_was_found_is_not_forgotten(
    clock: ManualClock,
) -> None:
    class Late:
        """Finds its servers in the end."""

        def __init__(self) -> None:
            self.found: Found | None = None

        def find(self) -> Found:
            if self.found is None:
                raise DiscoveryError("the name server is away")
            return self.found

    late = Late()
    with Ring(clock, discovery=late) as ring:
        assert ring.servers.delete_many([b"k"]) == {b"k": False}
        before = clock.wall()
        clock.advance(10)
        late.found = StaticDiscovery(ring.told).find()
        assert get(ring.servers, b"k") is None
        # What is there is older than the delete, for all we know.
        assert not ring.servers.trusts(b"k", before)
        assert ring.servers.trusts(b"k", clock.wall() + 1)


# -- Many keys ------------------------------------------------------------------------------


def test_all_servers_are_asked_before_an_answer_is_read(ring: Ring) -> None:
    keys = [*ring.keys(0, 30), *ring.keys(1, 30)]
    meet = threading.Barrier(2)

    def all_asked_first(request: bytes, answer: bytes) -> bytes:
        first = request.split()[:2] in ([b"set", keys[0]], [b"set", keys[30]])
        if first or request.startswith((b"get ", b"mn")):
            meet.wait(10)
        return answer

    assert put_many(ring.servers, keys, b"old") == dict.fromkeys(keys, True)
    for peer in ring.peers:
        peer.spoil = all_asked_first
    assert put_many(ring.servers, keys, b"new") == dict.fromkeys(keys, True)
    assert ring.servers.read_many(keys) == dict.fromkeys(keys, b"new")
    assert [ring.server(number).stats.hits for number in (0, 1)] == [30, 30]
    assert ring.counters.errors == 0


def test_the_keys_of_one_server_that_fails_go_to_the_other_within_the_call(ring: Ring) -> None:
    mine, others = ring.keys(0, 10), ring.keys(1, 10)
    for key in others:
        ring.peers[1].rewrite(key, b"at home")
    ring.peers[1].rewrite(mine[0], b"away")
    ring.cut_off(0)
    assert ring.servers.read_many([*mine, *others]) == {
        mine[0]: b"away",
        **dict.fromkeys(others, b"at home"),
    }
    assert ring.counters.errors == 0
    written = put_many(ring.servers, [*mine, *others], b"new")
    assert written == dict.fromkeys([*mine, *others], True)
    assert {ring.holds(1, key) for key in mine} == {b"new away"}
    assert {ring.holds(1, key) for key in others} == {b"new"}
    assert ring.server(0).stats.owed == 10


@pytest.mark.parametrize("known", [False, True])
def test_a_write_of_many_that_nobody_takes_is_owed_to_all_that_it_may_have_reached(
    ring: Ring, known: bool
) -> None:
    if known:
        for server in servers_of(ring):
            ring.servers.on(server, saying(BROKEN), None)
    ring.cut_off(0, 1)
    keys = [*ring.keys(0, 3)]  # the other one fails as their stand-in
    assert put_many(ring.servers, keys, b"new") == {}
    assert [server.stats.owed for server in servers_of(ring)] == [3, 3]


def test_an_answer_that_breaks_off_in_the_middle_leaves_no_connection_to_others(
    ring: Ring,
) -> None:
    mine, others = ring.keys(0, 3), ring.keys(1, 3)
    for key in mine:
        ring.peers[0].rewrite(key, b"mine")
    for key in others:
        ring.peers[1].rewrite(key, b"theirs")
    ring.peers[0].spoil = lambda request, answer: (
        Cut(answer[:-9]) if request.startswith(b"get ") else answer
    )
    found = ring.servers.read_many([*mine, *others])
    assert {key: found.get(key) for key in others} == dict.fromkeys(others, b"theirs")
    assert ring.servers.read_many(others) == dict.fromkeys(others, b"theirs")
    assert ring.peers[1].accepted == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, CodecError, ZeroDivisionError])
def test_what_interrupts_one_conversation_ends_all(ring: Ring, error: type[BaseException]) -> None:
    keys = [ring.key(0), ring.key(1)]

    def life(link: Connection, away: bool) -> int:
        # The last of them: the other server has been asked by then, and not been listened to.
        last = max(peer.address for peer in ring.peers)
        if str(link.address) == last:
            raise error
        return 10

    assert put_many(ring.servers, keys, b"old") == dict.fromkeys(keys, True)
    with pytest.raises(error):
        ring.servers.write_many(dict.fromkeys(keys, b"x"), life)
    assert ring.servers.read_many(keys).keys() == set(keys)
    assert [peer.accepted for peer in ring.peers] == [2, 2]
    assert ring.counters.errors == 0


def test_many_threads_that_ask_all_servers_do_not_wait_for_one_another(
    clock: ManualClock,
) -> None:
    with Ring(clock, 3, pool_size=1, pool_timeout=20) as ring:
        keys = [ring.key(number) for number in range(3)]
        assert put_many(ring.servers, keys, b"x") == dict.fromkeys(keys, True)

        def read(number: int) -> bool:
            shuffled = keys[number % 3 :] + keys[: number % 3]
            return all(
                ring.servers.read_many(shuffled) == dict.fromkeys(keys, b"x") for _ in range(20)
            )

        assert together(read, 12) == [True] * 12


# -- Servers that change in use ---------------------------------------------------------------


def test_other_servers_that_are_found_in_the_middle_of_a_read_are_no_failure(
    clock: ManualClock,
) -> None:
    with Ring(clock, 3) as ring:
        keys = [wire for number in range(3) for wire in ring.keys(number, 10)]
        assert put_many(ring.servers, keys, b"x") == dict.fromkeys(keys, True)
        gone = ring.keys(2, 10)

        def leave(request: bytes, answer: bytes) -> bytes:
            if request.startswith(b"get ") and len(ring.told) == 3:
                ring.told = ring.told[:2]
                ring.look_again()
            return answer

        ring.peers[0].spoil = leave
        found = ring.servers.read_many(keys)
        assert {key: data for key, data in found.items() if key not in gone} == {
            key: b"x" for key in keys if key not in gone
        }
        assert len(ring.servers.fleet.known) == 2
        assert ring.servers.read_many(gone) == {}
        assert ring.counters.errors == 0


# -- What is believed -----------------------------------------------------------------------


def test_everything_is_believed_until_a_server_is_in_doubt(ring: Ring, clock: ManualClock) -> None:
    key = ring.key(0)
    assert ring.servers.trusts(key, -1e9)
    ring.server(0).trusted_from = clock.wall()
    assert not ring.servers.trusts(key, clock.wall() - 1)
    assert not ring.servers.trusts(key, clock.wall())
    assert ring.servers.trusts(key, clock.wall() + 1)


def test_what_a_server_in_doubt_has_said_is_not_believed_because_it_failed_since(
    ring: Ring, clock: ManualClock
) -> None:
    key = ring.key(0)
    ring.server(0).trusted_from = clock.wall()
    created = clock.wall() - 1
    ring.peers[0].rewrite(key, b"from before")
    assert get(ring.servers, key) == b"from before"
    # Another thread meets a failure, between the answer and the question whether to believe it.
    ring.servers.on(ring.server(0), saying(BROKEN), None)
    assert not ring.servers.trusts(key, created)


def servers_of(ring: Ring) -> list[Server]:
    return [ring.server(number) for number in range(len(ring.peers))]


def test_closing_closes_idle_connections_and_works_on(ring: Ring) -> None:
    key = ring.key(0)
    assert put(ring.servers, key, b"x")
    ring.servers.close()
    assert get(ring.servers, key) == b"x"
    assert ring.peers[0].accepted == 2
    assert all(server.up for server in servers_of(ring))


def test_closing_tells_a_server_that_is_back_what_it_is_owed(ring: Ring, key: bytes) -> None:
    assert put(ring.servers, key, b"old")
    ring.cut_off(0)
    assert ring.servers.delete_many([key]) == {key: True}  # the stand-in had one
    assert ring.server(0).stats.owed == 1
    ring.peers[0].rewrite(key, b"old")
    ring.restore(0)
    ring.servers.close()
    assert ring.server(0).stats.owed == 0
    assert key not in ring.peers[0].items
