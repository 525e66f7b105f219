"""``get_or_create_multi``: many values, of which one call of the creator makes all that miss.

Each key has a flight, as in :mod:`tiered.region.creation`; those that are new here are made
together, in a *batch*. Keys that others are making are waited for only when ours are done, and
what another process holds is asked for again with nothing in hand: so nobody waits in a circle,
whatever the order of the keys, and nobody makes what another one has just made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiered.concurrency import circles
from tiered.concurrency.flight import CircularWait, Flight, publishing
from tiered.concurrency.outcome import Outcome
from tiered.concurrency.waker import Waker
from tiered.keys.call import BoundCall
from tiered.region.api import CachedValue, CacheReturnType, KeyType, ValuePayload
from tiered.region.creation import Creation, Found, pauses
from tiered.region.exception import DogpileCacheException
from tiered.region.freshness import Standing
from tiered.region.holding import Hold, Taking
from tiered.steps.effects import Ask, Await, Lead, Pause, Steps
from tiered.steps.following import Followed
from tiered.steps.landing import landed

__all__ = ["ManyCreation", "ManyOrder"]


@dataclass(slots=True, eq=False)
class ManyOrder:
    """What a caller wants, as in :class:`tiered.region.creation.Order`.

    Attributes:
        keys: each key as the caller knows it, to the one that the backend knows it by; in the
            order in which the creator is to be given them.
        creator: ``creator(*names)`` makes their values, in that order.
        on_loop: the caller is on an event loop.
        names: the other way round.
    """

    keys: dict[KeyType, KeyType]
    creator: Callable[..., Sequence[ValuePayload]]
    patience: float
    wanted: Callable[[ValuePayload], bool] | None = None
    stale_if_error: bool = False
    on_loop: bool = False
    names: dict[KeyType, KeyType] = field(init=False)

    def __post_init__(self) -> None:
        self.names = {key: name for name, key in self.keys.items()}

    def payloads(
        self, answers: Mapping[KeyType, ValuePayload], asked: Iterable[KeyType]
    ) -> list[ValuePayload]:
        """Of *answers*, by backend key, those to what was *asked* for, in that order."""
        return [answers[self.keys[name]] for name in asked]


@dataclass(slots=True, eq=False)
class _Batch:
    """What one call of the creator is to make.

    Attributes:
        flights: of the keys, once they are led.
        flight: of the batch itself, which its caller waits for.
        failure: of the creator, where no old values stand in.
    """

    order: ManyOrder
    flights: dict[KeyType, Flight] = field(default_factory=dict)
    flight: Flight = field(default_factory=Flight)
    failure: Outcome | None = None

    def begin(self, entered: Mapping[KeyType, Flight]) -> dict[KeyType, Flight]:
        """Lead what was *entered*, but for what another one has begun: that is given back."""
        batch = self.flight
        batch.begin()
        begun: dict[KeyType, Flight] = {}
        for key, flight in entered.items():
            # Who found a flight of ours in the table may have been faster than we were.
            if not flight.begin():
                begun[key] = flight
                continue
            self.flights[key] = flight
            # Who asks for a key from within the creator would wait for himself.
            circles.follow(flight, batch)
            # The batch may end without a word to the flights: a task that never ran.
            flight.alive = lambda: not (batch.ended or batch.lost)
        return begun

    def land(self, key: KeyType, outcome: Outcome) -> None:
        self.flights[key].land(outcome)


class ManyCreation:
    """Answers ``get_or_create_multi`` for one region, beside its *creation*.

    Threads: safe. No lock is held while a creator runs.
    """

    def __init__(self, creation: Creation) -> None:
        self._creation = creation
        self._keeping = creation.keeping
        self._flights = creation.flights
        self._counters = creation.counters

    def answer(self, order: ManyOrder) -> Steps[Outcome]:
        """The payloads by key, in an :class:`Outcome`."""
        answers: dict[KeyType, ValuePayload] = {}
        if order.names and not self._creation.keeps:
            return (yield from self._made_for_itself(order))
        missing = list(order.names)
        while missing:
            error = yield from self._answered(order, missing, answers)
            if error is not None:
                return Outcome(error=error)
            missing = [key for key in missing if key not in answers]
        return Outcome(answers)

    def _made_for_itself(self, order: ManyOrder) -> Steps[Outcome]:
        names = list(order.names.values())
        call = BoundCall(None, (order.creator, *names), {})
        outcome = yield from self._creation.computed(call, None)
        if outcome.error is None:
            outcome = _counted(outcome, names)
        if outcome.error is not None:
            return outcome
        return Outcome(dict(zip(order.names, outcome.value, strict=True)))

    def _answered(
        self, order: ManyOrder, keys: list[KeyType], answers: dict[KeyType, ValuePayload]
    ) -> Steps[Exception | None]:
        """Put what can be had of *keys* into *answers*; the error that came instead."""
        found = yield Ask(lambda: self._keeping.read_many(keys))
        known = self._creation.freshness().revision
        standings = self._standings(order, keys, found)
        if any(standing is not Standing.FRESH for standing in standings.values()):
            self._creation.freshness().check_patience(order.patience)
        batch, ours = _Batch(order), dict[KeyType, Flight]()
        try:
            theirs = self._entered(keys, found, standings, answers, ours)
            theirs += batch.begin(ours).items()
            outcome = (yield from self._led(batch)) if batch.flights else Outcome({})
        except BaseException as error:
            if batch.flight.deserted:
                # A signal's handler has raised: what was entered, nobody is at.
                for key, flight in ours.items():
                    if key in batch.flights or flight.begin():
                        self._flights.drop(key, flight, error)
            raise
        if outcome.error is not None:
            return outcome.error
        answers |= outcome.value
        for key, flight in theirs:
            joined = yield from self._joined(order, key, flight, known)
            if joined is None:
                continue
            if joined.error is not None:
                return joined.error
            answers[key] = joined.value
        return None

    def _entered(
        self,
        keys: Sequence[KeyType],
        found: Sequence[CacheReturnType],
        standings: Mapping[KeyType, Standing],
        answers: dict[KeyType, ValuePayload],
        ours: dict[KeyType, Flight],
    ) -> list[tuple[KeyType, Flight]]:
        """Put what will do into *answers*, new flights into *ours*; others' that are waited for."""
        theirs: list[tuple[KeyType, Flight]] = []
        for key, one in zip(keys, found, strict=True):
            if standings[key] is Standing.FRESH:
                self._counters.far_hits += 1
                answers[key] = one.payload
                continue
            flight, new = self._flights.enter(key)
            if new:
                ours[key] = flight
            elif standings[key] is Standing.STALE:
                self._counters.stale += 1
                answers[key] = one.payload
            else:
                theirs.append((key, flight))
        return theirs

    def _standings(
        self, order: ManyOrder, keys: Sequence[KeyType], found: Sequence[CacheReturnType]
    ) -> dict[KeyType, Standing]:
        freshness = self._creation.freshness()
        return {
            key: freshness.standing(one, order.patience)
            for key, one in zip(keys, found, strict=True)
        }

    def _joined(
        self, order: ManyOrder, key: KeyType, flight: Flight, known: str | None
    ) -> Steps[Outcome | None]:
        """What somebody else brings for *key*; ``None`` to look again."""
        try:
            yield Await(flight, None)
        except CircularWait:
            # The creator asks, itself or through others, for what it is making.
            call = BoundCall(key, (order.creator, order.names[key]), {})
            alone = yield from self._creation.computed(call, None)
            return alone if alone.error is not None else Outcome(alone.value[0])
        outcome = flight.outcome
        if outcome is None:
            return None
        self._counters.misses += 1
        self._counters.shared += 1
        if outcome.error is not None:
            return outcome
        brought: Found = outcome.value
        if not self._creation.will_do(brought, known, order.patience):
            return None
        return Outcome(brought.value.payload)

    # -- Batches -----------------------------------------------------------------

    def _led(self, batch: _Batch) -> Steps[Outcome]:
        """Have *batch* made, in the caller's thread or a task of its own."""
        call = BoundCall(batch.flight, (), {})
        steps = landed(
            self._flights, batch.flight, batch.flight, self._batch(batch), self._creation.guarded
        )
        outcome: Outcome | None
        outcome = yield Lead(batch.flight, call, steps, new=True, begun=True)
        if outcome is None:
            yield Await(batch.flight, None)
            outcome = batch.flight.outcome
            if outcome is None:
                if batch.flight.cause is not None:
                    raise batch.flight.cause
                return Outcome({})  # abandoned: look again
        return outcome

    def _batch(self, batch: _Batch) -> Steps[Outcome]:
        """Land every flight of *batch*; the payloads by key."""
        answers: dict[KeyType, ValuePayload] = {}
        on_loop = batch.order.on_loop
        holders = {key: self._creation.holder(key, on_loop) for key in batch.flights}
        follower, waker = self._creation.follower, Waker()
        followed = {key: follower.of(key, flight, waker) for key, flight in batch.flights.items()}
        pending = list(batch.flights)
        try:
            for pause in pauses():
                waker.clear()
                takings = {key: Taking(holders[key]) for key in pending}
                pending = yield from self._turn(batch, takings, followed, answers)
                if batch.failure is not None:
                    return batch.failure
                if not pending:
                    return Outcome(answers)
                yield Pause(pause, waker if follower.told else None)
        except Exception as error:
            failure = Outcome(error=error)
            for key in batch.flights:
                batch.land(key, failure)
            return failure
        finally:
            for key, flight in batch.flights.items():
                # One that has not landed is abandoned: its waiters compete for a new one.
                self._flights.drop(key, flight)
        raise AssertionError("pauses end")

    def _turn(
        self,
        batch: _Batch,
        takings: Mapping[KeyType, Taking],
        followed: Mapping[KeyType, Followed],
        answers: dict[KeyType, ValuePayload],
    ) -> Steps[list[KeyType]]:
        """Take what holds there are, make what they are for; which keys others hold."""
        order, counters = batch.order, self._counters
        keys = list(takings)
        holds: dict[KeyType, Hold] = {}
        left: list[KeyType] = []
        stale: dict[KeyType, CachedValue] = {}
        making: list[KeyType] = []
        try:
            for key in keys:
                take = functools.partial(self._creation.taken, takings[key], followed[key])
                hold: Hold | None = yield Ask(take)
                if hold is not None:
                    holds[key] = hold
                followed[key].look()
            found = yield Ask(lambda: self._keeping.read_many(keys, youngest=True))
            standings = self._standings(order, keys, found)
            for key, one in zip(keys, found, strict=True):
                standing = standings[key]
                if standing is Standing.STALE:
                    stale[key] = one
                if standing is Standing.ABSENT:
                    (making if key in holds else left).append(key)
                elif not followed[key].decide():
                    left.append(key)
                elif standing is Standing.FRESH or key not in holds:
                    counters.far_hits += standing is Standing.FRESH
                    counters.stale += standing is Standing.STALE
                    answers[key] = one.payload
                    batch.land(key, Outcome(Found(one, made=False)))
                else:
                    making.append(key)
            for key in making:
                followed[key].compute()
            if making:
                yield from self._make(batch, making, holds, stale, answers)
            yield Ask(lambda: _release(takings.values()))
        except BaseException:
            # Here and now: a driver that gives up performs no more steps.
            _release(takings.values())
            raise
        return left

    def _make(
        self,
        batch: _Batch,
        keys: list[KeyType],
        holds: Mapping[KeyType, Hold],
        stale: Mapping[KeyType, CachedValue],
        answers: dict[KeyType, ValuePayload],
    ) -> Steps[None]:
        order = batch.order
        self._counters.misses += len(keys)
        revision = yield from self._creation.revision()
        names = [order.names[key] for key in keys]
        call = BoundCall(batch.flight, (order.creator, *names), {})
        outcome = yield from self._creation.computed(call, batch.flight)
        if outcome.error is None:
            outcome = _counted(outcome, names)
        if outcome.error is not None:
            rescues = order.stale_if_error and all(key in stale for key in keys)
            if rescues:
                self._creation.rescued(names, outcome.error)
            for key in keys:
                if rescues:
                    answers[key] = stale[key].payload
                    batch.land(key, Outcome(Found(stale[key], made=False)))
                else:
                    batch.land(key, outcome)
            batch.failure = None if rescues else outcome
            return
        metadata = self._keeping.stamp(revision)
        made = {
            key: CachedValue(payload, metadata)
            for key, payload in zip(keys, outcome.value, strict=True)
        }
        kept = {
            key: value
            for key, value in made.items()
            if order.wanted is None or order.wanted(value.payload)
        }
        yield Ask(lambda: self._write(batch, kept, holds))
        for key, value in made.items():
            answers[key] = value.payload
            batch.land(key, Outcome(Found(value, made=True)))

    def _write(
        self, batch: _Batch, values: Mapping[KeyType, CachedValue], holds: Mapping[KeyType, Hold]
    ) -> None:
        patience = batch.order.patience
        flights = {key: batch.flights[key] for key in values}
        # As in Flight.publish: what a backend asks for meanwhile, it would wait for.
        with batch.flight.computing(), publishing(flights) as allowed:
            kept = {key: value for key, value in values.items() if key in allowed}
            together = {key: value for key, value in kept.items() if not holds[key].claims}
            self._keeping.write(together, patience, many=True)
            for key, value in kept.items():
                if holds[key].claims:
                    holds[key].write(value, patience)


def _release(takings: Iterable[Taking]) -> None:
    for taking in takings:
        taking.release()


def _counted(outcome: Outcome, names: Sequence[Any]) -> Outcome:
    """*outcome*, if it has a value for each of *names*."""
    try:
        values = list(outcome.value)
    except TypeError as error:
        return Outcome(error=error)
    if len(values) == len(names):
        return Outcome(values)
    return Outcome(
        error=DogpileCacheException(
            f"the creator was asked for {len(names)} values and returned {len(values)}; it must "
            f"return one for each of its arguments, in their order"
        )
    )
