"""Revisions are believed until somebody tells of a change, where somebody does."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import RecordingClient, inproc, together
from tests.parties import Party, Telling
from tiered import NO_NAMESPACE, NamespaceWrapper, TieredInclusiveClient, cached
from tiered.clients.base import CacheClient, Entry, HotPath
from tiered.clients.belief import Belief
from tiered.region import NO_VALUE, CacheRegion, SharedInvalidationStrategy, make_region
from tiered.testing import ManualClock
from tiered.typing import Following, Key, OnChange

RECHECK = 2.0
REVISIONS: list[Key] = [("tiered.region", "r", "hard"), ("tiered.region", "r", "soft")]
LONGEST = 10.0
"""Seconds for which silence is believed."""


class Holder:
    horizon = -math.inf


class Authority(Telling):
    """Counts the questions."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(Party(inproc(clock)))
        self.asked = 0
        self.tells = True

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        return super().follow(key, changed) if self.tells else None


class Asking:
    """A belief, and how it is confirmed."""

    def __init__(self, clock: ManualClock, keys: tuple[str, ...] = ("k",)) -> None:
        self.authority = Authority(clock)
        self.holder = Holder()
        self.belief = Belief(self.holder, keys, self.authority, clock, RECHECK)

    def ask(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        ticket = self.belief.ticket()
        self.authority.asked += 1
        meanwhile()
        self.belief.confirmed(ticket)

    def renewed(self) -> int:
        """How often the authority was asked by now."""
        self.belief.renew(self.ask)
        return self.authority.asked


@pytest.fixture
def asking(clock: ManualClock) -> Asking:
    return Asking(clock)


def test_an_authority_that_tells_nothing_is_asked_again(clock: ManualClock, asking: Asking) -> None:
    asking.authority.tells = False
    assert not asking.belief.holds()
    assert asking.renewed() == asking.renewed() == 1
    clock.advance(1.999)
    assert asking.renewed() == 1
    assert asking.belief.holds()
    assert asking.holder.horizon == clock.monotonic() + 0.001
    clock.advance(0.001)
    assert not asking.belief.holds()
    assert asking.renewed() == 2


def test_it_is_followed_when_it_is_first_asked(asking: Asking) -> None:
    assert asking.authority.follows == []
    asking.renewed()
    asking.renewed()
    assert [follow.key for follow in asking.authority.follows] == ["k"]


def test_silence_is_believed_while_the_lease_lasts(clock: ManualClock, asking: Asking) -> None:
    lease = asking.authority.lease
    lease.horizon = clock.monotonic() + 3
    assert asking.renewed() == 1
    assert asking.holder.horizon == lease.horizon
    clock.advance(2.9)
    assert asking.renewed() == 1
    lease.horizon += 1
    clock.advance(0.9)
    assert asking.renewed() == 1
    assert asking.holder.horizon == lease.horizon
    clock.advance(0.2)
    for count in (2, 3, 4):  # each time, as nobody would tell
        assert asking.renewed() == count
        assert not asking.belief.holds()
    lease.horizon = math.inf
    assert asking.renewed() == 4


def test_a_lease_that_ends_early_is_over(clock: ManualClock, asking: Asking) -> None:
    assert asking.renewed() == 1
    asking.authority.lease.horizon = -math.inf
    assert not asking.belief.holds()
    assert asking.holder.horizon == -math.inf
    assert asking.renewed() == 2


def test_nobody_is_believed_for_ever(clock: ManualClock, asking: Asking) -> None:
    assert asking.renewed() == 1
    clock.advance(LONGEST - 0.001)
    assert asking.renewed() == 1
    clock.advance(0.001)
    assert asking.renewed() == 2


def test_a_change_ends_it_at_once(asking: Asking) -> None:
    asking.renewed()
    asking.authority.hear("k", "done")
    asking.authority.hear("k", "asked")
    asking.authority.hear("another", "changed")
    assert asking.belief.holds()
    asking.authority.hear("k", "changed")
    assert asking.holder.horizon == -math.inf
    assert not asking.belief.holds()
    assert asking.renewed() == asking.renewed() == 2
    assert asking.belief.holds()


def test_a_change_while_it_is_asked_is_not_lost(asking: Asking) -> None:
    asking.renewed()
    asking.authority.hear("k", "changed")
    asking.belief.renew(lambda: asking.ask(lambda: asking.authority.hear("k", "changed")))
    assert asking.authority.asked == 2
    assert not asking.belief.holds()
    assert asking.holder.horizon == -math.inf
    assert asking.renewed() == 3
    assert asking.belief.holds()


def test_who_tells_of_a_change_does_not_wait_for_who_asks(asking: Asking) -> None:
    told = threading.Event()

    def tell() -> None:
        asking.authority.hear("k", "changed")
        told.set()

    def meanwhile() -> None:
        threading.Thread(target=tell, daemon=True).start()
        assert told.wait(10)

    asking.renewed()
    asking.belief.renew(lambda: asking.ask(meanwhile), anew=True)
    assert not asking.belief.holds()


def test_all_keys_are_followed_or_none(clock: ManualClock) -> None:
    asking = Asking(clock, ("k", "m"))
    asking.renewed()
    asking.authority.hear("m", "changed")
    assert not asking.belief.holds()

    class Half(Authority):
        def follow(self, key: Key, changed: OnChange) -> Following | None:
            return super().follow(key, changed) if key == "k" else None

    half = asking.authority = Half(clock)
    asking.belief = Belief(asking.holder, ("k", "m"), half, clock, RECHECK)
    asking.renewed()
    assert half.follows == []
    clock.advance(RECHECK)
    assert not asking.belief.holds()


def test_it_is_shortened_when_not_everybody_answers(clock: ManualClock, asking: Asking) -> None:
    asking.renewed()
    asking.belief.shorten()
    assert asking.belief.holds()
    clock.advance(RECHECK)
    assert not asking.belief.holds()
    asking.renewed()
    asking.authority.lease.horizon = clock.monotonic() + 1
    asking.belief.shorten()
    clock.advance(1)
    assert not asking.belief.holds()


def test_one_thread_asks_for_all_who_came_before_it(clock: ManualClock, asking: Asking) -> None:
    asking.renewed()
    asking.authority.lease.horizon = -math.inf
    began, go = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go.wait(10)

    first = threading.Thread(target=lambda: asking.belief.renew(lambda: asking.ask(wait)))
    first.start()
    assert began.wait(10)

    def work(number: int) -> None:
        if number == 0:
            while len(serials) < 5:
                pass
            go.set()
        else:
            asking.renewed()

    serials: list[int] = []
    serial = asking.belief.serial

    def counted() -> int:
        serials.append(serial())
        return serials[-1]

    asking.belief.serial = counted  # type: ignore[method-assign]
    assert together(work, 6) == [None] * 6
    first.join(10)
    # The first one's question was under way already; one of the five asks for all of them.
    assert asking.authority.asked == 3


def test_a_forked_child_follows_again(asking: Asking) -> None:
    asking.renewed()
    lock = asking.belief.asking
    with lock:
        asking.belief.after_fork()
    assert asking.belief.asking is not lock
    assert not asking.belief.holds()
    assert asking.holder.horizon == -math.inf
    asking.authority.follows.clear()  # in a child nobody follows
    assert asking.renewed() == 2
    asking.authority.hear("k", "changed")
    assert not asking.belief.holds()


# -- Namespaces ----------------------------------------------------------------------


class Fleet:
    """Processes with tiers over one server, whose clients tell of changes."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.server = RecordingClient(inproc(clock, 1000))
        self.party = Party(self.server)

    def tiers(self) -> CacheClient:
        return TieredInclusiveClient(inproc(self.clock), self.party.join())

    def asked(self) -> list[Any]:
        """What was asked of the server since the last time."""
        calls, self.server.calls = self.server.calls, []
        return [name for name, *_ in calls]


@pytest.fixture
def fleet(clock: ManualClock) -> Fleet:
    return Fleet(clock)


def test_a_clear_is_heard_of_at_once(fleet: Fleet) -> None:
    ours, theirs = (NamespaceWrapper("ns", fleet.tiers(), recheck=1000) for _ in range(2))
    ours.put("k", "v", 1000)
    assert theirs.get("k") == "v"
    theirs.clear()
    assert theirs.get("k", None) is None
    assert ours.get("k", None) is None


def test_the_front_door_hears_of_a_clear_at_once(fleet: Fleet) -> None:
    ours, theirs = (
        cached(fleet.tiers(), 1000, namespace="f")(lambda x: object()) for _ in range(2)
    )
    first = ours(1)
    assert theirs(1) is ours(1) is first
    fleet.clock.advance(5)
    assert ours(1) is first
    fleet.asked()
    assert ours(1) is first
    assert fleet.asked() == []
    assert ours.stats.near_hits >= 2
    theirs.clear()
    assert theirs(1) is ours(1) is not first


def test_a_revision_is_confirmed_by_each_reader_once_the_lease_is_over(fleet: Fleet) -> None:
    client = NamespaceWrapper("ns", fleet.tiers())
    client.put("k", "v", 1000)
    fleet.clock.advance(5)  # beyond the recheck of those who are told nothing
    fleet.asked()
    assert client.get("k") == client.get("k") == "v"
    assert client.near("k") is not None
    assert fleet.asked() == []
    fleet.party.clients[0].lease.horizon = -math.inf
    assert client.near("k") is None
    assert client.get("k") == client.get("k") == "v"
    assert fleet.asked() == ["entry", "entry"]


def test_our_own_clear_is_believed(fleet: Fleet) -> None:
    client = NamespaceWrapper("ns", fleet.tiers())
    client.clear()
    fleet.asked()
    client.put("k", "v", 1000)
    fleet.clock.advance(5)
    assert client.get("k") == "v"
    assert fleet.asked() == ["store"]


def test_a_clear_by_others_during_ours_is_not_lost(fleet: Fleet) -> None:
    class Slow(Telling):
        def decree(self, key: Key, value: Any) -> None:
            super().decree(key, value)
            theirs.clear()

    slow = Slow(fleet.party)
    fleet.party.clients.append(slow)
    theirs = NamespaceWrapper("ns", fleet.tiers())
    ours = NamespaceWrapper("ns", TieredInclusiveClient(inproc(fleet.clock), slow))
    ours.clear()
    theirs.put("k", "v", 1000)
    assert ours.get("k") == "v"


def test_a_deaf_server_leaves_the_last_revision_for_an_interval(fleet: Fleet) -> None:
    client = NamespaceWrapper("ns", fleet.tiers(), recheck=RECHECK)
    client.put("k", "v", 1000)
    remote = fleet.party.clients[0]
    agree = remote.agree
    remote.agree = lambda key, proposal: None  # type: ignore[method-assign]
    fleet.clock.advance(LONGEST)
    assert client.get("k") == "v"
    assert client.state.believed
    remote.agree = agree  # type: ignore[method-assign]
    remote.decree(client.state.revision_key, "another")
    fleet.clock.advance(RECHECK)
    assert client.get("k", None) is None


def test_one_that_is_known_to_be_old_is_not_used_though_the_server_is_deaf(fleet: Fleet) -> None:
    """And of deletes of single keys, nobody here tells those who have another."""
    client = NamespaceWrapper("ns", fleet.tiers(), recheck=RECHECK)
    client.put("k", "v", 1000)
    remote = fleet.party.clients[0]
    agree = remote.agree
    remote.agree = lambda key, proposal: None  # type: ignore[method-assign]
    remote.hear(client.state.revision_key, "changed")
    for _ in range(2):
        assert client.get("k", None) is None
        client.put("k", "w", 1000)
        assert not client.state.believed
    remote.agree = agree  # type: ignore[method-assign]
    assert client.get("k") == "v"  # it was the same all the time


def test_who_follows_a_key_in_a_namespace_hears_of_its_clear(fleet: Fleet) -> None:
    ours, theirs = (
        NamespaceWrapper("outer", NamespaceWrapper("inner", fleet.tiers())) for _ in range(2)
    )
    inner = theirs.client
    assert isinstance(inner, NamespaceWrapper)
    heard: list[str] = []
    remote = fleet.party.clients[0]
    ours.put("k", "v", 1000)
    before = len(remote.follows)
    following = ours.follow("k", heard.append)
    assert following is not None
    theirs.delete("k")
    assert heard == ["changed"]
    theirs.delete("m")
    assert heard == ["changed"]
    theirs.clear()
    inner.clear()
    assert heard == ["changed"] * 3
    assert following.lease.horizon == math.inf
    remote.lease.horizon = 3.0
    assert following.lease.horizon == 3.0
    following.close()
    following.close()
    assert len(remote.follows) == before
    assert NamespaceWrapper("ns", inproc(fleet.clock)).follow("k", heard.append) is None


@pytest.mark.parametrize("depth", [1, 2])
def test_a_prefix_that_is_read_before_it_is_believed_is_not_used(fleet: Fleet, depth: int) -> None:
    """Another thread confirms the revision while the call makes its key."""

    class Slow:
        def __init__(self) -> None:
            self.hashed: Callable[[], object] = lambda: None

        def __hash__(self) -> int:
            hashed, self.hashed = self.hashed, lambda: None
            hashed()
            return 7

    tiers = fleet.tiers()
    store: dict[Any, Entry] = {}

    class Near(TieredInclusiveClient):
        """With a hot path of Python, whatever is compiled."""

        def hot_path(self) -> HotPath | None:
            return HotPath(store.get)

    near = Near(*tiers.clients)  # type: ignore[attr-defined]
    client: CacheClient = near
    for number in range(depth):
        client = NamespaceWrapper(f"ns{number}", client)
    assert isinstance(client, NamespaceWrapper)
    state = client.state
    f = cached(client, 1000, namespace=NO_NAMESPACE, key=lambda x: x)(lambda x: "new")
    key = Slow()
    client.put(key, "new", 1000)
    old = client.inner_key(key)
    if depth == 2:
        old = client.client.inner_key(old)  # type: ignore[attr-defined]
    store[old] = Entry("old", math.inf)
    assert f(key) == "old"
    belief = state._belief
    state.horizon = -math.inf

    def confirm() -> None:
        state.prefix = "ns@another"
        belief.confirmed(belief.ticket())

    key.hashed = confirm
    assert f(key) == "new"


# -- Regions -------------------------------------------------------------------------


def region_of(fleet: Fleet, **options: Any) -> CacheRegion:
    return make_region("r").configure(fleet.tiers(), 10**6, options)


@pytest.mark.parametrize("hard", [True, False])
def test_an_invalidation_of_a_region_is_heard_of_at_once(fleet: Fleet, hard: bool) -> None:
    ours, theirs = (region_of(fleet, recheck=10**6) for _ in range(2))
    assert ours.get_or_create("k", lambda: 1) == 1
    assert theirs.get_or_create("k", lambda: 2) == 1
    f = ours.cache_on_arguments()(lambda: object())
    first = f()
    assert f() is first
    theirs.invalidate(hard=hard)
    assert f() is not first
    assert ours.get_or_create("k", lambda: 3) == 3
    assert theirs.get_or_create("k", lambda: 4) in (3, 4)


def test_a_region_asks_nobody_while_nobody_tells(fleet: Fleet) -> None:
    region = region_of(fleet)
    lease = fleet.party.clients[0].lease
    lease.horizon = fleet.clock.monotonic() + 6
    region.get_or_create("k", lambda: 1)
    fleet.clock.advance(5)
    fleet.asked()
    assert region.get("k") == region.get("k") == 1
    assert fleet.asked() == []
    fleet.clock.advance(1)
    for _ in range(2):
        assert region.get("k") == 1
        assert "entries" in fleet.asked()


@pytest.mark.parametrize("attempts", [1, 2])
def test_an_owed_invalidation_is_told_within_an_interval(fleet: Fleet, attempts: int) -> None:
    region, other = region_of(fleet), region_of(fleet)
    region.get_or_create("k", lambda: 1)
    assert other.get("k") == 1
    strategy = SharedInvalidationStrategy.of("r", region.actual_backend.client)  # type: ignore[attr-defined]
    remote = fleet.party.clients[0]
    remote.decree = lambda key, value: None  # type: ignore[method-assign]  # heard by nobody
    strategy.invalidate()
    for _ in range(1, attempts):
        fleet.clock.advance(1)
        strategy.current()
    assert other.get("k") == 1
    del remote.decree
    fleet.clock.advance(1)
    strategy.current()
    assert other.get("k") is NO_VALUE


def test_all_servers_are_compared_after_a_change(fleet: Fleet) -> None:
    """The one that is asked usually may be one that has not heard of it."""
    region = region_of(fleet)
    region.get_or_create("k", lambda: 1)
    remote = fleet.party.clients[0]

    def agree(key: Key, proposal: Any) -> Entry:
        """Another one has heard, and passes it on to this one."""
        fleet.server.client.store(key, "another 1.0", math.inf)
        return Entry("another 1.0", math.inf)

    remote.agree = agree  # type: ignore[method-assign]
    assert region.get("k") == 1
    for key in REVISIONS:
        remote.hear(key, "changed")
    assert region.get("k") is NO_VALUE
