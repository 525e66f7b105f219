"""Flights that hear of other processes: who waits is woken, what is out of date is not kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from tests.fakes import RemoteFake, inproc, until
from tests.parties import Party, Telling
from tests.regions import PATIENCE, HeldUp, in_threads
from tiered import CacheClient, TieredInclusiveClient, WorkerPool, cached
from tiered.clients.base import Claim, Entry
from tiered.clients.namespace import NamespaceWrapper
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.flight import Flight, Flights
from tiered.concurrency.outcome import Outcome
from tiered.concurrency.waker import Waker
from tiered.region import CacheRegion, make_region
from tiered.stats.reports import Reports
from tiered.steps.awaiting import Awaiting
from tiered.steps.blocking import Blocking
from tiered.steps.effects import Pause, Steps
from tiered.steps.following import UNFOLLOWED, Follower
from tiered.steps.pooled import Pooled
from tiered.testing import ManualClock
from tiered.typing import Following, Key, OnChange

LONG = 2 * PATIENCE
"""Seconds of a pause: a test that waits for its end has failed."""


# -- Wakers, and the three ways to wait ------------------------------------------------


def test_a_ring_is_remembered_until_it_is_cleared() -> None:
    waker = Waker()
    assert not waker.wait(0)
    waker.ring()
    waker.ring()
    assert waker.wait(0)
    waker.clear()
    assert not waker.wait(0)


def test_a_callback_comes_once() -> None:
    waker = Waker()
    heard: list[str] = []
    waker.then(lambda: heard.append("forgotten"))
    waker.then(lambda: heard.append("first"))
    waker.ring()
    waker.ring()
    assert heard == ["first"]
    waker.then(lambda: heard.append("at once"))
    assert heard == ["first", "at once"]
    waker.clear()
    waker.then(lambda: heard.append("cleared"))
    waker.clear()
    waker.ring()
    assert heard == ["first", "at once"]


def pausing(seconds: float, waker: Waker | None) -> Steps[Outcome]:
    yield Pause(seconds, waker)
    return Outcome("rested")


class Drivers:
    """The three of them."""

    def __init__(self, pool: WorkerPool, slept: Callable[[float], object]) -> None:
        flights = Flights()
        self.pool = pool
        self.pooled = Pooled(
            len,
            sleep=slept,
            pool=pool,
            flights=flights,
            elsewhere=False,
            name="f",
            reports=Reports("tiered.tests", SYSTEM_CLOCK),
        )
        self.blocking = Blocking(len, slept, self.pooled, False)
        self.awaiting = Awaiting(
            len, awaits=False, blocking=False, pooled=self.pooled, flights=flights
        )

    def rest(self, way: str, seconds: float, waker: Waker | None) -> str:
        steps = pausing(seconds, waker)
        if way == "blocking":
            return str(self.blocking.run(steps).get())
        if way == "awaiting":
            return str(asyncio.run(self.awaiting.get(steps)))
        return str(self.pooled.future(steps).result(PATIENCE))


WAYS = ["blocking", "pooled", "inline", "awaiting"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def drivers(way: str) -> Iterator[Drivers]:
    pool = WorkerPool(0 if way == "inline" else 2)
    yield Drivers(pool, lambda seconds: pytest.fail("slept"))
    pool.close()


def test_a_pause_ends_when_it_is_rung_for(way: str, drivers: Drivers) -> None:
    waker = Waker()
    resting = in_threads(lambda: drivers.rest(way, LONG, waker))
    waker.ring()
    assert resting() == ["rested"]
    assert drivers.rest(way, LONG, waker) == "rested"  # it was rung for before


def test_a_pause_ends_by_itself(way: str, drivers: Drivers) -> None:
    waker = Waker()
    assert drivers.rest(way, 0.001, waker) == "rested"
    waker.ring()  # too late, for nobody


def test_without_a_waker_a_pause_is_a_sleep_of_the_clock(way: str) -> None:
    slept: list[float] = []
    drivers = Drivers(WorkerPool(0), slept.append)
    if way != "awaiting":
        assert drivers.rest(way, LONG, None) == "rested"
        assert slept == [LONG]


def test_who_rings_does_not_go_on_with_the_steps() -> None:
    """A thread of a bus has other things to do."""
    pool = WorkerPool(1)
    drivers = Drivers(pool, lambda seconds: None)
    waker = Waker()
    came: list[str] = []

    def steps() -> Steps[Outcome]:
        yield Pause(LONG, waker)
        came.append(threading.current_thread().name)
        return Outcome("rested")

    future = drivers.pooled.future(steps())
    until(lambda: waker._callback)
    waker.ring()
    assert future.result(PATIENCE) == "rested"
    assert came != [threading.current_thread().name]
    pool.close()


def test_a_ring_that_the_pool_has_no_room_for_is_no_loss() -> None:
    pool = WorkerPool(1, max_queue=2)
    drivers = Drivers(pool, lambda seconds: None)
    waker = Waker()
    future = drivers.pooled.future(pausing(0.2, waker))
    until(lambda: waker._callback)
    busy = HeldUp()
    pool.submit(busy)
    assert busy.began.wait(PATIENCE)
    pool.submit(len, delay=LONG)  # type: ignore[arg-type]  # never runs
    waker.ring()  # refused: two wait already
    busy.go.set()
    assert future.result(PATIENCE) == "rested"
    pool.close()


def test_who_rests_is_told_when_the_pool_is_closed() -> None:
    pool = WorkerPool(1)
    drivers = Drivers(pool, lambda seconds: None)
    waker = Waker()
    future = drivers.pooled.future(pausing(LONG, waker))
    until(lambda: waker._callback)
    pool.close()
    with pytest.raises(CancelledError):
        future.result(PATIENCE)
    waker.ring()


# -- The table of flights ---------------------------------------------------------------


def test_a_flight_is_retired_without_waiting_for_its_write() -> None:
    flights = Flights()
    flight, _ = flights.enter("k")
    flight.begin()
    writing = HeldUp()
    written = in_threads(lambda: flight.publish(writing))
    assert writing.began.wait(PATIENCE)
    flights.retire("k", flight)
    assert "k" not in flights
    newer, new = flights.enter("k")
    assert new
    flights.retire("k", flight)  # not the newer one
    assert flights.enter("k") == (newer, False)
    # Who takes back what is there waits for that write all the same.
    superseding = in_threads(lambda: flights.supersede("k"))
    writing.go.set()
    assert written() == [True]
    assert superseding() == [True]
    assert not flight.publish(lambda: pytest.fail("written"))
    flights.finish("k", flight)
    assert not flights._leaving


def test_a_write_that_began_before_it_was_retired_is_waited_for() -> None:
    flights = Flights()
    flight, _ = flights.enter("k")
    flight.begin()
    writing = HeldUp()
    written = in_threads(lambda: flight.publish(writing))
    assert writing.began.wait(PATIENCE)
    flights.retire("k", flight)
    done = threading.Event()

    def supersede() -> None:
        flights.supersede("k")
        done.set()

    superseding = in_threads(supersede)
    assert not done.wait(0.05)
    writing.go.set()
    superseding()
    written()
    flights.drop("k", flight)
    assert not flights._leaving


# -- What a flight makes of what it hears -------------------------------------------------


class Heard:
    """A flight, and what tells it."""

    def __init__(self) -> None:
        self.flights = Flights()
        self.flight, _ = self.flights.enter("k")
        self.told: list[OnChange] = []
        self.closed = 0
        self.followed = Follower(self.flights, self.follow, lambda: 0.0, told=True).of(
            "k", self.flight
        )

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        assert key == "k"
        self.told.append(changed)
        return self

    @property
    def lease(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1

    def change(self, how: str = "changed") -> None:
        (told,) = self.told
        told(how)

    def joined(self) -> bool:
        return "k" in self.flights


def test_it_follows_once_until_it_has_ended() -> None:
    heard = Heard()
    heard.followed.begin()
    heard.followed.begin()
    assert len(heard.told) == 1
    assert heard.closed == 0
    heard.flight.land(Outcome(1))
    assert heard.closed == 1
    late = Heard()
    late.flight.abandon()
    late.followed.begin()  # in a thread that goes on after its task was cancelled
    assert late.closed == 1


def test_who_looks_looks_again() -> None:
    heard = Heard()
    followed = heard.followed
    followed.look()
    followed.begin()
    heard.change()
    assert heard.joined()
    assert not heard.flight.superseded
    assert not followed.decide()
    followed.look()
    heard.change("done")
    heard.change("asked")
    assert followed.decide()
    assert heard.joined()


def test_who_looks_in_vain_may_not_be_joined_any_more() -> None:
    heard = Heard()
    followed = heard.followed
    followed.begin()
    for _ in range(2):
        assert heard.joined()
        followed.look()
        heard.change()
        assert not followed.decide()
    assert not heard.joined()
    followed.look()
    heard.change()
    assert followed.decide()  # for those who had asked by then


@pytest.mark.parametrize("computes", [True, False])
def test_who_has_decided_is_superseded(computes: bool) -> None:
    heard = Heard()
    followed = heard.followed
    followed.look()
    followed.begin()
    if computes:
        followed.compute()
    else:
        assert followed.decide()
    heard.change("done")
    assert heard.joined()
    heard.change()
    assert not heard.joined()
    assert heard.flight.superseded


def test_who_waits_is_woken_and_not_superseded() -> None:
    heard = Heard()
    followed = heard.followed
    followed.begin()
    waker = followed.waker
    assert waker is not None
    for how, rings in (("changed", True), ("done", True), ("asked", False)):
        followed.rearm()
        followed.look()
        heard.change(how)
        assert waker.wait(0) is rings
    assert heard.joined()
    assert not heard.flight.superseded


def test_who_is_told_nothing_does_not_ask_again() -> None:
    asked: list[Key] = []

    def follow(key: Key, changed: OnChange) -> Following | None:
        asked.append(key)
        return None

    flights = Flights()
    follower = Follower(flights, follow, lambda: 0.0, told=True)
    flight, _ = flights.enter("k")
    first, second = follower.of("k", flight), follower.of("k", flight)
    first.begin()
    second.begin()
    assert first.waker is second.waker is None
    assert follower.of("k", flight) is UNFOLLOWED
    assert asked == ["k", "k"]
    UNFOLLOWED.begin()
    UNFOLLOWED.rearm()
    UNFOLLOWED.look()
    UNFOLLOWED.compute()
    assert UNFOLLOWED.decide()


def test_a_key_that_cannot_be_compared_does_not_stop_who_tells() -> None:
    class Moody:
        def __init__(self) -> None:
            self.error: Exception | None = None

        def __hash__(self) -> int:
            if self.error is not None:
                raise self.error
            return 7

    flights, key = Flights(), Moody()
    flight, _ = flights.enter(key)
    key.error = ValueError("not today")
    flights.retire(key, flight)
    assert flight.superseded


# -- Cached functions ---------------------------------------------------------------------


class Process(Telling):
    """The client of one process, which can be watched."""

    def __init__(self, party: Party) -> None:
        super().__init__(party)
        party.clients.append(self)
        self.tiers: CacheClient = self
        self.refused = threading.Event()
        self.claims = 0
        self.meanwhile: list[Callable[[], object]] = []
        """What happens, one after the other, right after this client has read ``1`` or ``"k"``."""

    def hear(self, key: Key, how: str) -> None:
        if how == "changed":
            self.tiers.drop_near(key)
        super().hear(key, how)

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        claim = super().claim(key, ttl)
        self.claims += 1
        if claim is None:
            self.refused.set()
        return claim

    def entry(self, key: Key) -> Entry | None:
        return self.entries([key]).get(key)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        wanted = list(keys)
        found = super().entries(wanted)
        if self.meanwhile and any(key == "k" or key[1] == 1 for key in wanted):  # type: ignore[index]
            self.meanwhile.pop(0)()
        return {key: Entry(entry.value, entry.deadline) for key, entry in found.items()}


class Sleepless(ManualClock):
    """Nobody is to sleep who could be woken."""

    def sleep(self, seconds: float) -> None:
        raise AssertionError("slept")


class Fleet:
    """Processes over one server."""

    def __init__(self) -> None:
        self.clock = clock = Sleepless()
        self.party = Party(inproc(clock, 1000))

    def tiers(self) -> TieredInclusiveClient:
        process = Process(self.party)
        process.tiers = tiers = TieredInclusiveClient(inproc(self.clock), process)
        return tiers

    def process(self, function: Any, **options: Any) -> tuple[Any, Process]:
        tiers = self.tiers()
        remote = tiers.clients[1]
        assert isinstance(remote, Process)
        return cached(tiers, 600, namespace="f", **options)(function), remote


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    # Who has to look by himself looks once in a long while.
    for module in ("tiered.decorators.leader", "tiered.region.creation"):
        monkeypatch.setattr(f"{module}._FIRST_PAUSE", LONG)
        monkeypatch.setattr(f"{module}._LONGEST_PAUSE", LONG)
    return Fleet()


def aio(f: Any) -> Any:
    return asyncio.run(f.aio(1))


ASKS: list[Callable[[Any], Any]] = [
    lambda f: f(1),
    lambda f: f.future()(1).result(PATIENCE),
    aio,
    lambda f: f.multi([1])[1],
]


@pytest.mark.parametrize("ask", ASKS, ids=["call", "future", "aio", "multi"])
def test_who_waits_for_another_process_is_woken_by_its_value(
    fleet: Fleet, ask: Callable[[Any], Any]
) -> None:
    computing = HeldUp("value")
    ours, _ = fleet.process(lambda x: computing())
    theirs, waiting = fleet.process(lambda x: pytest.fail("computed twice"))
    first = in_threads(lambda: ours(1))
    assert computing.began.wait(PATIENCE)
    second = in_threads(lambda: ask(theirs))
    assert waiting.refused.wait(PATIENCE)
    computing.go.set()
    assert first() == second() == ["value"]
    assert theirs.stats.shared == 1


@pytest.mark.parametrize("ask", ASKS, ids=["call", "future", "aio", "multi"])
def test_who_waits_for_another_process_is_woken_when_it_gives_up(
    fleet: Fleet, ask: Callable[[Any], Any]
) -> None:
    failing = HeldUp(error=OSError("the source is down"))
    ours, _ = fleet.process(lambda x: failing())
    theirs, waiting = fleet.process(lambda x: "value")
    first = in_threads(lambda: ours(1))
    assert failing.began.wait(PATIENCE)
    second = in_threads(lambda: ask(theirs))
    assert waiting.refused.wait(PATIENCE)
    failing.go.set()
    assert isinstance(first()[0], OSError)
    assert second() == ["value"]


def test_who_waits_for_another_process_is_woken_by_a_change(fleet: Fleet) -> None:
    computing = HeldUp("old")
    ours, _ = fleet.process(lambda x: computing())
    theirs, waiting = fleet.process(lambda x: "computed")
    third, _ = fleet.process(lambda x: "unused")
    first = in_threads(lambda: ours(1))
    assert computing.began.wait(PATIENCE)
    second = in_threads(lambda: theirs(1))
    assert waiting.refused.wait(PATIENCE)
    assert third.put(1, _cache_put="new")
    assert second() == ["new"]
    computing.go.set()
    assert first() == ["old"]
    assert third(1) == theirs(1) == "new"


def test_who_is_woken_in_vain_waits_again(fleet: Fleet) -> None:
    computing = HeldUp("value")
    ours, _ = fleet.process(lambda x: computing())
    theirs, waiting = fleet.process(lambda x: "computed twice")
    first = in_threads(lambda: ours(1))
    assert computing.began.wait(PATIENCE)
    second = in_threads(lambda: theirs(1))
    for count in range(1, 4):
        until(lambda count=count: waiting.claims >= count)  # type: ignore[misc]
        waiting.hear(theirs.client.inner_key(1), "done")
    until(lambda: waiting.claims >= 4)
    computing.go.set()
    assert first() == second() == ["value"]
    assert waiting.claims <= 6


@pytest.mark.parametrize("ask", ASKS, ids=["call", "future", "aio", "multi"])
@pytest.mark.parametrize("change", ["invalidate", "expire", "put", "clear"])
def test_who_asks_after_a_change_elsewhere_does_not_join_what_began_before(
    fleet: Fleet, change: str, ask: Callable[[Any], Any]
) -> None:
    """The value of the source is read when the function begins."""
    source = ["old"]
    began, go = threading.Event(), threading.Event()

    def compute(x: int) -> str:
        value = source[0]
        if value == "old":
            began.set()
            assert go.wait(PATIENCE)
        return value

    ours, remote = fleet.process(compute)
    theirs, _ = fleet.process(compute)
    first = in_threads(lambda: ours(1))
    assert began.wait(PATIENCE)
    source[0] = "new"
    if change == "put":
        theirs.put(1, _cache_put="new")
    elif change == "clear":
        theirs.clear()
    else:
        getattr(theirs, change)(1)
        # The fake server's claims do not end with a delete in another process.
        fleet.party.server._claims.revoke_all()
    assert ask(ours) == "new"
    go.set()
    assert first() == ["old"]  # who asked before
    assert ours(1) == theirs(1) == "new"
    until(lambda: not ours._core.engine.flights._leaving)
    key = ours.client.inner_key(1)
    until(lambda: key not in [follow.key for follow in remote.follows])


def test_the_end_of_anothers_claim_does_not_supersede_ours(fleet: Fleet) -> None:
    computing = HeldUp("value")
    ours, remote = fleet.process(lambda x: computing())
    first = in_threads(lambda: ours(1))
    assert computing.began.wait(PATIENCE)
    key = ours.client.inner_key(1)
    remote.hear(key, "done")
    second = in_threads(lambda: ours(1))
    computing.go.set()
    assert first() == second() == ["value"]
    assert computing.calls == 1
    assert ours.stats.computations == 1
    assert ours.peek(1) == "value"


def test_what_was_found_before_a_change_elsewhere_is_looked_for_again(fleet: Fleet) -> None:
    """Others may have joined the flight since then."""
    ours, remote = fleet.process(lambda x: "computed")
    theirs, _ = fleet.process(lambda x: "theirs")
    theirs.put(1, _cache_put="old")
    ours(2)  # the namespace is known
    joining: list[Any] = []

    def change() -> None:
        theirs.put(1, _cache_put="new")
        joining.append(in_threads(lambda: ours(1)))

    remote.meanwhile = [change]
    assert ours(1) == "new"
    assert joining[0]() == ["new"]
    assert ours.stats.computations == 1


def test_what_was_found_for_many_before_a_change_elsewhere_is_looked_for_again(
    fleet: Fleet,
) -> None:
    ours, remote = fleet.process(lambda x: "computed")
    theirs, _ = fleet.process(lambda x: "theirs")
    theirs.put(1, _cache_put="old")
    ours(2)
    remote.meanwhile = [lambda: theirs.put(1, _cache_put="new")]
    assert ours.multi([1, 2]) == {1: "new", 2: "computed"}


def test_a_key_that_changes_all_the_time_is_not_looked_for_for_ever(fleet: Fleet) -> None:
    ours, remote = fleet.process(lambda x: "computed")
    theirs, _ = fleet.process(lambda x: "theirs")
    theirs.put(1, _cache_put=0)
    ours(2)
    looks: list[bool] = []

    def change() -> None:
        looks.append(1 in ours._core.engine.flights)
        theirs.put(1, _cache_put=len(looks))

    remote.meanwhile = [change] * 10
    assert ours(1) == 2  # what the third look found
    # Nobody joins while the last one is under way.
    assert looks == [True, True, False]


def test_a_client_that_tells_nothing_is_followed_by_nobody(clock: ManualClock) -> None:
    asked: list[Key] = []

    class Deaf(RemoteFake):
        def follow(self, key: Key, changed: OnChange) -> Following | None:
            asked.append(key)
            return None

    f = cached(Deaf(inproc(clock)), 600)(lambda x: x)
    for x in range(5):
        f(x)
    assert len(asked) == 2  # for the namespace, and for the first call
    g = cached(inproc(clock), 600)(lambda x: x)
    assert g._core.engine.leader._follower.of(1, Flight()) is UNFOLLOWED


def test_who_waits_has_a_limit(clock: ManualClock) -> None:
    server = inproc(clock)
    clients: list[CacheClient] = [RemoteFake(server), RemoteFake(server)]
    computing = HeldUp("theirs")
    ours = cached(clients[0], 600, namespace="f", wait_time=5, claim_ttl=100)(lambda x: "ours")
    theirs = cached(clients[1], 600, namespace="f", claim_ttl=100)(lambda x: computing())
    first = in_threads(lambda: theirs(1))
    assert computing.began.wait(PATIENCE)
    began = clock.monotonic()
    assert ours(1) == "ours"
    assert clock.monotonic() == pytest.approx(began + 5)
    assert ours.client.get(1, None) is None  # not stored: it is theirs to do
    computing.go.set()
    assert first() == ["theirs"]
    assert ours(1) == "theirs"


def test_so_has_who_waits_for_many(clock: ManualClock) -> None:
    server = inproc(clock)
    clients: list[CacheClient] = [RemoteFake(server), RemoteFake(server)]
    computed: list[int] = []

    def compute(x: int) -> str:
        computed.append(x)
        return "ours"

    ours = cached(clients[0], 600, namespace="f", wait_time=5, claim_ttl=100)(compute)
    theirs = NamespaceWrapper("f", clients[1])
    claims = [theirs.claim(x, 100) for x in (1, 2, 3)]
    began = clock.monotonic()
    assert ours.multi([0, 1, 2, 3, 4]) == dict.fromkeys(range(5), "ours")
    assert clock.monotonic() == pytest.approx(began + 5)
    assert computed == [0, 1, 2, 3, 4]
    assert [ours.client.get(x, None) for x in range(5)] == ["ours", None, None, None, "ours"]
    assert all(claims)


@pytest.mark.parametrize("change", ["invalidate", "expire", "clear", "put", "refresh"])
def test_a_failure_from_before_a_change_elsewhere_is_not_remembered(
    clock: ManualClock, change: str
) -> None:
    server = inproc(clock)
    computing = HeldUp("theirs", error=ValueError("theirs"))
    options: dict[str, Any] = {"namespace": "f", "cache_errors": {ValueError: 60}}
    ours = cached(RemoteFake(server), 600, claim_ttl=100, **options)(lambda x: "ours")
    theirs = cached(RemoteFake(server), 600, claim_ttl=100, **options)(lambda x: computing())

    def failing() -> None:
        with pytest.raises(ValueError, match="theirs"):
            theirs(1)

    ours(1)
    ours.invalidate(1)
    first = in_threads(failing)
    assert computing.began.wait(PATIENCE)
    if change == "clear":
        ours.clear()
    elif change == "put":
        ours.put(1, _cache_put="ours")
    else:
        getattr(ours, change)(1)
    computing.go.set()
    first()
    ours.client.delete(1)  # and the value alone, so that a failure would be seen
    assert ours(1) == "ours"
    again = cached(RemoteFake(server), 600, claim_ttl=100, **options)(lambda x: fail())
    ours.invalidate(1)
    for _ in range(2):  # and one that nobody has changed meanwhile is
        with pytest.raises(ValueError, match="again"):
            again(1)
    assert again.stats.computations == 1


def fail() -> str:
    raise ValueError("again")


# -- Regions ------------------------------------------------------------------------------


def region_of(fleet: Fleet) -> tuple[CacheRegion, Process]:
    tiers = fleet.tiers()
    remote = tiers.clients[1]
    assert isinstance(remote, Process)
    return make_region("r").configure(tiers, 10**6, {"lock_timeout": 10**6}), remote


def one(region: CacheRegion, creator: Callable[..., Any]) -> Any:
    return region.get_or_create("k", creator)


def many(region: CacheRegion, creator: Callable[..., Any]) -> Any:
    return region.get_or_create_multi(["k"], lambda *keys: [creator()])[0]


async def _awaited(region: CacheRegion, creator: Callable[..., Any]) -> Any:
    return await region.aio.get_or_create("k", creator)


def awaited(region: CacheRegion, creator: Callable[..., Any]) -> Any:
    return asyncio.run(_awaited(region, creator))


@pytest.mark.parametrize("ask", [one, many, awaited])
def test_who_waits_for_a_value_of_a_region_is_woken(fleet: Fleet, ask: Any) -> None:
    (ours, _), (theirs, waiting) = region_of(fleet), region_of(fleet)
    making = HeldUp("value")
    first = in_threads(lambda: one(ours, making))
    assert making.began.wait(PATIENCE)
    second = in_threads(lambda: ask(theirs, lambda: pytest.fail("made twice")))
    assert waiting.refused.wait(PATIENCE)
    making.go.set()
    assert first() == second() == ["value"]


@pytest.mark.parametrize("ask", [one, many, awaited])
def test_who_asks_a_region_after_a_delete_elsewhere_does_not_join_what_began_before(
    fleet: Fleet, ask: Any
) -> None:
    (ours, remote), (theirs, _) = region_of(fleet), region_of(fleet)
    making = HeldUp("old")
    first = in_threads(lambda: ask(ours, making))
    assert making.began.wait(PATIENCE)
    theirs.delete("k")
    fleet.party.server._claims.revoke_all()
    assert one(ours, lambda: "new") == "new"
    making.go.set()
    assert first() == ["old"]
    assert ours.get("k") == theirs.get("k") == "new"
    until(lambda: "k" not in [follow.key for follow in remote.follows])


@pytest.mark.parametrize("ask", [one, many, awaited])
def test_what_a_region_found_before_a_change_elsewhere_is_looked_for_again(
    fleet: Fleet, ask: Any
) -> None:
    (ours, remote), (theirs, _) = region_of(fleet), region_of(fleet)
    one(ours, lambda: "unused")
    ours.delete("k")
    theirs.get("k")
    # Nothing is there at first; in the second look, which leads a flight, something that changes.
    remote.meanwhile = [lambda: theirs.set("k", "old"), lambda: theirs.set("k", "new")]
    assert ask(ours, lambda: "ours") == "new"
    assert remote.meanwhile == []
