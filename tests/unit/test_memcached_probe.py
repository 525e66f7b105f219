"""What a server is found to be, from the oldest that are in use to those that make no sense."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import SECRET
from tests.fleets import PAUSE_IS_OVER, make_server
from tests.integration.peers import Cut, Peer, honest
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.clients.memcached import probe as module
from tiered.clients.memcached.meta import EARLY_META, META, MetaDialect
from tiered.clients.memcached.probe import Profile, ask_stats, authenticate, probe
from tiered.clients.memcached.stream import Stream, Traffic
from tiered.errors import BackendError, ServerRefusal
from tiered.testing import ManualClock

FIGURES = b"STAT pid 7\r\nSTAT uptime 50\r\nSTAT time 1800000000\r\nEND\r\n"
SETTINGS = b"STAT maxbytes 1\r\nSTAT item_size_max 2097152\r\nEND\r\n"
WALL = 1_800_000_000.5


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM_CLOCK", ManualClock(wall=WALL))


@pytest.fixture
def said() -> Iterator[Callable[[bytes], Stream]]:
    """Makes a stream on which a server has said such things already."""
    ends = socket.socketpair()

    def stream(words: bytes) -> Stream:
        ends[1].sendall(words)
        return Stream(ends[0], 0.05, Traffic())

    yield stream
    for end in ends:
        end.close()


class Answers:
    """A stream to a server that answers what it is asked."""

    def __init__(
        self, version: bytes, mn: bytes, stats: bytes = FIGURES, settings: bytes = SETTINGS
    ) -> None:
        self.first = version + mn + stats
        self.settings = settings
        self.asked: list[bytes] = []
        self.waiting = b""

    def settimeout(self, _seconds: float) -> None:
        """Nobody waits here."""

    def sendall(self, request: bytes) -> None:
        self.asked.append(request)
        self.waiting += self.settings if request == b"stats settings\r\n" else self.first

    def recv(self, _size: int) -> bytes:
        answer, self.waiting = self.waiting, b""
        if not answer:
            raise TimeoutError("timed out")
        return answer

    def probed(self, known: Profile | None = None) -> Profile:
        itself: Any = self
        return probe(Stream(itself, 1, Traffic()), known)


@pytest.mark.parametrize(
    ("version", "mn", "dialect"),
    [
        (b"VERSION 1.4.33\r\n", b"ERROR\r\n", "text"),
        (b"VERSION 1.5.22\r\n", b"ERROR\r\n", "text"),
        # It has meta commands, but not what became of them.
        (b"VERSION 1.6.0\r\n", b"MN\r\n", "text"),
        (b"VERSION 1.6.9\r\n", b"MN\r\n", "text"),
        (b"VERSION 1.6.10\r\n", b"MN\r\n", "meta"),
        (b"VERSION 1.6.18\r\n", b"MN\r\n", "meta"),
        (b"VERSION 1.6.40\r\n", b"MN\r\n", "meta"),
        (b"VERSION 1.7\r\n", b"MN\r\n", "meta"),
        (b"VERSION 2.0.0-rc1\r\n", b"MN\r\n", "meta"),
        # Proxies: some call themselves what they like, some forward no meta commands.
        (b"VERSION ours\r\n", b"MN\r\n", "meta"),
        (b"VERSION ours\r\n", b"ERROR\r\n", "text"),
        (b"VERSION mcrouter 1.6.18\r\n", b"CLIENT_ERROR unknown command\r\n", "text"),
        (b"VERSION 1.6.18\r\n", b"SERVER_ERROR no such command\r\n", "text"),
        (b"ERROR\r\n", b"ERROR\r\n", "text"),
        (b"ERROR\r\n", b"MN\r\n", "meta"),
        (b"CLIENT_ERROR no\r\n", b"ERROR\r\n", "text"),
        (b"SERVER_ERROR no\r\n", b"ERROR\r\n", "text"),
        (b"VERSION \r\n", b"ERROR\r\n", "text"),
    ],
)
def test_the_dialect_of_a_release(version: bytes, mn: bytes, dialect: str) -> None:
    profile = Answers(version, mn).probed()
    assert profile.dialect.name == dialect
    assert profile.release == version.strip().removeprefix(b"VERSION").strip().decode()
    assert profile.run == ("7", "1799999950")
    assert profile.item_limit == 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        (b"VERSION 1.6.17\r\n", EARLY_META),
        (b"VERSION 1.6.18\r\n", META),
        (b"VERSION ours\r\n", EARLY_META),
    ],
)
def test_who_is_not_known_to_tell_the_token_of_a_write_is_not_asked(
    version: bytes, dialect: MetaDialect
) -> None:
    assert Answers(version, b"MN\r\n").probed().dialect is dialect


@pytest.mark.parametrize("refusal", [b"ERROR\r\n", b"CLIENT_ERROR x\r\n", b"SERVER_ERROR x\r\n"])
def test_a_proxy_that_has_no_figures_is_used_all_the_same(refusal: bytes) -> None:
    profile = Answers(b"VERSION 1.6.18\r\n", b"MN\r\n", refusal, refusal).probed()
    assert profile == Profile("1.6.18", META, None, 0.0, 1024 * 1024)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (b"STAT item_size_max 1048576\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max 1073741824\r\nEND\r\n", 1024**3),
        (b"END\r\n", 1024 * 1024),
        (b"STAT item_size_max\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max many\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max -1\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max 0\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max 1023\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max \xc2\xb2\r\nEND\r\n", 1024 * 1024),
        (b"STAT item_size_max " + b"9" * 5000 + b"\r\nEND\r\n", 1024 * 1024),
    ],
)
def test_the_largest_item_is_what_the_server_says_or_what_is_usual(
    settings: bytes, limit: int
) -> None:
    assert Answers(b"VERSION 1.6.18\r\n", b"MN\r\n", settings=settings).probed().item_limit == limit


@pytest.mark.parametrize(
    ("server_time", "offset"),
    [(b"1800000000", 0.0), (b"1799999999", 0.0), (b"1800000100", 99.5), (b"1799990000", -10000.5)],
)
def test_a_clock_that_differs_by_more_than_a_round_trip_is_noted(
    server_time: bytes, offset: float
) -> None:
    figures = b"STAT time %b\r\nEND\r\n" % server_time
    assert Answers(b"VERSION 1\r\n", b"ERROR\r\n", figures).probed().clock_offset == offset


@pytest.mark.parametrize(
    "figures",
    [
        b"END\r\n",
        b"STAT pid 7\r\nEND\r\n",
        b"STAT pid 7\r\nSTAT uptime 1\r\nSTAT time soon\r\nEND\r\n",
        b"STAT pid 7\r\nSTAT uptime\r\nSTAT time 1800000000\r\nEND\r\n",
        b"STAT pid 7\r\nSTAT time " + b"9" * 4000 + b"\r\nEND\r\n",
        b"STAT pid 7\r\nSTAT uptime 1\r\nSTAT time " + b"9" * 5000 + b"\r\nEND\r\n",
        b"STAT \r\nSTAT  \r\nSTAT \xff\xff 1\r\nEND\r\n",
    ],
)
def test_figures_that_are_none_tell_no_run_and_no_time(figures: bytes) -> None:
    profile = Answers(b"VERSION 1.6.18\r\n", b"MN\r\n", figures).probed()
    assert (profile.run, profile.clock_offset) == (None, 0.0)


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n",
        b"220 mail ready\r\n500 what?\r\n",
        b"\r\n\r\n\r\n",
        b"\x00\x01\x02\r\nMN\r\nEND\r\n",
        b"VERSION 1.6.18\r\nMN\r\nwhat?\r\n",
        b"VERSION 1.6.18\r\nMN\r\nSTORED\r\n",
        b"VERSION 1.6.18\r\nMN\r\nEND\r\nEND\r\n",
        b"VERSION 1.6.18\r\nMN\r\n" + b"STAT a 1\r\n" * 10_002 + b"END\r\n",
        b"-ERR unknown command\r\n-ERR unknown command\r\n",
    ],
)
def test_who_is_no_memcached_is_not_used(words: bytes) -> None:
    itself: Any = Answers(words, b"", b"")
    with pytest.raises((BackendError, TimeoutError)):
        probe(Stream(itself, 1, Traffic()))


# -- What is known already --------------------------------------------------------------


def test_of_a_run_that_is_known_the_settings_are_not_asked_again() -> None:
    known = Answers(b"VERSION 1.6.18\r\n", b"MN\r\n").probed()
    again = Answers(b"VERSION 1.6.18\r\n", b"MN\r\n")
    assert again.probed(known) is known
    assert again.asked == [b"version\r\nmn\r\nstats\r\n"]


@pytest.mark.parametrize(
    ("version", "mn", "figures"),
    [
        (b"VERSION 1.4.33\r\n", b"ERROR\r\n", FIGURES),
        (b"VERSION 1.6.18\r\n", b"ERROR\r\n", FIGURES),
        (b"VERSION 1.6.21\r\n", b"MN\r\n", FIGURES),
        (b"VERSION 1.6.18\r\n", b"MN\r\n", FIGURES.replace(b"pid 7", b"pid 8")),
        (b"VERSION 1.6.18\r\n", b"MN\r\n", FIGURES.replace(b"uptime 50", b"uptime 1")),
        (b"VERSION 1.6.18\r\n", b"MN\r\n", b"END\r\n"),
    ],
)
def test_another_run_or_another_server_is_looked_at_anew(
    version: bytes, mn: bytes, figures: bytes
) -> None:
    known = Answers(b"VERSION 1.6.18\r\n", b"MN\r\n").probed()
    again = Answers(version, mn, figures, b"STAT item_size_max 4096\r\nEND\r\n")
    profile = again.probed(known)
    assert profile.item_limit == 4096
    assert profile != known


def test_time_that_passes_is_no_other_run() -> None:
    known = Answers(b"VERSION 1.6.18\r\n", b"MN\r\n").probed()
    later = FIGURES.replace(b"uptime 50", b"uptime 60").replace(b"1800000000", b"1800000010")
    assert Answers(b"VERSION 1.6.18\r\n", b"MN\r\n", later).probed(known) is known


def test_a_server_that_is_replaced_by_another_release_is_spoken_to_in_its_dialect(
    clock: ManualClock,
) -> None:
    with (
        Peer() as peer,
        MemcachedClient([peer.address], checksum_key=SECRET, timeout=5, clock=clock) as client,
    ):
        for speaks_meta, release in ((True, "1.6.18"), (False, "1.4.33"), (True, "1.6.18")):
            peer.speaks_meta = speaks_meta
            peer.hang_up()
            client.get("k", None)
            clock.advance(PAUSE_IS_OVER)
            assert client.put("k", release, 100)
            assert client.get("k") == release
            assert client.stats.servers[0].release == release
            commands = {request.split()[0] for request in peer.requests[-2:]}
            assert commands == ({b"ms", b"mg"} if speaks_meta else {b"set", b"get"})


def test_a_probe_that_breaks_off_is_a_failure_and_made_again(clock: ManualClock) -> None:
    answers = [b"VERSION 1.6.18\r\n", b"MN\r\n", b"STAT bytes 5\r\nEND\r\n"]
    total = b"".join(answers)
    with Peer() as peer:
        for length in range(len(total)):
            left = length

            def cut(request: bytes, answer: bytes) -> bytes | Cut:
                nonlocal left
                if len(answer) > left:
                    return Cut(answer[:left])
                left -= len(answer)
                return answer

            peer.spoil = cut
            server = make_server(peer.address, clock)
            with pytest.raises(BackendError):
                server.ask(lambda link: link.dialect.get(link.stream, b"k"))
            assert not server.up
            peer.spoil = honest
            clock.advance(PAUSE_IS_OVER)
            assert server.ready()
            server.pool.close()


def test_a_real_server_is_what_it_is(
    memcached: PrivateMemcached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with (
        PrivateMemcached(options=("-I", "4m")) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as connected,
    ):
        profile = probe(Stream(connected, 10, Traffic()))
        assert profile.release
        assert profile.run is not None
        assert profile.run[0] == str(server.pid)
        assert profile.clock_offset == 0.0
        assert profile.item_limit == 4 * 1024 * 1024


# -- Figures and users ----------------------------------------------------------------------


def test_the_servers_own_figures(said: Callable[[bytes], Stream]) -> None:
    stream = said(b"STAT version 1.6.18\r\nSTAT odd a b c\r\nSTAT none\r\nEND\r\n")
    assert ask_stats(stream, "items") == {"version": "1.6.18", "odd": "a b c", "none": ""}


@pytest.mark.parametrize("refusal", [b"ERROR\r\n", b"CLIENT_ERROR x\r\n", b"SERVER_ERROR x\r\n"])
def test_who_has_no_figures_refuses(said: Callable[[bytes], Stream], refusal: bytes) -> None:
    with pytest.raises(ServerRefusal):
        ask_stats(said(refusal))


def test_who_is_not_let_in_is_told_so_without_the_secret(
    said: Callable[[bytes], Stream],
) -> None:
    with pytest.raises(BackendError, match="does not accept the user and password") as caught:
        authenticate(said(b"CLIENT_ERROR authentication failure\r\n"), ("me", "hunter2"))
    assert "hunter2" not in str(caught.value)
    authenticate(said(b"STORED\r\n"), ("me", "hunter2"))
