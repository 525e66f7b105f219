"""Leases on a real server, in both dialects: who may write, until when, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import unique_prefix
from tests.fleets import make_server
from tests.integration.peers import Raw
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import leases
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.leases import Grant, Lease
from tiered.clients.memcached.meta import META
from tiered.clients.memcached.probe import Dialect, Knowledge
from tiered.clients.memcached.stream import Traffic
from tiered.clients.memcached.text import TEXT
from tiered.routing.addresses import parse_address
from tiered.testing import ManualClock

LIFE = 60


class Side(NamedTuple):
    """A client of the server, and a key with its mark."""

    link: Connection
    key: bytes
    mark: bytes
    lease_of: Callable[[Grant], Lease]

    def take(self, secret: bytes = b"ours", life: int = LIFE) -> Grant | None:
        return self.link.run(lambda link: leases.take(link, self.key, self.mark, secret, life))

    def taken(self, secret: bytes = b"ours", life: int = LIFE) -> Lease:
        grant = self.take(secret, life)
        assert grant is not None
        return self.lease_of(grant)

    def fill(self, lease: Lease, data: bytes = b"filled") -> bool:
        return self.link.run(lambda link: leases.fill(link, lease, data, 100))[0]

    def holds(self, lease: Lease) -> bool:
        return self.link.run(lambda link: leases.holds(link, lease))

    def give_back(self, lease: Lease) -> bool:
        return self.link.run(lambda link: leases.give_back(link, lease))

    def revoke(self) -> None:
        self.link.run(lambda link: leases.revoke(link, self.key, self.mark))

    def do(self, method: str, *args: Any) -> Any:
        return self.link.run(
            lambda link: getattr(link.dialect, method)(link.stream, self.key, *args)
        )

    @property
    def value(self) -> bytes | None:
        found: bytes | None = self.do("get")
        return found


def connected(address: str, dialect: Dialect) -> Connection:
    link = Connection(parse_address(address), Terms(5, 5), Traffic(), Knowledge())
    link.prepare()
    link.dialect = dialect
    return link


@pytest.fixture(params=[META, TEXT], ids=lambda dialect: str(dialect.name))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.fixture
def side(memcached: PrivateMemcached, dialect: Dialect, clock: ManualClock) -> Iterator[Side]:
    prefix = unique_prefix().encode()
    server = make_server(memcached.address, clock)
    link = connected(memcached.address, dialect)
    key, mark = prefix + b"k", prefix + b"mark"
    yield Side(link, key, mark, lambda grant: Lease(key, mark, 1e9, (server, None, grant)))
    link.close()


@pytest.fixture(params=["nothing there", "a value there"])
def present(side: Side, request: pytest.FixtureRequest) -> bool:
    """Whether there is a value when the lease is taken; then a mark stands for a stub."""
    if request.param == "nothing there":
        return False
    assert side.do("set", b"present", 100)
    return True


# -- One at a time --------------------------------------------------------------------------


def test_one_has_it_at_a_time(side: Side, present: bool) -> None:
    lease = side.taken()
    assert (lease.grant.mark is not None) is present
    assert side.take(b"theirs") is None
    assert side.take(b"ours") is None  # not even the holder has it twice
    assert side.value == (b"present" if present else None)


def test_who_has_it_fills_and_that_is_the_end_of_it(side: Side, present: bool) -> None:
    lease = side.taken()
    assert side.holds(lease)
    assert side.fill(lease)
    assert side.value == b"filled"
    assert not side.holds(lease)
    assert not side.fill(lease, b"again")
    assert side.value == b"filled"
    assert side.take(b"theirs") is not None


def test_who_gives_it_back_leaves_everything_as_it_was(side: Side, present: bool) -> None:
    lease = side.taken()
    assert side.give_back(lease)
    assert not side.give_back(lease)
    assert not side.holds(lease)
    if not present:
        assert not side.fill(lease)
    assert side.value == (b"present" if present else None)
    theirs = side.taken(b"theirs")
    assert not side.give_back(lease)  # it is another's by now
    assert side.holds(theirs)


def test_who_is_revoked_writes_nothing(side: Side, present: bool) -> None:
    lease = side.taken()
    side.revoke()
    assert not side.holds(lease)
    assert not side.fill(lease)
    assert side.value == (b"present" if present else None)
    assert side.take(b"theirs") is not None


def test_a_claim_that_is_given_while_another_is_revoked_holds_nobody_up(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = type(side.link.run(lambda link: link.dialect))
    stub = dialect.stub
    given: list[Lease] = []

    def slow_stub(self: Any, stream: Any, key: bytes) -> bytes | None:
        found: bytes | None = stub(self, stream, key)
        if not given:
            grant = leases.take(side.link, side.key, side.mark, b"theirs", LIFE)
            assert grant is not None
            given.append(side.lease_of(grant))
        return found

    monkeypatch.setattr(dialect, "stub", slow_stub)
    side.revoke()
    monkeypatch.undo()
    side.give_back(given[0])
    assert side.take() is not None


def test_to_revoke_what_nobody_has_changes_nothing(side: Side, present: bool) -> None:
    side.revoke()
    assert side.value == (b"present" if present else None)
    assert side.take() is not None


# -- Everything between claim and fill -----------------------------------------------------

CHANGES: dict[str, Callable[[Side], Any]] = {
    "delete": lambda side: side.do("delete"),
    "set": lambda side: side.do("set", b"others", 100),
    "the same value": lambda side: side.do("set", b"present", 100),
    "swap": lambda side: side.do("set", b"others", 100, side.do("fetch").token),
    "renumber": lambda side: side.do("renumber"),
    "delete and set": lambda side: (side.do("delete"), side.do("set", b"others", 100)),
    "delete and add": lambda side: (side.do("delete"), side.do("add", b"others", 100)),
    "delete and claim": lambda side: (side.do("delete"), side.taken(b"theirs")),
    "delete, claim and fill": lambda side: (
        side.do("delete"),
        side.fill(side.taken(b"theirs"), b"others"),
    ),
    "revoke": lambda side: side.revoke(),
    "expiry": lambda side: side.do("set", b"gone", -1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_in_between_voids_it(side: Side, present: bool, change: str) -> None:
    lease = side.taken()
    CHANGES[change](side)
    there = side.value
    assert not side.holds(lease)
    assert not side.fill(lease)
    assert side.value == there


@pytest.mark.parametrize("look", ["get", "fetch", "stub"])
def test_a_look_in_between_does_not(side: Side, present: bool, look: str) -> None:
    lease = side.taken()
    side.do(look)
    assert side.take(b"theirs") is None
    assert side.holds(lease)
    assert side.fill(lease)


def test_the_mark_of_another_is_not_taken_away(side: Side) -> None:
    side.do("set", b"present", 100)
    lease = side.taken()
    # It ended on the server, and somebody else has taken it: of the same value.
    side.link.run(lambda link: link.dialect.delete(link.stream, side.mark))
    theirs = side.taken(b"theirs")
    assert not side.holds(lease)
    assert not side.give_back(lease)
    assert side.holds(theirs)
    assert side.fill(lease)  # nothing has changed since: it is no older than theirs will be
    assert not side.fill(theirs, b"theirs")
    assert side.value == b"filled"


def test_a_mark_that_others_took_in_the_same_moment_is_theirs(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    side.do("set", b"present", 100)
    link = side.link
    add = link.dialect.add

    def overtaken(stream: Any, key: bytes, data: bytes, life: int) -> bool:
        add(stream, key, data, life)
        link.dialect.set(stream, key, b"theirs", life)
        return True

    monkeypatch.setattr(type(link.dialect), "add", lambda _self, *args: overtaken(*args))
    assert side.take() is None


# -- Runs of the server ---------------------------------------------------------------------


def test_a_lease_of_another_run_is_none(side: Side, present: bool) -> None:
    lease = side.taken()
    before = side.link.profile
    side.link.profile = before._replace(run=("1", "1"))
    assert not side.holds(lease)
    assert not side.fill(lease)
    assert not side.give_back(lease)
    side.link.profile = before
    assert side.holds(lease)


def test_tokens_that_begin_anew_with_the_server_are_not_taken_for_the_old_ones(
    memcached: PrivateMemcached, dialect: Dialect, clock: ManualClock
) -> None:
    del memcached  # fails or skips where there is none to run
    with PrivateMemcached() as process:
        link = connected(process.address, dialect)
        server = make_server(process.address, clock)
        side = Side(link, b"k", b"m", lambda grant: Lease(b"k", b"m", 1e9, (server, None, grant)))
        lease = side.taken()
        port = process.port
        assert process._process is not None
        process._process.kill()
        process.stop()
        process.start(port)
        link.close()
        link.prepare()
        link.dialect = dialect
        theirs = side.taken(b"theirs")
        assert theirs.grant.token == lease.grant.token
        assert theirs.grant.run != lease.grant.run
        assert not side.holds(lease)
        assert not side.fill(lease)
        assert not side.give_back(lease)
        assert side.holds(theirs)
        link.close()


# -- Lives ----------------------------------------------------------------------------------


class Elapsed:
    """How many of the server's seconds may have passed; it counts whole ones."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> int:
        return 1 + int(time.monotonic() - self._began)


@pytest.mark.parametrize(("life", "kept"), [(3, LIFE + 1), (LIFE, LIFE + 1), (500, 500), (0, -1)])
def test_a_value_about_to_go_is_kept_for_as_long_as_the_claim(
    side: Side, memcached: PrivateMemcached, life: int, kept: int
) -> None:
    elapsed = Elapsed()
    side.do("set", b"present", life)
    assert side.take() is not None
    with Raw(memcached.address) as raw:
        left = raw.life(side.key.decode())
    if side.link.dialect is TEXT:
        kept = life or -1  # it cannot know how long that is
    assert kept - elapsed.seconds <= left <= kept


def test_a_stub_lasts_as_long_as_the_claim(side: Side, memcached: PrivateMemcached) -> None:
    elapsed = Elapsed()
    assert side.take(life=20) is not None
    with Raw(memcached.address) as raw:
        left = raw.life(side.key.decode())
    assert 20 - elapsed.seconds <= left <= 20


def test_a_mark_lasts_as_long_as_the_claim(side: Side, memcached: PrivateMemcached) -> None:
    side.do("set", b"present", 100)
    elapsed = Elapsed()
    assert side.take(life=20) is not None
    with Raw(memcached.address) as raw:
        left = raw.life(side.mark.decode())
    assert 20 - elapsed.seconds <= left <= 20
