"""``get_or_create``: what each caller does, as steps that a thread or an event loop performs.

A value is made by one caller at a time: one of the threads and tasks of this process, by the
flight of its key (:mod:`tiered.concurrency.flight`), and one of all processes where the backend
has a mutex or claims (:mod:`tiered.region.holding`). Who finds a value that is out of date
while another makes it anew is served with it; who finds none waits, holding nothing, and gets
the other's value or exception. Who is asked for what it is making calls through.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tiered.concurrency.flight import CircularWait, Flight, Flights
from tiered.concurrency.outcome import Outcome
from tiered.keys.call import BoundCall
from tiered.region.api import NO_VALUE, CachedValue, CacheReturnType, KeyType, ValuePayload
from tiered.region.freshness import Freshness, Standing
from tiered.region.holding import HandedOver, Hold, Holder, Taking
from tiered.region.keeping import Keeping
from tiered.stats.reports import Reports
from tiered.steps.counting import CallCounters
from tiered.steps.effects import Ask, Await, Compute, Lead, Pause, Steps
from tiered.steps.following import Followed, Follower
from tiered.steps.landing import begun
from tiered.typing import Clock

__all__ = ["Creation", "Found", "Order", "pauses"]

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.01
"""Seconds between two looks for a value that another process is making."""


class Found(NamedTuple):
    """What a flight brings.

    Attributes:
        value: with its metadata.
        made: by this flight, not by somebody else before it.
    """

    value: CachedValue
    made: bool


@dataclass(slots=True, eq=False)
class Order:
    """What a caller wants.

    Attributes:
        key: as the backend knows it.
        name: as the caller knows it.
        creator, args, kwargs: makes the value.
        patience: seconds after which a value is out of date.
        wanted: says of a new payload whether it is to be kept.
        stale_if_error: an old value will do if no new one can be made.
        runner: ``runner(name, creator, mutex)`` sees to a new value where there is an old one.
        loop: where a creator that is a coroutine function runs, also when a runner calls it.
        call: the same for those who perform steps.
    """

    key: KeyType
    name: KeyType
    creator: Callable[..., ValuePayload]
    patience: float
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wanted: Callable[[ValuePayload], bool] | None = None
    stale_if_error: bool = False
    runner: Callable[[KeyType, Callable[[], ValuePayload], HandedOver], object] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def call(self) -> BoundCall:
        return BoundCall(self.key, (self.creator, *self.args), dict(self.kwargs))

    def unfinished(self) -> Callable[[], ValuePayload]:
        """The creator without arguments, under its own name; called from any thread."""
        if self.loop is None and not self.args and not self.kwargs:
            return self.creator
        create = functools.partial(self.creator, *self.args, **self.kwargs)
        loop = self.loop

        @functools.wraps(self.creator)
        def creator() -> ValuePayload:
            made = create()
            if loop is None or not inspect.isawaitable(made):
                return made
            if _runs_here(loop):
                if inspect.iscoroutine(made):
                    made.close()
                raise RuntimeError(
                    "an async_creation_runner must call the creator in another thread than "
                    "that of the event loop, which would wait for itself"
                )
            return asyncio.run_coroutine_threadsafe(_awaited(made), loop).result()

        return creator


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _awaited(made: Awaitable[Any]) -> Any:
    return await made


def pauses() -> Iterator[float]:
    """The seconds to wait before each next look, without end."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311
        pause = min(pause * 1.5, _LONGEST_PAUSE)


class Creation:
    """Answers ``get_or_create`` for one region.

    Args:
        keeping, freshness: of the region; *freshness* is asked for anew each time.
        flights: of the region.
        holder: ``holder(key, on_loop)`` takes holds on it, for a thread or on an event loop.
        clock: measures how long creators take.
        counters, reports: of the region.
        keeps: whether the backend keeps anything at all. One that does not is there to switch
            the cache off: every caller makes his own.

    Threads: safe. No lock is held while a creator runs.
    """

    def __init__(
        self,
        keeping: Keeping,
        *,
        freshness: Callable[[], Freshness],
        flights: Flights,
        holder: Callable[[KeyType, bool], Holder],
        clock: Clock,
        counters: CallCounters,
        reports: Reports,
        keeps: bool,
    ) -> None:
        self.keeping: Final = keeping
        self.flights: Final = flights
        told = keeping.client is not None and keeping.client.capabilities.shared
        self.follower: Final = Follower(flights, keeping.follow, clock.monotonic, told=told)
        self.freshness: Final = freshness
        self.holder: Final = holder
        self.counters: Final = counters
        self._clock = clock
        self._reports = reports
        self.keeps: Final = keeps

    def answer(self, order: Order) -> Steps[Outcome]:
        """The value, found or made."""
        if not self.keeps:
            return (yield from self.computed(order.call, None))
        while True:
            found = yield Ask(lambda: self.keeping.read(order.key))
            standing = self.freshness().standing(found, order.patience)
            if standing is Standing.FRESH:
                self.counters.far_hits += 1
                return Outcome(found.payload)
            self.freshness().check_patience(order.patience)
            outcome = yield from self._made(order, found, standing)
            if outcome is not None:
                return outcome

    def _made(
        self, order: Order, found: CacheReturnType, standing: Standing
    ) -> Steps[Outcome | None]:
        """The value that this caller makes, or waits for; ``None`` to look again."""
        known = self.freshness().revision
        flight, new = self.flights.enter(order.key)
        if standing is Standing.STALE:
            if not new:
                self.counters.stale += 1
                return Outcome(found.payload)
            if order.runner is not None:
                return (yield from self._handed_over(order, flight))
        outcome: Outcome | None
        outcome = yield Lead(flight, order.call, self._lead(order, flight), new)
        if outcome is None:
            try:
                yield Await(flight, None)
            except CircularWait:
                # The creator asks, itself or through others, for what it is making.
                return (yield from self.computed(order.call, None))
            if flight.abandoned:
                if new and flight.cause is not None:
                    raise flight.cause  # of this caller's own creator, in another task
                return None
            outcome = flight.outcome
            assert outcome is not None
        if not new:
            self.counters.misses += 1
            self.counters.shared += 1
        if outcome.error is not None:
            return outcome
        brought: Found = outcome.value
        if new or self.will_do(brought, known, order.patience):
            return Outcome(brought.value.payload)
        return None

    def will_do(self, brought: Found, known: str | None, patience: float) -> bool:
        """Whether who has waited takes what a flight *brought*.

        Args:
            known: the revision that he knew when he began to wait.
        """
        if self.freshness().standing(brought.value, patience) is not Standing.ABSENT:
            return True
        # What was found, somebody found who may be content with less. What was made, and was
        # invalidated meanwhile, is for who had asked before.
        return brought.made and brought.value.metadata.get("rv") == known

    # -- Leading -----------------------------------------------------------------

    def _lead(self, order: Order, flight: Flight) -> Steps[Outcome | None]:
        return begun(
            self.flights, order.key, flight, self._found_or_made(order, flight), self.guarded
        )

    def guarded(self, work: Callable[[], None]) -> None:
        """Do *work*; what it raises is counted and logged."""
        self.keeping.guarded(work, None)

    def _found_or_made(self, order: Order, flight: Flight) -> Steps[Outcome]:
        """What is there by now; else a new value, made under a hold."""
        holder = self.holder(order.key, order.loop is not None)
        followed = self.follower.of(order.key, flight)
        for pause in pauses():
            taking = Taking(holder)
            outcome: Outcome | None = None
            followed.rearm()
            try:
                hold: Hold | None
                if holder.asks:
                    hold = yield Ask(functools.partial(self.taken, taking, followed))
                else:
                    hold = taking.take()
                # Also with the hold in hand: it may have come free because the value is there.
                found, standing = yield from self._looked(order, followed)
                if standing is Standing.FRESH:
                    self.counters.far_hits += 1
                    outcome = Outcome(Found(found, made=False))
                elif hold is not None or flight.superseded:
                    followed.compute()
                    stale = found if standing is Standing.STALE else NO_VALUE
                    outcome = yield from self._create(order, flight, stale, hold)
                elif standing is Standing.STALE:
                    self.counters.stale += 1
                    outcome = Outcome(Found(found, made=False))
                if hold is not None and holder.asks:
                    yield Ask(taking.release)
            except BaseException:
                # Here and now: a driver that gives up performs no more steps.
                taking.release()
                raise
            if outcome is not None:
                return outcome
            yield Pause(pause, followed.waker)
        raise AssertionError("pauses end")

    def taken(self, taking: Taking, followed: Followed) -> Hold | None:
        """A hold, by who hears of what others do to its key from before that on."""
        self.guarded(followed.begin)
        return taking.take()

    def _looked(self, order: Order, followed: Followed) -> Steps[tuple[Any, Standing]]:
        """What is kept; looked up again if others have changed it meanwhile, as who asked after
        that may have joined."""

        def read() -> CacheReturnType:
            self.guarded(followed.begin)
            return self.keeping.read(order.key, youngest=True)

        while True:
            followed.look()
            found = yield Ask(read)
            standing = self.freshness().standing(found, order.patience)
            if standing is Standing.ABSENT or followed.decide():
                return found, standing

    def _create(
        self, order: Order, flight: Flight, stale: CacheReturnType, hold: Hold | None
    ) -> Steps[Outcome]:
        self.counters.misses += 1
        revision = yield from self.revision()
        outcome = yield from self.computed(order.call, flight)
        if outcome.error is not None:
            if not order.stale_if_error or stale is NO_VALUE:
                return outcome
            self.rescued(order.name, outcome.error)
            return Outcome(Found(stale, made=False))
        value = CachedValue(outcome.value, self.keeping.stamp(revision))
        if hold is not None and (order.wanted is None or order.wanted(outcome.value)):
            held = hold
            yield Ask(lambda: flight.publish(lambda: held.write(value, order.patience)))
        return Outcome(Found(value, made=True))

    def revision(self) -> Steps[str | None]:
        """What a value is stamped with whose creator runs now.

        As of now: what is invalidated while it runs, it may have read before.
        """
        if not self.keeping.has_revisions:
            return None
        revision: str | None = yield Ask(lambda: self.keeping.revision(confirmed=False))
        return revision

    def computed(self, call: BoundCall, flight: Flight | None) -> Steps[Outcome]:
        """Run the creator."""
        counters = self.counters
        counters.computations += 1
        started = self._clock.monotonic()
        outcome: Outcome = yield Compute(call, flight)
        counters.computed(self._clock.monotonic() - started)
        counters.failures += outcome.error is not None
        return outcome

    def rescued(self, name: object, error: BaseException) -> None:
        """An old value is served in place of one that could not be made."""
        self.counters.rescued += 1
        self._reports.warn(
            "stale", "the creator of %r failed, and callers get an old value: %r", name, error
        )

    # -- async_creation_runner ---------------------------------------------------

    def _handed_over(self, order: Order, flight: Flight) -> Steps[Outcome | None]:
        """The old value, while the runner sees to a new one."""
        assert order.runner is not None
        mutex: HandedOver | None = None
        taking: Taking | None = None
        try:
            flight.begin()
            taking = Taking(self.holder(order.key, order.loop is not None))
            hold: Hold | None = yield Ask(taking.take)
            found = yield Ask(lambda: self.keeping.read(order.key, youngest=True))
            standing = self.freshness().standing(found, order.patience)
            if hold is not None and standing is Standing.STALE:
                mutex = HandedOver(self.flights, order.key, flight, hold)
                runner, given = order.runner, mutex
                yield Ask(lambda: runner(order.name, order.unfinished(), given))
        except BaseException:
            if mutex is not None:
                mutex.release()
            else:
                self._drop(order.key, flight, taking)
            raise
        if mutex is None:
            self._drop(order.key, flight, taking)
            if standing is Standing.ABSENT:
                return None
        self.counters.stale += standing is Standing.STALE
        self.counters.far_hits += standing is Standing.FRESH
        return Outcome(found.payload)

    def _drop(self, key: KeyType, flight: Flight, taking: Taking | None) -> None:
        if taking is not None:
            taking.release()
        self.flights.drop(key, flight)
