"""Every exchange with a server, spoilt in every way: what is answered, counted and closed.

Each test runs in both dialects: against a peer that speaks meta, and one that does not.
"""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import SECRET
from tests.fakes import together
from tests.integration.faults import impatient
from tests.integration.peers import Cut, Peer, honest
from tiered.clients.base import Claim
from tiered.clients.memcached import MemcachedClient
from tiered.decorators import cached
from tiered.testing import ManualClock

PAUSE_IS_OVER = 20.0
"""Longer than any pause after failures."""


class Act(NamedTuple):
    """An operation, how the requests that it depends on begin, and its answer if they fail."""

    text: tuple[bytes, ...]
    meta: tuple[bytes, ...]
    call: Callable[[MemcachedClient], Any]
    failed: Any
    owed: bool = False
    """Whether the server is to forget "k" when it returns, because it missed a change of it."""
    errors: int = 1
    """How many failures one failure of the server makes."""

    def concerns(self, request: bytes) -> bool:
        return request.startswith((*self.text, *self.meta))


def released(client: MemcachedClient) -> bool:
    claim = client.claim("k")
    assert claim is not None
    return claim.release()


ACTS = {
    "get": Act((b"get ",), (b"mg ",), lambda client: client.get("k", "miss"), "miss"),
    "get_multi": Act(
        (b"get ",), (b"get ",), lambda client: client.get_multi(["k", "l"], 0), {"k": 0, "l": 0}
    ),
    "put": Act((b"set ",), (b"ms ",), lambda client: client.put("k", "new", 100), False, True),
    "put_multi": Act(
        (b"set ",),
        (b"ms ", b"mn"),
        lambda client: client.put_multi({"k": "new"}, 100),
        {"k": False},
        True,
    ),
    "add": Act((b"add ",), (b"ms ",), lambda client: client.add("free", "new", 100), False),
    "renew": Act((b"cas ",), (b"ms ",), lambda client: client.renew("k", 1_000_000), False, True),
    # Its second half, the end of claims, is another question.
    "expire": Act((b"cas ",), (b"ms ",), lambda client: client.expire("k"), False, True, 2),
    "delete": Act((b"delete ",), (b"md ",), lambda client: client.discard("k"), False, True),
    # Who cannot ask must compute for itself, or nobody would.
    "claim": Act((b"add ",), (b"mg ",), lambda client: isinstance(client.claim("k"), Claim), True),
    "release": Act((b"delete ", b"cas "), (b"md ",), released, False),
    "usage": Act((b"stats",), (b"stats",), lambda client: client.usage, 0),
}


@pytest.fixture(params=["meta", "text"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    with Peer(speaks_meta=request.param == "meta") as peer:
        yield peer


@pytest.fixture
def client(peer: Peer, clock: ManualClock) -> Iterator[MemcachedClient]:
    """A client that holds "value" under "k" and "bystander", over one connection."""
    with MemcachedClient(
        [peer.address],
        checksum_key=SECRET,
        timeout=5,
        pool_size=1,
        pool_timeout=0.01,
        clock=clock,
    ) as client:
        assert client.put_multi({"k": "value", "bystander": "value"}, 100_000)
        yield client


@pytest.fixture(params=ACTS)
def act(request: pytest.FixtureRequest) -> Act:
    return ACTS[request.param]


def spoiling(act: Act, spoilt: Callable[[bytes], bytes | Cut]) -> Callable[..., bytes | Cut]:
    """Spoils the answers to *act*'s command only."""
    return lambda request, answer: spoilt(answer) if act.concerns(request) else answer


def test_the_peer_serves_what_a_server_would(peer: Peer, client: MemcachedClient, act: Act) -> None:
    done = act.call(client)
    assert client.stats.errors == 0
    assert done in (True, "value", {"k": "value", "l": 0}, {"k": True}, 5)
    assert any(act.concerns(request) for request in peer.requests)


def all_is_well(client: MemcachedClient, *, owed: bool) -> bool:
    """Whether the server serves what it is to serve."""
    expected = {"bystander": "value", "k": "gone" if owed else "value"}
    return {key: client.get(key, "gone") for key in expected} == expected


def test_an_answer_that_breaks_off_anywhere_is_a_counted_failure(
    peer: Peer, client: MemcachedClient, clock: ManualClock, act: Act
) -> None:
    kept = dict(peer.items)
    answers: list[bytes] = []

    def noted(answer: bytes) -> bytes:
        if answer:  # those to quiet commands are none
            answers.append(answer)
        return answer

    def cut(length: int) -> Callable[[bytes], Cut]:
        return lambda answer: Cut(answer[:length])

    peer.spoil = spoiling(act, noted)
    act.call(client)
    assert answers
    for length in range(len(answers[0])):
        peer.items = dict(kept)
        peer.spoil = spoiling(act, cut(length))
        errors, accepted = client.stats.errors, peer.accepted
        assert act.call(client) == act.failed
        assert client.stats.errors == errors + act.errors
        clock.advance(PAUSE_IS_OVER)
        peer.items, peer.spoil = dict(kept), honest
        assert all_is_well(client, owed=act.owed)
        # A delete looks whether the server is there again, before it gives up.
        assert accepted + 1 <= peer.accepted <= accepted + 3


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\r\n",
        b"HELLO\r\n",
        b"\xff\xfe\x00\r\n",
        b"ERROR\r\n",
        b"CLIENT_ERROR bad data chunk\r\n",
        b"VALUE\r\n",
        b"VALUE another 0 5\r\nvalue\r\nEND\r\n",
        b"VALUE another 0 5 1\r\nvalue\r\nEND\r\n",
        b"VALUE s1:k 0 5\r\nvalueEND\r\n",
        b"VA 5 O999\r\nvalue\r\n",
        b"VA\r\n",
        b"VA x O2\r\n\r\n",
        b"HD\r\n",
        b"HD O999\r\n",
        b"EN O999\r\n",
        b"NF O999\r\n",
        b"VALUE s1:k 0 x 1\r\n\r\nEND\r\n",
        b"VALUE s1:k 0 -5 1\r\nvalue\r\n",
        b"TOUCHED\r\n",
    ],
)
def test_nonsense_is_a_counted_failure_and_ends_the_connection(
    peer: Peer, client: MemcachedClient, clock: ManualClock, act: Act, nonsense: bytes
) -> None:
    kept = dict(peer.items)
    peer.spoil = spoiling(act, lambda answer: nonsense)
    assert act.call(client) == act.failed
    assert client.stats.errors == act.errors
    clock.advance(PAUSE_IS_OVER)
    peer.items, peer.spoil = kept, honest
    # What follows the nonsense would be taken for the answer to this.
    assert all_is_well(client, owed=act.owed)
    # A server may have no figures, and says so in this way.
    has_none = act is ACTS["usage"] and nonsense.startswith((b"ERROR", b"CLIENT_ERROR"))
    assert peer.accepted == 1 if has_none else 2 <= peer.accepted <= 4


@pytest.mark.parametrize(
    "figures",
    [b"STAT bytes many\r\n", b"STAT \xff 1\r\n", b"STAT bytes\r\n", b"STAT bytes 1 2\r\n"],
)
def test_figures_that_are_none_are_left_out_of_the_sum(
    peer: Peer, client: MemcachedClient, figures: bytes
) -> None:
    peer.spoil = lambda request, answer: figures + b"END\r\n"
    assert client.usage in (0, 1)


def test_a_write_that_the_server_did_not_make_is_not_reported_as_made(
    peer: Peer, client: MemcachedClient
) -> None:
    peer.spoil = lambda request, answer: answer.replace(b"HD", b"NS").replace(
        b"STORED", b"NOT_STORED"
    )
    assert not client.put("k", "new", 100)
    assert client.stats.drops == 1


def test_what_a_server_says_unasked_is_not_the_next_answer(
    peer: Peer, client: MemcachedClient, clock: ManualClock
) -> None:
    assert client.claim("k") is not None
    [server] = client._servers.fleet.servers
    idle = server.pool._idle[-1].stream
    peer.say(b"STORED\r\n")
    assert select.select([idle], [], [], 10)[0]  # it has come
    # Taken for an answer, this would be the second claim on one key.
    assert client.claim("k") is None
    clock.advance(PAUSE_IS_OVER)
    assert client.get("k") == "value"
    assert peer.accepted == 2


def test_a_connection_that_breaks_off_is_told_as_what_it_is(
    peer: Peer, client: MemcachedClient, caplog: pytest.LogCaptureFixture
) -> None:
    peer.spoil = lambda request, answer: Cut(answer[:3])
    assert client.get("k", "miss") == "miss"
    assert f"{peer.address} cannot be reached" in caplog.text


OUT_OF_MEMORY = b"SERVER_ERROR out of memory storing object\r\n"


def test_a_clean_error_line_is_counted_and_leaves_the_connection_open(
    peer: Peer, client: MemcachedClient, clock: ManualClock, act: Act
) -> None:
    kept = dict(peer.items)
    # The end of the answers to quiet writes is none of its own.
    peer.spoil = spoiling(act, lambda answer: answer if answer == b"MN\r\n" else OUT_OF_MEMORY)
    assert act.call(client) == act.failed
    assert 1 <= client.stats.errors <= act.errors
    clock.advance(PAUSE_IS_OVER)
    peer.items, peer.spoil = kept, honest
    # A refused write is none, but a refused delete is still to be made.
    assert all_is_well(client, owed=act is ACTS["delete"])
    # Under memory pressure a reconnect after each refusal would be a storm.
    assert peer.accepted == 1


def test_a_server_that_refuses_a_write_is_still_read(peer: Peer, client: MemcachedClient) -> None:
    peer.spoil = spoiling(ACTS["put"], lambda answer: OUT_OF_MEMORY)
    assert not client.put("l", "new", 100)
    assert client.get("k") == "value"


def test_a_value_that_is_too_large_leaves_the_connection_open(
    peer: Peer, client: MemcachedClient
) -> None:
    peer.spoil = spoiling(
        ACTS["put"], lambda answer: b"SERVER_ERROR object too large for cache\r\n"
    )
    assert not client.put("k", "new", 100)
    assert client.get("k", "gone") == "gone"
    assert client.stats.unstorable == 1
    assert peer.accepted == 1


class Rival:
    """Writes the key that was just read, so many times."""

    def __init__(self, peer: Peer, times: int, data: bytes | None = None) -> None:
        self.peer = peer
        self.times = times
        self.data = data
        peer.spoil = self

    def __call__(self, request: bytes, answer: bytes) -> bytes:
        reads_token = request.startswith(b"gets ") or b" v c " in request
        if reads_token and self.times:
            self.times -= 1
            self.peer.rewrite(request.split()[1], self.data)
        return answer


CHANGES: dict[str, Callable[[MemcachedClient], bool]] = {
    "renew": lambda client: client.renew("k", 1_000_000),
    "expire": lambda client: client.expire("k"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_a_rival_write_overtakes_is_tried_again(
    peer: Peer, client: MemcachedClient, change: str
) -> None:
    rival = Rival(peer, times=3)
    assert CHANGES[change](client)
    assert rival.times == 0
    assert sum(request.startswith(b"cas ") or b" C" in request for request in peer.requests) == 4


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_always_overtaken_ends_without_one(
    peer: Peer, client: MemcachedClient, change: str
) -> None:
    Rival(peer, times=1_000_000)
    assert not CHANGES[change](client)
    peer.spoil = honest
    assert client.get("k") == "value"
    assert client.get_ttl("k")[1] == pytest.approx(100_000)


def test_an_add_that_a_rival_overtakes_adds_nothing(
    peer: Peer, client: MemcachedClient, clock: ManualClock
) -> None:
    # The rival's value is fresh for the same key: what it writes there is a copy of our own.
    assert client.put("l", "the rival's", 100)
    data, _ = peer.items.pop(b"s1:l")
    Rival(peer, times=1, data=data)
    assert not client.add("l", "ours", 100)
    assert client.get("l") == "the rival's"
    clock.advance(101)  # stale by now: to be replaced, but not for ever
    Rival(peer, times=2)
    assert client.add("l", "ours", 100)
    assert client.get("l") == "ours"
    clock.advance(101)
    Rival(peer, times=1_000_000)
    assert not client.add("l", "never", 100)
    assert client.stats.errors == 0


def test_a_life_is_not_shortened_and_not_ended_twice(client: MemcachedClient) -> None:
    assert not client.renew("k", 10)
    assert client.get_ttl("k")[1] == pytest.approx(100_000)
    assert client.expire("k")
    assert not client.expire("k")
    assert not client.renew("nothing", 10)


class Timeout(BaseException):
    """What cooperative schedulers throw into a function that waits for a socket."""


@pytest.fixture
def interruption() -> Iterator[Callable[[type[BaseException]], Callable[[], None]]]:
    """Makes a function that has an exception raised in the main thread, where it waits."""
    previous = signal.getsignal(signal.SIGUSR1)
    main = threading.main_thread().ident
    assert main is not None

    def of(error: type[BaseException]) -> Callable[[], None]:
        def handler(*_: object) -> None:
            raise error

        signal.signal(signal.SIGUSR1, handler)
        return lambda: signal.pthread_kill(main, signal.SIGUSR1)

    yield of
    signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Timeout])
def test_an_interruption_closes_the_socket_and_gives_the_place_back(
    peer: Peer,
    client: MemcachedClient,
    interruption: Callable[[type[BaseException]], Callable[[], None]],
    act: Act,
    error: type[BaseException],
) -> None:
    kept = dict(peer.items)
    interrupt, noticed = interruption(error), threading.Event()

    def late(answer: bytes) -> bytes:
        interrupt()
        assert noticed.wait(10)
        return answer

    peer.spoil = spoiling(act, late)
    with pytest.raises(error):
        act.call(client)
    peer.items, peer.spoil = kept, honest
    noticed.set()
    # The pool has one place; it is free, and the late answer meets no question.
    assert all_is_well(client, owed=False)
    assert peer.accepted == 2
    assert client.stats.errors == 0


def test_an_interrupted_call_is_the_callers_and_the_next_one_is_served(
    peer: Peer,
    client: MemcachedClient,
    interruption: Callable[[type[BaseException]], Callable[[], None]],
) -> None:
    f = cached(client, 60)(lambda x: x + 1)
    interrupt, noticed = interruption(KeyboardInterrupt), threading.Event()

    def late(request: bytes, answer: bytes) -> bytes:
        interrupt()
        assert noticed.wait(10)
        return answer

    peer.spoil = late
    with pytest.raises(KeyboardInterrupt):
        f(1)
    peer.spoil = honest
    noticed.set()
    assert f(1) == 2
    assert f.peek(1) == 2


def is_read(request: bytes) -> bool:
    return request.startswith((b"get ", b"mg "))


def connected(peer: Peer, clock: ManualClock, connections: int) -> MemcachedClient:
    """A client with so many idle connections, and "value" under "k"."""
    client = MemcachedClient([peer.address], checksum_key=SECRET, clock=clock)
    assert client.put("k", "value", 100_000)
    meet = threading.Barrier(connections)

    def together_only(request: bytes, answer: bytes) -> bytes:
        if is_read(request):
            meet.wait(10)
        return answer

    peer.spoil = together_only
    assert together(lambda _: client.get("k"), connections) == ["value"] * connections
    peer.spoil = honest
    assert peer.accepted == connections
    return client


def test_a_restarted_server_costs_one_failure_not_one_for_each_idle_connection(
    peer: Peer, clock: ManualClock
) -> None:
    with connected(peer, clock, 4) as client:
        peer.hang_up()
        client.get("k", "miss")
        clock.advance(PAUSE_IS_OVER)
        assert together(lambda _: client.get("k", "miss"), 4) == ["value"] * 4
        assert client.stats.errors <= 1


def test_one_outage_that_many_threads_meet_is_one_failure_for_the_pause(
    peer: Peer, clock: ManualClock
) -> None:
    with connected(peer, clock, 8) as client:
        meet = threading.Barrier(8)

        def all_break_off(request: bytes, answer: bytes) -> bytes | Cut:
            if not is_read(request):
                return answer
            meet.wait(10)
            return Cut(b"")

        peer.spoil = all_break_off
        assert together(lambda _: client.get("k", "miss"), 8) == ["miss"] * 8
        peer.spoil = honest
        clock.advance(0.25)  # the pause after a first failure
        assert client.get("k", "still left alone") == "value"


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "nowhere.invalid"])
def test_a_name_that_means_nothing_is_a_counted_miss(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    if host == "nowhere.invalid":  # the others fail before anybody is asked

        def unknown(*_: object, **__: object) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = MemcachedClient([host], checksum_key=SECRET, clock=clock)
    assert client.get("k", "miss") == "miss"
    assert client.stats.errors == 1


def test_a_stalling_server_holds_a_caller_for_the_timeout_only(
    peer: Peer, clock: ManualClock
) -> None:
    noticed = threading.Event()

    def late(request: bytes, answer: bytes) -> bytes:
        assert noticed.wait(10)
        return answer

    with MemcachedClient([peer.address], checksum_key=SECRET, timeout=20, clock=clock) as client:
        assert client.put("k", "value", 100)
        peer.spoil = late
        with impatient(client, 0.05):
            assert client.get("k", "miss") == "miss"
        peer.spoil = honest
        noticed.set()
        clock.advance(PAUSE_IS_OVER)
        assert client.get("k") == "value"
        assert peer.accepted == 2
