"""What every client promises, as tests to inherit.

::

    class TestMyClient(ClientContract):
        def make_client(self, clock):
            return MyClient(clock=clock)

Each test runs on an empty client and on one that already holds other entries.
A client that promises less says so in the attributes below.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import pytest

from tiered.clients.base import CacheClient
from tiered.errors import CacheMissError, UnsupportedOperation
from tiered.sentinels import FOREVER, MISSING
from tiered.testing.clock import ManualClock
from tiered.typing import Key

__all__ = ["ClientContract"]

F = TypeVar("F", bound=Callable[..., Any])

ABSENT = "there is no such key"

ODD_KEYS: list[Key] = [
    "",
    "with space",
    "line\r\nfeed",
    "nul\0",
    "émoji 🎉",
    "x" * 1000,
    b"",
    b"\x00\xff\r\n",
    0,
    -1,
    2**100,
    0.5,
    None,
    (),
    ((), ("a", (1, None))),
    frozenset({1, "a"}),
    ("a", "b"),
    ("a b",),
    ("ab", ""),
    ("", "ab"),
]
"""All different from one another."""


_FOR_ALL: set[str] = set()


def _even_if_it_holds_nothing(test: F) -> F:
    # Not a pytest marker: those would have to be registered by whoever inherits the suite.
    _FOR_ALL.add(test.__name__)
    return test


class ClientContract:
    """Inherit, implement :meth:`make_client`, and run with pytest."""

    holds: ClassVar[bool] = True
    """Whether the client holds anything at all."""

    keeps_stale: ClassVar[bool] = True
    """Whether what has expired stays readable through ``get_ttl``."""

    exact_ttl: ClassVar[bool] = True
    """Whether ``get_ttl`` shows the very ttl that was put (tiers may give a share of it)."""

    claims_follow_clock: ClassVar[bool] = True
    """Whether claims end by the clock that the client was given (a server has its own)."""

    gives_versions: ClassVar[bool] = False
    """Whether the client can tell which writing of an entry it holds."""

    values: ClassVar[list[Any]] = [None, False, 0, "", "text", b"bytes", [1, [2]], {"a": {"b": 1}}]
    """Values that must come back equal."""

    def make_client(self, clock: ManualClock) -> CacheClient:
        """A new client that holds nothing and asks *clock* for the time."""
        raise NotImplementedError

    # -- Fixtures --------------------------------------------------------------

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture(params=["empty", "populated"])
    def client(self, clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[CacheClient]:
        with contextlib.closing(self.make_client(clock)) as client:
            if request.param == "populated":
                for number in range(20):
                    client.put(("was", "there", number), number, 1000 if number % 2 else -1)
            yield client

    @pytest.fixture(autouse=True)
    def _needs_to_hold(self, request: pytest.FixtureRequest) -> None:
        if not self.holds and request.function.__name__ not in _FOR_ALL:
            pytest.skip("the client holds nothing")

    # -- Misses ----------------------------------------------------------------

    def test_a_miss_raises_a_key_error_with_the_key(self, client: CacheClient) -> None:
        with pytest.raises(CacheMissError) as caught:
            client.get(ABSENT)
        assert isinstance(caught.value, KeyError)
        assert ABSENT in str(caught.value)

    def test_a_miss_gives_the_default(self, client: CacheClient) -> None:
        assert client.get(ABSENT, 3) == 3
        assert client.get(ABSENT, None) is None
        assert client.get_ttl(ABSENT, 3) == (3, -1)

    def test_a_miss_with_its_ttl_raises_without_a_default(self, client: CacheClient) -> None:
        with pytest.raises(CacheMissError):
            client.get_ttl(ABSENT)

    def test_nothing_happens_to_what_is_not_there(self, client: CacheClient) -> None:
        assert not client.delete(ABSENT)
        assert not client.expire(ABSENT)
        assert not client.renew(ABSENT, 10)
        assert not client.contains(ABSENT)
        client.promote(ABSENT)
        assert client.get(ABSENT, None) is None

    # -- Put and get -----------------------------------------------------------

    def test_a_value_is_fresh_until_its_deadline(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        client.put("k", "v", 100)
        assert client.get("k") == "v"
        clock.advance(99)
        assert client.get("k") == "v"
        clock.advance(2)
        assert client.get("k", "gone") == "gone"
        with pytest.raises(CacheMissError):
            client.get("k")

    def test_the_remaining_ttl_is_told(self, client: CacheClient, clock: ManualClock) -> None:
        client.put("k", "v", 100)
        clock.advance(30)
        value, ttl = client.get_ttl("k")
        assert value == "v"
        if self.exact_ttl:
            assert ttl == pytest.approx(70, abs=0.01)
        assert 0 < ttl < 70.01

    def test_a_stale_value_has_a_negative_ttl(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        client.put("k", "v", 100, keep=1000)
        clock.advance(130)
        value, ttl = client.get_ttl("k", "none")
        assert ttl < 0
        assert value in (("v",) if self.keeps_stale else ("v", "none"))

    def test_a_ttl_of_zero_or_less_stores_something_stale(self, client: CacheClient) -> None:
        for ttl in (0, -0.5, -1000):
            client.put(("k", ttl), "v", ttl)
            assert client.get(("k", ttl), "gone") == "gone"
            value, left = client.get_ttl(("k", ttl), "none")
            assert left < 0
            if self.keeps_stale:
                assert value == "v"

    def test_forever_never_expires(self, client: CacheClient, clock: ManualClock) -> None:
        client.put("k", "v", FOREVER)
        clock.advance(1e9)
        assert client.get("k") == "v"
        assert client.get_ttl("k") == ("v", FOREVER)

    def test_a_put_replaces(self, client: CacheClient, clock: ManualClock) -> None:
        client.put("k", "old", 1000)
        client.put("k", "new", 10)
        assert client.get("k") == "new"
        clock.advance(11)
        assert client.get("k", "gone") == "gone"

    def test_values_come_back_equal(self, client: CacheClient) -> None:
        for value in self.values:
            client.put("k", value, 100)
            found = client.get("k")
            assert found == value
            assert type(found) is type(value)

    def test_a_put_says_that_it_wrote(self, client: CacheClient) -> None:
        assert client.put("k", "v", 100) is True
        assert client.put_multi({"a": "1", "b": "2"}, 100) == {"a": True, "b": True}

    # -- Many at once ----------------------------------------------------------

    def test_many_come_in_the_order_asked_for(self, client: CacheClient) -> None:
        client.put("a", 1, 100)
        client.put("b", 2, 100)
        found = client.get_multi(["b", ABSENT, "a", "b"], None)
        assert list(found.items()) == [("b", 2), (ABSENT, None), ("a", 1)]
        assert client.get_multi([ABSENT]) == {ABSENT: MISSING}
        assert client.get_multi([]) == {}

    def test_many_are_judged_as_one_is(self, client: CacheClient, clock: ManualClock) -> None:
        client.put("fresh", 1, 100)
        client.put("stale", 2, 10, keep=1000)
        clock.advance(50)
        keys = ["fresh", "stale", ABSENT]
        assert client.get_multi(keys, "none") == {key: client.get(key, "none") for key in keys}
        many = client.get_ttl_multi(keys, "none")
        for key in keys:
            value, ttl = client.get_ttl(key, "none")
            assert many[key][0] == value
            assert many[key][1] == pytest.approx(ttl, abs=0.01)

    def test_many_are_put_and_deleted(self, client: CacheClient, clock: ManualClock) -> None:
        client.put_multi({number: str(number) for number in range(5)}, 100)
        assert client.get_multi(range(5)) == {number: str(number) for number in range(5)}
        found = client.delete_multi([0, 1, ABSENT])
        assert found == {0: True, 1: True, ABSENT: False}
        assert [client.contains(number) for number in range(5)] == [False, False, True, True, True]
        clock.advance(101)
        assert client.get_multi(range(5), None) == dict.fromkeys(range(5))

    def test_chordes_spellings(self, client: CacheClient) -> None:
        client.put("a", 1, 100)
        assert client.getTtl("a")[0] == 1
        assert list(client.getMulti(["a", ABSENT], None)) == [("a", 1), (ABSENT, None)]
        pairs = dict(client.getTtlMulti(["a", ABSENT], None))
        assert pairs[ABSENT] == (None, -1)
        assert pairs["a"][0] == 1

    # -- Conditional writes ----------------------------------------------------

    def test_add_stores_only_where_nothing_fresh_is(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        assert client.add("k", "first", 100)
        assert not client.add("k", "second", 100)
        assert client.get("k") == "first"
        clock.advance(101)
        assert client.add("k", "third", 100)
        assert client.get("k") == "third"

    def test_renew_only_lengthens(self, client: CacheClient, clock: ManualClock) -> None:
        client.put("k", "v", 100)
        assert client.renew("k", 500)
        assert not client.renew("k", 50)
        clock.advance(400)
        assert client.get("k") == "v"
        clock.advance(101)
        assert client.get("k", "gone") == "gone"

    def test_expire_makes_stale_but_keeps(self, client: CacheClient) -> None:
        client.put("k", "v", 100)
        assert client.expire("k")
        assert client.get("k", "gone") == "gone"
        assert not client.contains("k")
        assert not client.expire("k")
        if self.keeps_stale:
            value, ttl = client.get_ttl("k")
            assert (value, ttl < 0) == ("v", True)

    def test_delete_is_idempotent(self, client: CacheClient) -> None:
        client.put("k", "v", 100)
        assert client.delete("k")
        assert not client.delete("k")
        assert client.get_ttl("k", "gone") == ("gone", -1)

    def test_contains_takes_a_margin(self, client: CacheClient, clock: ManualClock) -> None:
        client.put("k", "v", 100)
        assert client.contains("k")
        assert not client.contains("k", 100)
        assert client.contains("k", 9) or not self.exact_ttl
        clock.advance(95)
        assert client.contains("k")
        assert not client.contains("k", 10)

    def test_purge_drops_what_was_stale_for_long(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        client.put("old", 1, 10)
        client.put("recent", 2, 50)
        client.put("fresh", 3, 1000)
        clock.advance(60)
        client.purge(30)
        assert client.get("fresh") == 3
        if self.keeps_stale and self.exact_ttl:
            assert client.get_ttl("recent")[0] == 2
        client.purge()
        assert client.get("fresh") == 3

    def test_clear_forgets_all_or_refuses(self, client: CacheClient) -> None:
        client.put("k", "v", 100)
        if client.capabilities.clearable:
            client.clear()
            assert client.get_ttl("k", "gone") == ("gone", -1)
            client.put("k", "again", 100)
            assert client.get("k") == "again"
        else:
            with pytest.raises(UnsupportedOperation):
                client.clear()
            assert client.get("k") == "v"

    # -- Versions --------------------------------------------------------------

    def test_a_version_comes_with_what_is_held(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        client.put("k", "v", 100, keep=1000)
        assert client.wait("k")
        held = client.versioned("k")
        assert held.entry is not None
        assert held.entry.value == "v"
        assert held.entry.deadline > clock.monotonic()
        assert (held.version is not None) == self.gives_versions
        if self.keeps_stale:
            clock.advance(500)
            held = client.versioned("k")
            assert held.entry is not None
            assert held.entry.deadline < clock.monotonic()

    def test_a_version_stays_until_somebody_writes(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        client.put("k", "v", 100)
        assert client.wait("k")
        version = client.version("k")
        assert (version is not None) == self.gives_versions
        client.put("another", "v", 100)
        client.get("k")
        client.get_ttl_multi(["k", "another"])
        client.renew("k", 10)  # which would shorten its life
        clock.advance(50)
        assert client.version("k") == client.versioned("k").version == version
        assert hash(version) == hash(client.version("k"))

    def test_no_version_comes_back(self, client: CacheClient) -> None:
        changes: list[Callable[[], object]] = [
            lambda: client.put("k", "v", 100),
            lambda: client.put("k", "v", 100),
            lambda: client.renew("k", 500),
            lambda: client.expire("k"),
            lambda: client.add("k", "added", 100),
            lambda: client.delete("k") and client.put("k", "put again", 100),
            lambda: client.put_multi({"k": "many"}, 100),
        ]
        versions: list[object] = []
        for change in changes:
            assert change()
            assert client.wait("k")
            versions.append(client.version("k"))
        if self.gives_versions:
            assert None not in versions
            assert len(set(versions)) == len(changes)
        else:
            assert versions == [None] * len(changes)

    def test_a_write_tells_its_own_version_or_none(
        self, client: CacheClient, clock: ManualClock
    ) -> None:
        written, version = client.store_versioned("k", "v", clock.monotonic() + 100)
        assert written
        assert client.wait("k")
        assert client.get("k") == "v"
        assert version in (None, client.version("k"))
        claim = client.claim("k", 100)
        assert claim is not None
        assert claim.fill("w", 100)
        assert client.wait("k")
        assert claim.version in (None, client.version("k"))

    @_even_if_it_holds_nothing
    def test_what_is_not_held_has_no_version(self, client: CacheClient) -> None:
        assert client.versioned(ABSENT) == (None, None)
        assert client.version(ABSENT) is None
        client.put("k", "v", 100)
        client.delete("k")
        assert client.versioned("k") == (None, None)
        assert client.version("k") is None

    # -- Keys ------------------------------------------------------------------

    def test_equal_keys_are_one_entry(self, client: CacheClient) -> None:
        for first, *others in ([1, 1.0, True], [(0, "a"), (0.0, "a"), (False, "a")], [0.0, -0.0]):
            client.put(first, "v", 100)
            for other in others:
                assert client.get(other) == "v"
                assert client.delete(other)
                client.put(first, "v", 100)

    def test_unequal_keys_never_share_one(self, client: CacheClient) -> None:
        keys: list[Key] = [1, "1", b"1", (1,), ("1",), ((1,),), "i1;", 1.5, "1.5", None, "None"]
        for number, key in enumerate(keys):
            client.put(key, number, 100)
        assert client.get_multi(keys) == {key: number for number, key in enumerate(keys)}

    def test_any_text_and_nesting_is_a_key(self, client: CacheClient) -> None:
        for number, key in enumerate(ODD_KEYS):
            assert client.put(key, number, 100)
        for number, key in enumerate(ODD_KEYS):
            assert client.get(key) == number
            assert client.delete(key)

    @_even_if_it_holds_nothing
    def test_an_unhashable_key_is_a_type_error(self, client: CacheClient) -> None:
        if self.holds:
            with pytest.raises(TypeError):
                client.put(["a", "list"], 1, 100)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                client.get(["a", "list"])  # type: ignore[arg-type]

    # -- Bad input -------------------------------------------------------------

    @_even_if_it_holds_nothing
    @pytest.mark.parametrize("ttl", ["60", None, [], object(), True])
    def test_a_ttl_that_is_no_number_is_refused(self, client: CacheClient, ttl: Any) -> None:
        for call in (client.put, client.add):
            with pytest.raises(TypeError, match="ttl must be"):
                call("k", "v", ttl)
        with pytest.raises(TypeError, match="ttl must be"):
            client.renew("k", ttl)

    @_even_if_it_holds_nothing
    def test_a_ttl_that_is_not_a_number_is_refused(self, client: CacheClient) -> None:
        with pytest.raises(ValueError, match="ttl must be"):
            client.put("k", "v", float("nan"))

    @_even_if_it_holds_nothing
    @pytest.mark.parametrize(
        ("tiers", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)]
    )
    def test_max_tiers_must_make_sense(
        self, client: CacheClient, tiers: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match="max_tiers must be"):
            client.get("k", None, max_tiers=tiers)

    @_even_if_it_holds_nothing
    def test_a_negative_patience_is_refused(self, client: CacheClient) -> None:
        with pytest.raises(ValueError, match="timeout must be"):
            client.purge(-1)
        with pytest.raises(ValueError, match="keep must be"):
            client.put("k", "v", 1, keep=-1)

    # -- Claims ----------------------------------------------------------------

    def test_a_claim_is_held_by_one(self, client: CacheClient) -> None:
        claim = client.claim("k", 100)
        assert claim is not None
        assert client.claim("k", 100) is None
        assert client.claim("another", 100) is not None
        assert claim.release()
        assert not claim.release()
        again = client.claim("k", 100)
        assert again is not None
        assert again.token != claim.token
        assert not claim.release()
        assert client.claim("k", 100) is None

    def test_a_claim_is_filled_once(self, client: CacheClient) -> None:
        claim = client.claim("k", 100)
        assert claim is not None
        assert claim.fill("v", 100)
        assert client.get("k") == "v"
        assert not claim.fill("late", 100)
        assert client.get("k") == "v"

    def test_a_claim_ends_with_its_block(self, client: CacheClient) -> None:
        claim = client.claim("k", 100)
        assert claim is not None
        with claim:
            assert client.claim("k", 100) is None
        assert client.claim("k", 100) is not None

    def test_a_delete_voids_a_claim(self, client: CacheClient) -> None:
        claim = client.claim("k", 100)
        assert claim is not None
        client.delete("k")
        assert not claim.fill("computed before the delete", 100)
        assert client.get("k", "gone") == "gone"

    def test_a_clear_voids_a_claim(self, client: CacheClient) -> None:
        if not client.capabilities.clearable:
            return
        claim = client.claim("k", 100)
        assert claim is not None
        client.clear()
        assert not claim.fill("computed before the clear", 100)
        assert client.get("k", "gone") == "gone"

    def test_who_computes_without_a_claim_hears_of_what_would_end_it(
        self, client: CacheClient
    ) -> None:
        if client.capabilities.shared:
            return
        with client.watching("k") as watch:
            client.delete("another")
            assert watch.publish(lambda: client.put("k", "v", 100))
        assert client.get("k") == "v"
        for change in (client.delete, client.expire, lambda key: client.delete_multi([key])):
            with client.watching("k") as watch:
                change("k")
                assert not watch.publish(lambda: client.put("k", "older", 100))
        with client.watching("k") as watch:
            client.clear()
            assert not watch.publish(lambda: client.put("k", "older", 100))
        assert client.get("k", "gone") == "gone"

    def test_a_claim_ends_by_itself(self, client: CacheClient, clock: ManualClock) -> None:
        claim = client.claim("k", 10)
        assert claim is not None
        clock.advance(11)
        assert not claim.fill("late", 100)
        assert client.get("k", "gone") == "gone"
        if self.claims_follow_clock:
            assert client.claim("k", 10) is not None

    # -- What it is ------------------------------------------------------------

    @_even_if_it_holds_nothing
    def test_it_describes_itself(self, client: CacheClient) -> None:
        assert type(client).__name__ in repr(client)
        assert client.capacity >= 0
        assert client.usage >= 0
        assert isinstance(client.is_async, bool)
        assert client.wait("k", 0) is True

    def test_its_statistics_are_a_frozen_snapshot(self, client: CacheClient) -> None:
        before = client.stats
        client.put("k", "v", 100)
        client.get("k")
        client.get(ABSENT, None)
        client.delete("k")
        after = client.stats
        assert after.hits == before.hits + 1
        assert after.misses == before.misses + 1
        assert after.puts == before.puts + 1
        assert after.deletes == before.deletes + 1
        assert 0 <= after.hit_ratio <= 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            after.hits = 0  # type: ignore[misc]

    def test_it_explains_a_key(self, client: CacheClient, clock: ManualClock) -> None:
        assert client.explain(ABSENT).state == "absent"
        client.put("k", "v", 100, keep=1000)
        explained = client.explain("k")
        assert explained.state == "fresh"
        assert "'k'" in str(explained)
        clock.advance(101)
        assert client.explain("k").state in ("stale", "absent")

    def test_near_never_lies(self, client: CacheClient) -> None:
        client.put("k", "v", 100)
        entry = client.near("k")
        if not client.capabilities.near:
            assert entry is None
        assert entry is None or entry.value == "v"
        assert client.near(ABSENT) is None
        path = client.hot_path()
        if path is not None:
            found = path.lookup("k")
            assert found is None or found.value == "v"

    def test_what_the_authority_holds_is_no_copy(self, client: CacheClient) -> None:
        client.put("k", "v", 100)
        client.drop_near("k")
        assert client.get("k") == "v"
        client.drop_near(ABSENT)

    def test_it_works_after_close(self, client: CacheClient) -> None:
        with client:
            client.put("k", "v", 100)
        assert client.get("k", "gone") in ("v", "gone")
        client.put("k", "w", 100)
        assert client.get("k") == "w"

    # -- Threads ---------------------------------------------------------------

    def test_threads_do_not_mix_up_keys(self, client: CacheClient) -> None:
        def work(number: int) -> bool:
            mine = [("thread", number, step) for step in range(30)]
            for key in mine:
                client.put(key, key[1:], 1000)
            ours = client.get_multi(mine, "lost")
            return all(ours[key] in (key[1:], "lost") for key in mine)

        assert all(_together(work, 8))

    def test_one_of_many_adds_wins(self, client: CacheClient) -> None:
        wins = _together(lambda number: client.add("k", number, 1000), 8)
        assert sum(wins) == 1
        assert wins[client.get("k")]

    def test_one_of_many_claims_wins(self, client: CacheClient) -> None:
        claims = _together(lambda number: client.claim("k", 1000), 8)
        assert sum(claim is not None for claim in claims) == 1

    def test_no_write_is_lost_to_an_expiry(self, client: CacheClient) -> None:
        for _ in range(20):
            client.put("k", "old", 1000)

            def work(number: int) -> None:
                if number:
                    client.expire("k")
                else:
                    client.put("k", "new", 1000)

            _together(work, 4)
            # Expired before or after the put, but never replaced by what was there before.
            assert client.get_ttl("k", "gone")[0] in ("new", "gone")


def _together(work: Callable[[int], Any], count: int) -> list[Any]:
    """*work* in *count* threads that start at one moment; their results, in order."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
