"""The servers that there are: who is responsible, and what becomes of those that come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import together
from tests.fleets import make_server
from tiered.clients.memcached.fleet import Fleet
from tiered.errors import DiscoveryError
from tiered.routing.addresses import parse_addresses
from tiered.routing.discovery import Discovery, Found, StaticDiscovery
from tiered.routing.watch import Watch
from tiered.testing import ManualClock

KEYS = [b"key%d" % number for number in range(2000)]


class Told:
    """A discovery that finds what it is told to."""

    def __init__(self, *names: str, weights: tuple[int, ...] | None = None) -> None:
        self.tell(*names, weights=weights)
        self.fails = False

    def tell(self, *names: str, weights: tuple[int, ...] | None = None) -> None:
        self.found = Found(parse_addresses(names), 30.0, weights)

    def find(self) -> Found:
        if self.fails:
            raise DiscoveryError("the name server is away")
        return self.found


def fleet_of(discovery: Discovery, clock: ManualClock) -> Fleet:
    watch = Watch(discovery, clock, start=lambda refresh: refresh())
    return Fleet(watch, lambda address: make_server(address, clock), clock)


def look_again(fleet: Fleet, clock: ManualClock) -> None:
    clock.advance(60)
    for _ in range(2):  # the first has them found, and goes on with what is known
        _ = fleet.servers


def homes(fleet: Fleet) -> dict[bytes, str]:
    return {key: str(fleet.ring().node(key).address) for key in KEYS}


def names(fleet: Fleet) -> set[str]:
    return {str(server.address) for server in fleet.servers}


def test_nothing_is_found_before_it_is_used(clock: ManualClock) -> None:
    fleet = fleet_of(Told("a", "b"), clock)
    assert fleet.known == ()
    assert not fleet.doubts
    assert names(fleet) == {"a:11211", "b:11211"}
    assert len(fleet.known) == 2


def test_a_place_is_a_home_and_another(clock: ManualClock) -> None:
    fleet = fleet_of(Told("a", "b", "c"), clock)
    for key in KEYS:
        home, spare = fleet.ring().pair(key)
        assert spare is not None
        assert home is not spare
    alone = fleet_of(Told("a"), clock)
    assert alone.ring().after(b"k") is None


def test_who_has_no_answer_says_so(clock: ManualClock) -> None:
    told = Told("a")
    told.fails = True
    fleet = fleet_of(told, clock)
    for ask in (lambda: fleet.ring().pair(b"k"), lambda: fleet.servers):
        with pytest.raises(DiscoveryError, match="the name server is away"):
            ask()
    assert fleet.known == ()
    told.fails = False
    clock.advance(6)
    assert names(fleet) == {"a:11211"}
    told.fails = True
    look_again(fleet, clock)
    assert names(fleet) == {"a:11211"}


def test_servers_that_stay_are_the_same_and_most_keys_stay_with_them(clock: ManualClock) -> None:
    told = Told("a", "b", "c")
    fleet = fleet_of(told, clock)
    before, servers = homes(fleet), {server.address: server for server in fleet.servers}
    told.tell("c", "d", "a", "b")
    look_again(fleet, clock)
    after = homes(fleet)
    assert names(fleet) == {"a:11211", "b:11211", "c:11211", "d:11211"}
    assert {after[key] for key in KEYS if after[key] != before[key]} == {"d:11211"}
    assert all(
        server is servers[server.address] for server in fleet.servers if server.address in servers
    )
    # What others were responsible for before is not believed.
    moved = next(key for key in KEYS if after[key] != before[key])
    stayed = next(key for key in KEYS if after[key] == before[key])
    now = clock.wall()
    assert not fleet.trusts(moved, now - 61)
    assert fleet.trusts(stayed, now - 61)
    assert fleet.trusts(moved, now + 1)


def test_the_former_home_of_a_key_stands_in_for_a_server_that_joined(clock: ManualClock) -> None:
    # So a delete reaches what the former home still has, and it may be the home again.
    told = Told("a", "b", "c")
    fleet = fleet_of(told, clock)
    before = homes(fleet)
    told.tell("a", "b", "c", "d")
    look_again(fleet, clock)
    moved = 0
    for key in KEYS:
        home, spare = fleet.ring().pair(key)
        if str(home.address) != before[key]:
            moved += 1
            assert spare is not None
            assert str(spare.address) == before[key]
    assert moved


def test_a_server_that_left_is_closed_and_forgotten(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told("a", "b")
    fleet = fleet_of(told, clock)
    gone = next(server for server in fleet.servers if server.address.host == "b")
    closed: list[int] = []
    monkeypatch.setattr(gone.pool, "close", lambda: closed.append(1))
    told.tell("a")
    look_again(fleet, clock)
    assert names(fleet) == {"a:11211"}
    assert closed == [1]
    assert {fleet.ring().node(key).address.host for key in KEYS} == {"a"}


def test_a_server_is_not_believed_what_it_kept_while_others_had_its_keys(
    clock: ManualClock,
) -> None:
    told = Told("a", "b")
    fleet = fleet_of(told, clock)
    first = homes(fleet)
    assert not fleet.doubts
    began = clock.wall()
    told.tell("a")
    look_again(fleet, clock)
    told.tell("a", "b")
    look_again(fleet, clock)
    assert homes(fleet) == first
    now = clock.wall()
    for key in KEYS:
        # Neither does the one that stayed keep what it had while it stood in for the other.
        assert fleet.trusts(key, began - 1) == (first[key] == "a:11211")
        assert fleet.trusts(key, now + 1)


def test_of_many_changes_the_first_are_forgotten_and_nothing_before_them_believed(
    clock: ManualClock,
) -> None:
    told = Told("a")
    fleet = fleet_of(told, clock)
    _ = fleet.servers
    began = clock.wall()
    for number in range(40):
        told.tell("a", f"other{number}")
        look_again(fleet, clock)
    assert len(fleet._eras) == 32
    assert not any(fleet.trusts(key, began) for key in KEYS)


def test_the_same_answer_in_another_order_changes_nothing(clock: ManualClock) -> None:
    told = Told("a", "b")
    fleet = fleet_of(told, clock)
    ring, servers = fleet.ring(), fleet.servers
    told.tell("b", "a")
    look_again(fleet, clock)
    assert fleet.ring() is ring
    assert fleet.servers == servers


def test_an_answer_that_was_overtaken_is_not_gone_back_to(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told("a", "b")
    fleet = fleet_of(told, clock)
    _ = fleet.servers
    told.tell("a", "b", "c")
    clock.advance(60)
    current: Callable[[], Found] = fleet.watch.current
    overtaken: list[Any] = []

    def slowly() -> Found:
        found = current()
        if not overtaken:
            # This thread has the old answer in hand while another takes over the new one.
            overtaken.append(found)
            assert len(fleet.servers) == 3
        return found

    monkeypatch.setattr(fleet.watch, "current", slowly)
    assert len(fleet.servers) == 3
    assert len(fleet._eras) == 1


def test_threads_that_find_other_servers_at_once_make_one_ring(clock: ManualClock) -> None:
    made: list[Any] = []
    told = Told("a", "b")
    watch = Watch(told, clock, start=lambda refresh: refresh())

    def make(address: Any) -> Any:
        made.append(address)
        return make_server(address, clock)

    fleet = Fleet(watch, make, clock)
    rings = together(lambda _: fleet.ring(), 8)
    assert len({id(ring) for ring in rings}) == 1
    assert len(made) == 2


def test_a_child_has_locks_of_its_own(clock: ManualClock) -> None:
    fleet = fleet_of(StaticDiscovery(["a", "b"]), clock)
    fleet._lock.acquire()  # by a thread that is not in the child
    fleet.after_fork()
    assert names(fleet) == {"a:11211", "b:11211"}


def test_other_weights_make_another_ring(clock: ManualClock) -> None:
    told = Told("a", "b", weights=(1, 1))
    fleet = fleet_of(told, clock)
    shares = list(homes(fleet).values())
    assert shares.count("b:11211") / len(shares) == pytest.approx(0.5, abs=0.1)
    ring = fleet.ring()
    told.tell("a", "b", weights=(1, 3))
    look_again(fleet, clock)
    assert fleet.ring() is not ring
    shares = list(homes(fleet).values())
    assert shares.count("b:11211") / len(shares) == pytest.approx(0.75, abs=0.1)
