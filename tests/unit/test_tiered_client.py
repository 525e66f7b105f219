"""Tiers: reading down, copying up, writing through, and what must never be copied."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import (
    FailingClient,
    Interposed,
    RecordingClient,
    RemoteFake,
    inproc,
    together,
)
from tests.logs import of_this_thread
from tiered.clients.base import CacheClient, Capabilities, Search
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.errors import KeyEncodingError, UnsupportedOperation
from tiered.sentinels import FOREVER
from tiered.testing import ManualClock


class Tiers:
    """Three tiers in memory, and the client over them."""

    def __init__(self, clock: ManualClock, fractions: Any = None) -> None:
        self.near, self.middle, self.far = (inproc(clock) for _ in range(3))
        self.client = TieredInclusiveClient(
            self.near, self.middle, self.far, ttl_fractions=fractions
        )

    def held(self, key: Any) -> list[Any]:
        return [tier.get(key, None) for tier in (self.near, self.middle, self.far)]


@pytest.fixture
def tiers(clock: ManualClock) -> Tiers:
    return Tiers(clock)


# -- Reading ----------------------------------------------------------------------


def test_a_hit_is_copied_to_all_nearer_tiers(tiers: Tiers) -> None:
    tiers.far.put("k", "v", 100)
    assert tiers.client.get("k") == "v"
    assert tiers.held("k") == ["v", "v", "v"]


def test_a_copy_lives_no_longer_than_its_original(tiers: Tiers, clock: ManualClock) -> None:
    tiers.far.put("k", "v", 100)
    clock.advance(40)
    tiers.client.get("k")
    assert tiers.near.get_ttl("k") == ("v", 60)


def test_a_copy_gets_its_share_of_the_life_that_is_left(clock: ManualClock) -> None:
    tiers = Tiers(clock, fractions=(0.1, 0.5, 1.0))
    tiers.client.put("k", "v", 100)
    assert [tier.get_ttl("k")[1] for tier in tiers.client.clients] == [10, 50, 100]
    tiers.near.clear()
    tiers.middle.clear()
    clock.advance(40)
    assert tiers.client.get("k") == "v"
    assert [tier.get_ttl("k")[1] for tier in tiers.client.clients] == [6, 30, 60]


def test_forever_stays_forever_at_any_fraction(clock: ManualClock) -> None:
    tiers = Tiers(clock, fractions=(0.1, 0.5, 1.0))
    tiers.client.put("k", "v", FOREVER)
    assert tiers.near.get_ttl("k") == ("v", math.inf)


def test_a_stale_value_is_not_copied(tiers: Tiers, clock: ManualClock) -> None:
    tiers.far.put("k", "v", 10)
    clock.advance(11)
    assert tiers.client.get_ttl("k") == ("v", -1)
    assert tiers.near.get_ttl("k", None) == (None, -1)


def test_the_least_stale_of_several_stale_copies_is_told(tiers: Tiers, clock: ManualClock) -> None:
    tiers.near.put("k", "old", 1)
    tiers.far.put("k", "newer", 5)
    clock.advance(10)
    assert tiers.client.get_ttl("k") == ("newer", -5)
    assert tiers.client.get_ttl_multi(["k"]) == {"k": ("newer", -5)}
    tiers.far.delete("k")
    assert tiers.client.get_ttl("k") == ("old", -9)
    assert tiers.client.get_ttl_multi(["k"]) == {"k": ("old", -9)}


def test_ttl_skip_passes_over_copies_that_are_too_old(tiers: Tiers) -> None:
    tiers.near.put("k", "old", 10)
    tiers.far.put("k", "new", 100)
    assert tiers.client.get("k") == "old"
    assert tiers.client.get("k", ttl_skip=20) == "new"
    assert tiers.client.get("k") == "new"


def test_ttl_skip_takes_the_best_there_is(tiers: Tiers) -> None:
    tiers.near.put("k", "near", 10)
    tiers.far.put("k", "far", 15)
    assert tiers.client.get("k", ttl_skip=20) == "far"
    tiers.far.put("k", "far again", 5)
    assert tiers.client.get("k", ttl_skip=20) == "far"  # copied before, and younger
    assert tiers.client.get_multi(["k"], ttl_skip=20) == {"k": "far"}


def test_max_tiers_leaves_the_farther_ones_alone(tiers: Tiers) -> None:
    tiers.far.put("k", "v", 100)
    assert tiers.client.get("k", None, max_tiers=2) is None
    assert tiers.client.get_multi(["k"], None, max_tiers=2) == {"k": None}
    assert not tiers.client.contains("k", max_tiers=2)
    assert tiers.client.get("k", max_tiers=3) == "v"
    assert tiers.client.get("k", max_tiers=99) == "v"
    tiers.client.put("near only", "v", 100, max_tiers=1)
    assert tiers.held("near only") == ["v", None, None]
    tiers.client.put_multi({"two": "v"}, 100, max_tiers=2)
    assert tiers.held("two") == ["v", "v", None]
    assert tiers.client.stats.misses == 2


def test_the_callback_hears_of_a_promotion(tiers: Tiers) -> None:
    heard: list[tuple[Any, ...]] = []
    tiers.far.put("k", "v", 100)
    tiers.far.put("m", "w", 100)
    tiers.client.get("k", promote_callback=lambda *told: heard.append(told))
    tiers.client.get("k", promote_callback=lambda *told: heard.append(told))
    tiers.client.get_multi(["m", "k"], promote_callback=lambda *told: heard.append(told))
    tiers.client.promote("m", promote_callback=lambda *told: heard.append(told))
    assert heard == [("k", "v", 100), ("m", "w", 100)]


def test_a_failing_callback_does_not_fail_the_read(
    tiers: Tiers, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(key: Any, value: Any, ttl: float) -> None:
        raise RuntimeError("callback")

    tiers.far.put("k", "v", 100)
    assert tiers.client.get("k", promote_callback=fail) == "v"
    assert "promote_callback failed for 'k'" in caplog.text


def test_promote_copies_without_returning(tiers: Tiers) -> None:
    tiers.far.put("k", "v", 100)
    assert tiers.client.promote("k") is None  # type: ignore[func-returns-value]
    assert tiers.held("k") == ["v", "v", "v"]


def test_many_keys_are_one_call_a_tier(clock: ManualClock) -> None:
    near, far = RecordingClient(inproc(clock)), RecordingClient(inproc(clock))
    client = TieredInclusiveClient(near, far)
    near.client.put("a", 1, 100)
    for key in "abc":
        far.client.put(key, 1, 100)
    client.get_multi("abcd", None)
    assert near.calls[0] == ("entries", "a", "b", "c", "d")
    assert far.calls == [("entries", "b", "c", "d")]
    assert near.client.get_multi("abc") == {"a": 1, "b": 1, "c": 1}
    far.calls.clear()
    client.put_multi({"x": 1, "y": 2}, 100)
    client.delete_multi(["x", "y"])
    assert far.calls == [("store_many", "x", "y"), ("discard_many", "x", "y")]


def test_a_near_hit_asks_nobody_else(clock: ManualClock) -> None:
    far = RecordingClient(inproc(clock))
    client = TieredInclusiveClient(inproc(clock), far)
    client.put("k", "v", 100)
    far.calls.clear()
    assert client.get("k") == "v"
    assert client.get_multi(["k"]) == {"k": "v"}
    assert client.contains("k")
    assert far.calls == []


# -- Writing ----------------------------------------------------------------------


def test_writes_go_from_far_to_near(clock: ManualClock) -> None:
    near, far = RecordingClient(inproc(clock)), RecordingClient(inproc(clock))
    order: list[str] = []
    near.calls = far.calls = order  # type: ignore[assignment]
    client = TieredInclusiveClient(near, far)
    near.inner_key = lambda key: (order.append("near"), key)[1]  # type: ignore[method-assign, func-returns-value]
    far.inner_key = lambda key: (order.append("far"), key)[1]  # type: ignore[method-assign, func-returns-value]
    acts: list[Callable[[], object]] = [
        lambda: client.put("k", "v", 10),
        lambda: client.renew("k", 20),
        lambda: client.expire("k"),
        lambda: client.delete("k"),
    ]
    for act in acts:
        order.clear()
        act()
        tiers = [step for step in order if step in ("near", "far")]
        assert tiers.index("far") < tiers.index("near")


def test_add_is_decided_by_the_farthest_tier(tiers: Tiers) -> None:
    tiers.far.put("k", "theirs", 100)
    assert not tiers.client.add("k", "ours", 100)
    assert tiers.held("k") == [None, None, "theirs"]
    assert tiers.client.add("new", "ours", 100)
    assert tiers.held("new") == ["ours"] * 3
    tiers.far.delete("new")
    assert not tiers.client.add("new", "again", 100)  # readers still get it from tier 0


def test_renew_does_not_prolong_what_the_farthest_tier_lost(tiers: Tiers) -> None:
    tiers.client.put("k", "v", 100)
    tiers.far.delete("k")  # by another process
    assert not tiers.client.renew("k", 1000)
    assert tiers.near.get_ttl("k") == ("v", 100)


def test_purge_and_clear_reach_every_tier(tiers: Tiers, clock: ManualClock) -> None:
    tiers.client.put("stale", "v", 10)
    tiers.client.put("fresh", "v", 100)
    clock.advance(20)
    assert tiers.client.purge() == 3
    assert tiers.held("fresh") == ["v"] * 3
    tiers.client.clear()
    assert tiers.held("fresh") == [None] * 3


def test_clear_refuses_before_it_touches_anything(clock: ManualClock) -> None:
    near, far = inproc(clock), RemoteFake(inproc(clock))
    client = TieredInclusiveClient(near, far)
    client.put("k", "v", 100)
    with pytest.raises(UnsupportedOperation, match="NamespaceWrapper"):
        client.clear()
    assert near.get("k") == "v"


# -- No resurrection --------------------------------------------------------------


def test_what_other_tiers_on_the_same_nearest_delete_is_not_copied(clock: ManualClock) -> None:
    near, server = inproc(clock), inproc(clock)
    far = Interposed(server)
    reader, writer = TieredInclusiveClient(near, far), TieredInclusiveClient(near, server)
    writer.put("k", "old", 60)
    near.delete("k")

    def delete() -> None:
        assert writer.delete("k")

    far.after_read = delete
    assert reader.get("k") == "old"  # as it was when it was read
    assert near.get("k", None) is None


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.delete("k"),
        lambda client: client.put("k", "new", 100),
        lambda client: client.put_multi({"k": "new"}, 100),
        lambda client: client.delete_multi(["k"]),
        lambda client: client.expire("k"),
        lambda client: client.clear(),
        lambda client: client.add("k", "new", 100),
    ],
)
def test_a_value_read_before_a_write_is_not_copied_after_it(
    clock: ManualClock, many: bool, change: Any
) -> None:
    near, far = inproc(clock), Interposed(inproc(clock))
    client = TieredInclusiveClient(near, far)
    far.client.put("k", "old", 100)

    def write_meanwhile() -> None:
        far.after_read = lambda: None
        change(client)

    far.after_read = write_meanwhile
    # The reader itself may get the old value: it asked before the write.
    client.get_multi(["k"], None) if many else client.get("k", None)
    assert near.get_ttl("k", None)[0] != "old" or change(client) is False
    assert client.get("k", None) == far.client.get("k", None)


def test_what_a_middle_tier_held_before_a_write_is_not_copied_after_it(
    clock: ManualClock,
) -> None:
    near, middle, far = inproc(clock), Interposed(inproc(clock)), inproc(clock)
    client = TieredInclusiveClient(near, middle, far)
    middle.client.put("k", "old", 100)
    far.put("k", "old", 100)

    def write_meanwhile() -> None:
        middle.after_read = lambda: None
        client.put("k", "new", 100)

    middle.after_read = write_meanwhile
    client.get("k")
    assert near.get("k") == "new"


def test_two_writers_at_a_time_leave_the_decision_to_the_farthest_tier(
    clock: ManualClock,
) -> None:
    near = inproc(clock)

    class Reordering(Interposed):
        """Lets a second writer in between the first one's far and near step."""

        def store(self, key: Any, value: Any, *args: Any, **options: Any) -> bool:
            written = super().store(key, value, *args, **options)
            self.after_read()
            return written

    far = Reordering(inproc(clock))
    client = TieredInclusiveClient(near, far)

    def second_writer() -> None:
        far.after_read = lambda: None
        together(lambda _: client.put("k", "second", 100), 1)

    far.after_read = second_writer
    client.put("k", "first", 100)
    assert near.get("k", None) is None
    assert far.get("k") == client.get("k") == "second"


def test_tiers_agree_after_a_storm_of_writers(clock: ManualClock) -> None:
    near, far = inproc(clock), inproc(clock)
    client = TieredInclusiveClient(near, far)
    for _ in range(30):

        def work(number: int) -> None:
            for step in range(10):
                if number % 4 == 0:
                    client.delete("k")
                elif number % 4 == 1:
                    client.get("k", None)
                else:
                    client.put("k", (number, step), 100)

        together(work, 6)
        assert near.get("k", None) in (None, far.get("k", None))
        assert len(client._generations) == 0


# -- What other processes have changed ----------------------------------------------


def test_near_copies_are_dropped_from_all_tiers_but_the_farthest(tiers: Tiers) -> None:
    tiers.client.put_multi({"k": "v", "other": "w"}, 100)
    tiers.client.drop_near("k")
    assert tiers.held("k") == [None, None, "v"]
    assert tiers.held("other") == ["w", "w", "w"]
    assert tiers.client.get("k") == "v"
    assert tiers.held("k") == ["v", "v", "v"]


def test_near_copies_are_dropped_through_wrappers_and_inner_tiers(clock: ManualClock) -> None:
    near, middle, far = inproc(clock), inproc(clock), inproc(clock)
    remote = RecordingClient(far)
    inner = NamespaceWrapper("inner", TieredInclusiveClient(middle, RemoteFake(remote)))
    outer = NamespaceWrapper("outer", TieredInclusiveClient(near, inner))
    outer.put("k", "v", 100)
    held = {client: client.usage for client in (near, middle, far)}
    assert held[middle] == held[near] > 0
    clock.advance(5)  # the revisions would have to be confirmed by now
    remote.calls.clear()
    outer.drop_near("k")
    assert remote.calls == []
    assert near.usage == held[near] - 1
    assert middle.usage == held[middle] - 1
    assert far.usage == held[far]
    assert outer.get("k") == "v"


def test_one_tier_alone_has_no_copies(clock: ManualClock) -> None:
    only = inproc(clock)
    client = TieredInclusiveClient(only)
    client.put("k", "v", 100)
    client.drop_near("k")
    assert only.get("k") == "v"


@pytest.mark.parametrize("many", [False, True])
def test_what_was_read_before_a_change_elsewhere_is_not_copied_after_it(
    clock: ManualClock, many: bool
) -> None:
    near, middle, far = inproc(clock), inproc(clock), Interposed(inproc(clock))
    client = TieredInclusiveClient(near, middle, far)
    far.client.put("k", "old", 100)
    read, heard = threading.Barrier(2), threading.Barrier(2)

    def changed_elsewhere() -> None:
        far.after_read = lambda: None
        read.wait(10)
        heard.wait(10)

    far.after_read = changed_elsewhere

    def work(number: int) -> Any:
        if number == 0:
            return client.get_multi(["k"])["k"] if many else client.get("k")
        read.wait(10)  # the reader has the old value in hand
        far.client.delete("k")
        client.drop_near("k")
        heard.wait(10)
        return None

    assert together(work, 2) == ["old", None]  # who asked before the change
    assert near.get("k", None) is None
    assert middle.get("k", None) is None
    assert client.get("k", None) is None
    assert len(client._generations) == 0


@pytest.mark.parametrize("middle", [False, True])
def test_a_write_that_a_change_elsewhere_overtakes_is_not_kept_near(
    clock: ManualClock, middle: bool
) -> None:
    wrote, heard = threading.Barrier(2), threading.Barrier(2)

    class Slow(InprocCacheClient):
        """Lets others come between its write and what follows it."""

        def store(self, key: Any, value: Any, deadline: float, **options: Any) -> bool:
            written = super().store(key, value, deadline, **options)
            if value == "ours":
                wrote.wait(10)
                heard.wait(10)
            return written

    near, slow, far = inproc(clock), Slow(10, clock=clock), inproc(clock)
    client = TieredInclusiveClient(near, slow, far) if middle else TieredInclusiveClient(near, slow)
    authority = far if middle else slow
    near.put("k", "older", 100)

    def work(number: int) -> Any:
        if number == 0:
            return client.put("k", "ours", 100)
        wrote.wait(10)
        authority.put("k", "theirs", 100)
        client.drop_near("k")
        heard.wait(10)
        return None

    assert together(work, 2) == [True, None]
    assert near.get("k", None) is None
    assert client.get("k") == "theirs"
    assert len(client._generations) == 0


def test_a_tier_that_fails_to_drop_a_copy_does_not_keep_the_others_from_it(
    clock: ManualClock,
) -> None:
    near, middle, far = inproc(clock), FailingClient(inproc(clock)), inproc(clock)
    client = TieredInclusiveClient(near, middle, far)
    client.put("k", "v", 100)
    middle.error = OSError("down")
    client.drop_near("k")
    assert near.get("k", None) is None
    assert client.stats.errors == 1


# -- Failing tiers ----------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("error", [OSError("down"), ValueError("odd"), TypeError("bug")])
def test_a_failing_tier_is_passed_over_and_counted(
    clock: ManualClock, place: int, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = inproc(clock), FailingClient(inproc(clock), error)
    client = TieredInclusiveClient(*([bad, good] if place == 0 else [good, bad]))
    assert client.put("k", "v", 100)
    assert client.get("k") == "v"
    assert client.get_ttl("k") == ("v", 100)
    assert client.get_multi(["k", "m"], None) == {"k": "v", "m": None}
    assert client.put_multi({"m": "w"}, 100) == {"m": True}
    assert client.expire("m")
    client.purge()
    claim = client.claim("c", 10)
    assert claim is not None
    assert claim.fill("c", 10)
    assert client.delete("k")
    assert client.delete_multi(["m", "x"]).keys() == {"m", "x"}
    stats = client.stats
    assert stats.tiers[place].errors == stats.errors > 5
    assert stats.tiers[1 - place].errors == 0
    ours = [record.getMessage() for record in of_this_thread(caplog)]
    assert len([line for line in ours if "is passed over" in line]) == 1


def test_a_near_tier_that_cannot_be_written_does_not_keep_the_old_value(
    clock: ManualClock,
) -> None:
    class Full(InprocCacheClient):
        full = False

        def store(self, *args: Any, **options: Any) -> bool:
            if self.full:
                raise OSError("no space left")
            return super().store(*args, **options)

    near, far = Full(10, clock=clock), inproc(clock)
    client = TieredInclusiveClient(near, far)
    client.put("k", "old", 100)
    near.full = True
    client.put("k", "new", 100)
    assert client.get("k") == "new"


def test_an_unencodable_key_is_the_callers_mistake(clock: ManualClock) -> None:
    remote = MemcachedClient(["127.0.0.1:1"], checksum_key="k", clock=clock)
    client = TieredInclusiveClient(inproc(clock), remote)
    with pytest.raises(KeyEncodingError, match=r"key\[1\] is <object"):
        client.put(("a", object()), "v", 100)
    with pytest.raises(TypeError):
        client.get([])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        client.put({}, "v", 1)  # type: ignore[arg-type]


# -- Construction and description ---------------------------------------------------


def test_no_tiers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one tier"):
        TieredInclusiveClient()


def test_the_same_tier_twice_is_refused(clock: ManualClock) -> None:
    client = inproc(clock)
    with pytest.raises(ValueError, match=r"clients\[1\] is .* again"):
        TieredInclusiveClient(client, client)


def test_a_tier_that_is_no_client_is_refused(clock: ManualClock) -> None:
    with pytest.raises(TypeError, match=r"clients\[1\] must be a CacheClient, not {}"):
        TieredInclusiveClient(inproc(clock), {})  # type: ignore[arg-type]


def test_tiers_must_share_a_clock(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="clock"):
        TieredInclusiveClient(inproc(clock), InprocCacheClient(1))


@pytest.mark.parametrize(
    ("fractions", "error"),
    [
        ((1.0,), ValueError),
        ((1.0, 1.0, 1.0), ValueError),
        ((0.0, 1.0), ValueError),
        ((-0.5, 1.0), ValueError),
        ((1.5, 1.0), ValueError),
        (("a", 1.0), TypeError),
        (0.5, TypeError),
        ("ab", TypeError),
        ((math.nan, 1.0), ValueError),
    ],
)
def test_fractions_must_make_sense(
    clock: ManualClock, fractions: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="ttl_fractions"):
        TieredInclusiveClient(inproc(clock), inproc(clock), ttl_fractions=fractions)


def test_it_is_what_its_tiers_are(clock: ManualClock) -> None:
    near, far = inproc(clock, 10), RemoteFake(inproc(clock, 1000))
    client = TieredInclusiveClient(near, far, ttl_fractions=(0.5, 1.0))
    assert client.capacity == 1000
    assert client.usage == 0
    assert client.authority is far
    assert client.capabilities == Capabilities(
        shared=True, near=True, blocking=True, clearable=False, fenced=False
    )
    assert client.ttl_fractions == (0.5, 1.0)
    assert not client.is_async
    assert client.wait("k")
    assert repr(client) == (
        "<TieredInclusiveClient [<InprocCacheClient 0/10> | "
        "<RemoteFake <InprocCacheClient 0/1000>>]>"
    )


def test_wait_gives_each_tier_what_is_left_of_the_time(clock: ManualClock) -> None:
    class Slow(InprocCacheClient):
        asked: Any = None
        is_async = True

        def wait(self, key: Any, timeout: float | None = None) -> bool:
            self.asked = timeout
            clock.advance(3)
            return timeout is None or timeout >= 3

    first, second, third = (Slow(1, clock=clock) for _ in range(3))
    client = TieredInclusiveClient(first, second, third)
    assert client.is_async
    assert not client.wait("k", 5)
    assert (first.asked, second.asked, third.asked) == (5, 2, None)
    assert client.wait("k")


def test_each_tier_counts_its_part(tiers: Tiers) -> None:
    tiers.far.put("k", "v", 100)
    for _ in range(3):
        tiers.client.get("k")
    tiers.client.get("absent", None)
    stats = tiers.client.stats
    assert [(tier.hits, tier.misses, tier.promotions) for tier in stats.tiers] == [
        (2, 2, 1),
        (0, 2, 1),
        (1, 1, 0),
    ]
    assert (stats.hits, stats.misses) == (3, 1)
    assert stats.tiers[0].client.startswith("<InprocCacheClient")


def test_it_explains_what_each_tier_holds(tiers: Tiers) -> None:
    tiers.client.put("k", "v", 100)
    tiers.near.delete("k")
    explained = tiers.client.explain("k")
    assert explained.found
    assert [tier.state for tier in explained.tiers] == ["absent", "fresh", "fresh"]
    assert str(explained).count("\n") == 3
    assert tiers.client.explain("other").state == "absent"


def test_claims_are_those_of_the_farthest_tier(clock: ManualClock) -> None:
    server = inproc(clock)
    ours = TieredInclusiveClient(inproc(clock), server)
    theirs = TieredInclusiveClient(inproc(clock), server)
    claim = ours.claim("k", 10)
    assert claim is not None
    assert theirs.claim("k", 10) is None
    assert claim.fill("v", 100)
    assert ours.clients[0].get("k") == "v"
    assert theirs.get("k") == "v"
    late = ours.claim("k", 10)
    assert late is not None
    theirs.delete("k")
    assert not late.fill("computed before the delete", 100)


def test_closing_closes_every_tier_even_if_one_fails(clock: ManualClock) -> None:
    closed: list[str] = []

    class Closing(InprocCacheClient):
        def close(self) -> None:
            closed.append("one")
            raise OSError("while closing")

    client: CacheClient = TieredInclusiveClient(Closing(1, clock=clock), Closing(1, clock=clock))
    with pytest.raises(OSError, match="closing"):
        client.close()
    assert len(closed) == 2


def test_searching_beyond_works_in_namespaces_too(clock: ManualClock) -> None:
    near, far = inproc(clock), inproc(clock)
    client = NamespaceWrapper("ns", TieredInclusiveClient(near, far))
    heard: list[Any] = []
    client.put("k", "v", 100)
    near.clear()
    assert client.get("k", promote_callback=lambda *told: heard.append(told)) == "v"
    near.clear()
    found = client.find_many(["k"], Search(on_promote=lambda *told: heard.append(told)))
    assert found["k"].value == "v"
    assert heard == [("k", "v", 100)] * 2
    near.clear()
    assert client.get("k", None, max_tiers=1) is None
    assert client.get("k", max_tiers=2) == "v"


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.delete("k"),
        lambda client: client.delete_multi(["k"]),
        lambda client: client.put("k", "new", 100),
        lambda client: client.put_multi({"k": "new"}, 100),
        lambda client: client.expire("k"),
        lambda client: client.purge(),
    ],
)
def test_a_reader_between_the_steps_of_a_write_brings_nothing_back(
    clock: ManualClock, change: Any
) -> None:
    """Whoever reads just before the far tier is written finds the near one as it was."""

    class BeforeWrite(InprocCacheClient):
        read: Callable[[], object] = staticmethod(lambda: None)

        def store(self, *args: Any, **options: Any) -> bool:
            self.read()
            return super().store(*args, **options)

        def discard(self, key: Any) -> bool:
            self.read()
            return super().discard(key)

        def outdate(self, key: Any) -> bool:
            self.read()
            return super().outdate(key)

        def sweep(self, before: float | None) -> int:
            self.read()
            return super().sweep(before)

    near, far = inproc(clock), BeforeWrite(100, clock=clock)
    client = TieredInclusiveClient(near, far)
    client.put("k", "old", 1 if change.__code__.co_names == ("purge",) else 100)
    if change.__code__.co_names == ("purge",):
        clock.advance(2)
    far.read = lambda: client.get("k", None)
    change(client)
    far.read = lambda: None
    assert near.get_ttl("k", "none")[0] == far.get_ttl("k", "none")[0]
    assert client.get("k", None) == far.get("k", None) != "old"
