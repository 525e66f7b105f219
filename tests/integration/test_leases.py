"""Claims on a real server, and on one that knows the text protocol only: who may write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together
from tests.integration.downgraded import KINDS, downgraded
from tests.integration.proxy import Proxy
from tests.integration.test_memcached import Raw
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.decorators import cached
from tiered.testing import ManualClock

TTL = 1000.0


class Users(NamedTuple):
    """Two clients of one server, as two processes have them."""

    one: MemcachedClient
    other: MemcachedClient

    def who(self, name: str) -> MemcachedClient:
        return self.one if name == "the same" else self.other


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, memcached: PrivateMemcached) -> Iterator[Proxy]:
    with downgraded(memcached.address, request.param) as proxy:
        yield proxy


def two(address: str, **options: Any) -> Users:
    # Time enough for a busy machine: no answer is waited for in vain here.
    options = {"prefix": unique_prefix(), "timeout": 10.0, "connect_timeout": 10.0, **options}
    return Users(*(MemcachedClient([address], checksum_key=SECRET, **options) for _ in "12"))


@pytest.fixture
def users(proxy: Proxy, clock: ManualClock) -> Iterator[Users]:
    users = two(proxy.address, clock=clock)
    with users.one, users.other:
        yield users
        assert users.one.stats.errors == users.other.stats.errors == 0


def hold_stale(client: CacheClient, key: str) -> None:
    assert client.put(key, "stale", TTL, keep=TTL)
    assert client.expire(key)


CHANGES: dict[str, Callable[[CacheClient], object]] = {
    "delete": lambda client: client.delete("k"),
    "delete_multi": lambda client: client.delete_multi(["j", "k"]),
    "expire": lambda client: client.expire("k"),
    "put": lambda client: client.put("k", "put", TTL),
    "put_multi": lambda client: client.put_multi({"j": 1, "k": "put"}, TTL),
    "put that has ended": lambda client: client.put("k", "put", 0),
}

# -- Who may write ---------------------------------------------------------------------


@pytest.mark.parametrize("held", ["nothing", "a stale value"])
def test_the_winner_fills_and_the_others_see_it(users: Users, held: str) -> None:
    if held == "a stale value":
        hold_stale(users.other, "k")
    claim = users.one.claim("k", 60)
    assert claim is not None
    assert users.one.claim("k", 60) is None
    assert users.other.claim("k", 60) is None
    assert claim.fill("filled", TTL)
    assert users.one.get("k") == users.other.get("k") == "filled"
    assert users.other.get_ttl("k")[1] == pytest.approx(TTL, abs=0.5)


@pytest.mark.parametrize("held", ["nothing", "a stale value"])
@pytest.mark.parametrize("who", ["the same", "another"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_claim_and_fill_makes_the_fill_fail(
    users: Users, change: str, who: str, held: str
) -> None:
    if held == "a stale value":
        hold_stale(users.one, "k")
    claim = users.one.claim("k", 60)
    assert claim is not None
    CHANGES[change](users.who(who))
    assert not claim.fill("out of date", TTL)
    for client in users:
        present = "put" if change in ("put", "put_multi") else None
        assert client.get("k", None) == present
        assert client.get_multi(["k"], None) == {"k": present}
        assert client.get_ttl("k", None)[0] != "out of date"


@pytest.mark.parametrize("who", ["the same", "another"])
def test_a_namespace_that_was_cleared_gets_nothing_from_before(users: Users, who: str) -> None:
    spaces = [NamespaceWrapper("ns", client) for client in users]
    spaces[0].put("j", "known to both", TTL)
    assert spaces[1].get("j") == "known to both"
    claim = spaces[0].claim("k", 60)
    assert claim is not None
    spaces[who == "another"].clear()
    claim.fill("out of date", TTL)
    for space in spaces:
        assert space.get("k", None) is None
        assert space.get("j", None) is None


def test_a_late_holder_does_not_end_the_claim_of_its_successor(users: Users) -> None:
    late = users.one.claim("k", 60)
    assert late is not None
    users.other.delete("k")
    successor = users.other.claim("k", 60)
    assert successor is not None
    assert not late.release()
    assert users.one.claim("k", 60) is None
    assert successor.fill("in time", TTL)
    assert users.one.get("k") == "in time"


def test_a_late_fill_does_not_end_the_claim_of_its_successor(users: Users) -> None:
    late = users.one.claim("k", 60)
    assert late is not None
    users.other.delete("k")
    successor = users.other.claim("k", 60)
    assert successor is not None
    assert not late.fill("late", TTL)
    assert users.one.get("k", None) is None
    assert users.one.claim("k", 60) is None
    assert successor.fill("in time", TTL)
    assert users.one.get("k") == "in time"


@pytest.mark.parametrize("held", ["nothing", "a stale value"])
def test_a_claim_that_is_given_back_is_free_for_others(users: Users, held: str) -> None:
    if held == "a stale value":
        hold_stale(users.one, "k")
    claim = users.one.claim("k", 60)
    assert claim is not None
    assert claim.release()
    again = users.other.claim("k", 60)
    assert again is not None
    assert again.fill("filled", TTL)
    assert users.one.get("k") == "filled"


def test_of_many_at_once_one_wins(users: Users) -> None:
    for number in range(20):
        key = f"contested {number}"
        claims = together(lambda n, key=key: users[n % 2].claim(key, 60), 8)  # type: ignore[misc]
        assert sum(claim is not None for claim in claims) == 1


@pytest.mark.parametrize("who", ["the same", "another"])
def test_a_delete_that_races_with_a_fill_wins(users: Users, who: str) -> None:
    """Whichever comes first: the delete began after the claim, so nothing may be left."""
    left = []
    for number in range(150):
        key = f"raced {number}"
        claim = users.one.claim(key, 60)
        assert claim is not None
        acts: list[Callable[[], object]] = [
            lambda claim=claim: claim.fill("out of date", TTL),  # type: ignore[misc]
            lambda key=key: users.who(who).delete(key),  # type: ignore[misc]
        ]
        together(lambda n, acts=acts: acts[n](), 2)  # type: ignore[misc]
        if users.other.get(key, None) is not None:
            left.append(number)
    assert left == []


# -- What the others see ---------------------------------------------------------------


def test_losers_never_see_a_stub_as_a_value(users: Users) -> None:
    assert users.one.claim("k", 60) is not None
    for client in users:
        assert client.get("k", "miss") == "miss"
        assert client.get_ttl("k", "miss") == ("miss", -1)
        assert client.get_multi(["k", "j"], "miss") == {"k": "miss", "j": "miss"}
        assert client.get_ttl_multi(["k"], "miss") == {"k": ("miss", -1)}
        assert not client.contains("k")
        assert client.entry("k") is None
        assert client.entries(["k"]) == {}
        assert not client.renew("k", TTL)
        assert not client.explain("k").found


def test_a_plain_client_sees_nothing_of_use(users: Users, memcached: PrivateMemcached) -> None:
    wire = str(dict(users.one.explain("k").detail)["wire_key"])
    assert users.one.claim("k", 60) is not None
    raw = Raw(memcached.address)
    try:
        assert raw.get(wire) in (None, b"")
    finally:
        raw.close()


def test_a_stub_is_no_fresh_entry_for_an_add(users: Users) -> None:
    claim = users.one.claim("k", 60)
    assert claim is not None
    assert users.other.add("k", "added", TTL)
    assert not claim.fill("late", TTL)
    assert users.one.get("k") == "added"


def test_a_stale_value_stays_readable_while_it_is_computed_anew(users: Users) -> None:
    hold_stale(users.one, "k")
    claim = users.one.claim("k", 60)
    assert claim is not None
    for client in users:
        assert client.get("k", None) is None
        value, ttl = client.get_ttl("k", None)
        assert (value, ttl <= 0) == ("stale", True)
    assert claim.fill("fresh", TTL)
    assert users.other.get("k") == "fresh"


def test_a_dead_holders_claim_ends_by_itself(proxy: Proxy) -> None:
    users = two(proxy.address)
    with users.one, users.other:
        began = time.monotonic()
        claim = users.one.claim("k", 1)
        assert claim is not None
        successor = users.other.claim("k", 60)
        assert successor is None or time.monotonic() - began > 1
        deadline = time.monotonic() + 10
        while successor is None:
            assert time.monotonic() < deadline, "the claim does not end"
            time.sleep(0.05)
            successor = users.other.claim("k", 60)
        assert not claim.fill("late", TTL)
        assert successor.fill("in time", TTL)
        assert users.one.get("k") == "in time"


# -- Tiers -----------------------------------------------------------------------------


def tiers(client: MemcachedClient, clock: ManualClock) -> TieredInclusiveClient:
    return TieredInclusiveClient(InprocCacheClient(100, clock=clock), client)


@pytest.mark.parametrize("change", CHANGES)
def test_a_fill_through_a_lost_claim_leaves_nothing_in_the_near_tier(
    users: Users, clock: ManualClock, change: str
) -> None:
    both = tiers(users.one, clock)
    claim = both.claim("k", 60)
    assert claim is not None
    CHANGES[change](users.other)
    assert not claim.fill("out of date", TTL)
    assert both.clients[0].get("k", None) is None
    assert both.get("k", None) == ("put" if change in ("put", "put_multi") else None)


def test_a_fill_through_a_claim_that_holds_is_in_both_tiers(
    users: Users, clock: ManualClock
) -> None:
    both = tiers(users.one, clock)
    claim = both.claim("k", 60)
    assert claim is not None
    assert claim.fill("filled", TTL)
    assert both.clients[0].get("k") == both.clients[1].get("k") == "filled"


@pytest.mark.parametrize("with_tiers", [False, True], ids=["server", "tiers"])
@pytest.mark.parametrize("change", ["delete", "put"])
def test_what_was_computed_before_a_change_is_returned_and_not_kept(
    users: Users, clock: ManualClock, change: str, with_tiers: bool
) -> None:
    changes: dict[str, Callable[[CacheClient], object]] = {
        "delete": lambda client: client.delete(1),
        "put": lambda client: client.put(1, "put", TTL),
    }
    client = tiers(users.one, clock) if with_tiers else users.one
    spaces = NamespaceWrapper("f", users.other)

    def compute(x: int) -> str:
        changes[change](spaces)
        return "out of date"

    f = cached(client, TTL, namespace="f")(compute)
    assert f(1) == "out of date"
    if isinstance(client, TieredInclusiveClient):
        assert len(client.clients[0].entries([f.client.inner_key(1)])) == 0  # type: ignore[attr-defined]
    assert f.client.get(1, None) == ("put" if change == "put" else None)
