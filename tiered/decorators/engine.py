"""What every call of a cached function does, in whatever style it was made.

Written once, as steps (:mod:`tiered.steps.effects`) that a driver performs in the
caller's thread, in a pool or on an event loop. The cache never breaks the call: whatever the
client, the codec or the key does, the caller gets the function's own value or exception.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, Final

from tiered.clients.base import Entry
from tiered.concurrency.flight import CircularWait, Flight, Flights
from tiered.concurrency.outcome import Outcome
from tiered.decorators.entering import Entering
from tiered.decorators.failures import FailureOf
from tiered.decorators.leader import Leader
from tiered.decorators.reading import Reading
from tiered.decorators.tagging import stamped
from tiered.decorators.verdict import AWAITED, CALL, LAZY, PEEK, REFRESHING, Action, Row, judge
from tiered.entry import time_left
from tiered.errors import CacheMissError, ComputationTimeout, UnsupportedOperation
from tiered.keys.call import BoundCall
from tiered.sentinels import MISSING
from tiered.steps.effects import Await, Behind, Lead, Steps
from tiered.typing import Key

__all__ = ["Engine"]

_NOT_DONE: Final = Outcome(False)
"""Of a change to a call that has no key."""


class Engine:
    """The operations of one decorated function, each as steps.

    Args:
        reading: its plan, its calls and its cache.

    Threads: safe. No lock is held while the function runs.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.flights = Flights()
        self.entering = Entering(reading, self.flights)
        self.leader = Leader(reading, self.flights)
        self._plan = reading.plan
        self._client = reading.space.client

    # -- Answers -----------------------------------------------------------------

    def answer(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Outcome]:
        """The value of the call, as *row* says."""
        call = self.reading.tagged(args, kwargs)
        if call is not None:
            return (yield from self.answer_call(row, call))
        if row is PEEK or row is LAZY:
            return self._missed(args, kwargs)
        return (yield from self.leader.computed(BoundCall(None, args, kwargs)))

    def answer_call(self, row: Row, call: BoundCall) -> Steps[Outcome]:
        """The same, for a call whose key is known."""
        if row is CALL:
            # Found or not, its leader looks; one look is enough.
            return (yield from self.flown(call))
        entry = yield from self.reading.find(call)
        outcome = yield from self.judged(row, call, entry)
        if outcome is None:
            outcome = yield from self.flown(call)
        return outcome

    def judged(self, row: Row, call: BoundCall, entry: Entry | None) -> Steps[Outcome | None]:
        """What *row* makes of *entry*; ``None`` if the value is to be computed."""
        reading = self.reading
        now = reading.monotonic()
        verdict = judge(entry, now, reading.terms.due(), self._plan.keep)
        action = row[verdict]
        counters = reading.counters
        if action is Action.COMPUTE and (row is REFRESHING or row is AWAITED):
            placeholder = reading.hooks.stand_in(call)
            if placeholder is not MISSING:
                yield from self._behind(call, 0.0, placeholder)
                counters.stale += 1
                return Outcome(placeholder)
        if action.refreshes:
            # What is found then is newer than this, or as good as nothing.
            left = entry.deadline - now if entry is not None else 0.0
            yield from self._behind(call, left)
        if action.serves and entry is not None:
            if verdict.is_fresh:
                counters.far_hits += 1
            else:
                counters.stale += 1
            return Outcome(entry.value)
        return None if action is Action.COMPUTE else self._missed(call.args, call.kwargs)

    def _behind(self, call: BoundCall, left: float, placeholder: Any = MISSING) -> Steps[None]:
        """See that *call* is being computed, without waiting for it."""
        flight, new = yield from self.entering.entered(call)
        if flight is not None and new:
            steps = self.leader.refresh(flight, call, left, placeholder)
            yield Behind(flight, call, steps)

    def flown(self, call: BoundCall) -> Steps[Outcome]:
        """The value: found or computed by this call, or by whoever does so already."""
        flight, new = yield from self.entering.entered(call)
        if flight is None:
            return (yield from self.leader.computed(call))
        return (yield from self.landed(Lead(flight, call, self.leader.lead(flight, call), new)))

    def landed(self, lead: Lead) -> Steps[Outcome]:
        """The value of a flight that was entered; of another one if it is abandoned."""
        outcome = yield from self._arrival(lead)
        while outcome is None:
            call = lead.call
            flight, new = yield from self.entering.entered(call)
            if flight is None:
                return (yield from self.leader.computed(call))
            again = Lead(flight, call, self.leader.lead(flight, call), new)
            outcome = yield from self._arrival(again)
        return outcome

    def _arrival(self, lead: Lead) -> Steps[Outcome | None]:
        """What the flight brings; ``None`` if it was abandoned."""
        call, flight = lead.call, lead.flight
        outcome: Outcome | None = yield lead
        if outcome is not None:
            return outcome
        try:
            outcome = yield from self._waited(call, flight)
        except CircularWait:
            # The function asks, itself or through others, for what it is computing.
            return (yield from self.leader.computed(call))
        if outcome is not None:
            return outcome
        if flight.abandoned:
            if lead.new and flight.cause is not None:
                raise flight.cause  # of this call's own computation, in another thread or task
            return None
        if not lead.new:
            self.reading.counters.misses += 1
            self.reading.counters.shared += 1
        return flight.outcome

    def _waited(self, call: BoundCall, flight: Flight) -> Steps[Outcome | None]:
        """Until *flight* has ended; an outcome if the caller is not to wait so long."""
        plan = self._plan
        waited = 0.0
        if plan.soft_timeout is not None:
            if (yield Await(flight, plan.soft_timeout)):
                return None
            waited = plan.soft_timeout
            entry = yield from self.reading.find(call)
            if self.reading.usable(entry):
                assert entry is not None
                self.reading.counters.stale += 1
                return Outcome(entry.value)
        if plan.hard_timeout is None:
            yield Await(flight, None)
        elif not (yield Await(flight, plan.hard_timeout - waited)):
            self.reading.counters.timeouts += 1
            key = _shown(call.key)
            late = f"{plan.name} has taken longer than {plan.hard_timeout:g} s for {key}"
            return Outcome(error=ComputationTimeout(late))
        return None

    def _missed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        self.reading.counters.misses += 1
        return Outcome(error=CacheMissError(self._plan.name, args, kwargs))

    def refresh(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Outcome]:
        """Compute now, whatever is held; stores and returns the value."""
        call = self.reading.tagged(args, kwargs)
        if call is None:
            return (yield from self.leader.computed(BoundCall(None, args, kwargs)))
        return (yield from self.refresh_call(call))

    def refresh_call(self, call: BoundCall) -> Steps[Outcome]:
        """The same, for a call whose key is known."""
        flight = self.entering.restarted(call)
        try:
            steps = self.leader.compute_anew(flight, call)
            outcome = yield from self._arrival(Lead(flight, call, steps, new=True, begun=True))
        except BaseException as error:
            # A signal's handler may have raised before anybody led it.
            if flight.deserted:
                self.flights.drop(call.key, flight, error)
            raise
        if outcome is None:  # abandoned: whoever computes next is as new as we asked for
            outcome = yield from self.flown(call)
        return outcome

    def circumstances(self, call: BoundCall) -> tuple[tuple[str, object], ...]:
        """What there is to know about a call besides its value: names and facts."""
        key, tagging = call.key, self.reading.tagging
        facts: list[tuple[str, object]] = [("computing", key in self.flights)]
        if tagging is not None:
            unknown: tuple[tuple[Any, str], ...] = ()
            versions = self.reading.guarded(lambda: tagging.versions(call), unknown)
            facts.append(("versions_by_now", versions))
        if self.reading.remembers_failures:
            failure = self.reading.space.records.entry(FailureOf(key))
            if failure is not None and failure.deadline > self.reading.monotonic():
                facts.append(("last_failure", failure.value))
                facts.append(("retry_in", failure.deadline - self.reading.monotonic()))
        return tuple(facts)

    # -- Changes -----------------------------------------------------------------

    def put(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Outcome]:
        """Hold *value* for the call, in place of what is being computed for it."""
        keyed = self.reading.keyed(args, kwargs)
        if keyed is None:
            return _NOT_DONE
        call = self.reading.with_tags(keyed)
        if call is None:  # what cannot be kept does not leave what it was to replace
            yield from self.invalidate_call(keyed)
            return _NOT_DONE
        return (yield from self.put_call(value, call))

    def put_call(self, value: Any, call: BoundCall) -> Steps[Outcome]:
        """The same, for a call whose key is known."""
        stamp = yield from self.reading.stamp(call)
        if stamp is MISSING:
            return (yield from self.invalidate_call(call))

        def put() -> bool:
            self._client.revoke(call.key)  # what is being computed elsewhere is older than this
            ttl = self.reading.terms.ttl(value)
            kept = stamped(value, stamp)
            written = self._client.put(call.key, kept, ttl, keep=self._plan.keep)
            self._forget_failure(call)
            return written

        return (yield from self._changed(call, put))

    def invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Outcome]:
        """Forget the call; a computation that is running for it will not be stored."""
        call = self.reading.keyed(args, kwargs)
        return _NOT_DONE if call is None else (yield from self.invalidate_call(call))

    def invalidate_call(self, call: BoundCall) -> Steps[Outcome]:
        """The same, for a call whose key is known."""

        def invalidate() -> bool:
            found = self._client.delete(call.key)
            self._forget_failure(call)
            return found

        return (yield from self._changed(call, invalidate))

    def expire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Outcome]:
        """Make the call's value stale; a computation that is running will not be stored."""
        call = self.reading.keyed(args, kwargs)
        return _NOT_DONE if call is None else (yield from self.expire_call(call))

    def expire_call(self, call: BoundCall) -> Steps[Outcome]:
        """The same, for a call whose key is known."""

        def expire() -> bool:
            fresh = self._client.expire(call.key)
            if self.reading.remembers_failures:
                # What is noted of one that is running would be as old as its value.
                self.reading.space.records.revoke(FailureOf(call.key))
            return fresh

        return (yield from self._changed(call, expire))

    def get_ttl(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps[Outcome]:
        """``(value, seconds left)``, or ``CacheMissError``; never computes."""
        call = self.reading.keyed(args, kwargs)
        entry = None if call is None else (yield from self.reading.find(call))
        if entry is None:
            return Outcome(error=CacheMissError(self._plan.name, args, kwargs))
        return Outcome((entry.value, time_left(entry, self.reading.monotonic())))

    def clear(self) -> Steps[Outcome]:
        """Forget all calls; computations that are running will not be stored."""

        if not self._client.capabilities.clearable:
            raise UnsupportedOperation(
                f"{self._plan.name} keeps its values without a namespace, so that clear() would "
                f"take the entries of everybody else who uses {self._client!r}"
            )

        def clear() -> None:
            self.flights.supersede_all()
            try:
                self._client.clear()
            finally:
                self.flights.supersede_all()  # as in _changed

        yield from self.reading.ask(clear, None)
        return Outcome()

    def _changed(self, call: BoundCall, change: Callable[[], bool]) -> Steps[Outcome]:
        def changed() -> bool:
            # A flight that is being written just now is waited for: not on an event loop.
            self.flights.supersede(call.key)
            try:
                return change()
            finally:
                # One that was entered meanwhile may have found what was there before: who asks
                # from now on must not join it, nor wait for its claim.
                if self.flights.supersede(call.key):
                    self._client.revoke(call.key)

        return Outcome((yield from self.reading.ask(changed, False)))

    def _forget_failure(self, call: BoundCall) -> None:
        if self.reading.remembers_failures:
            self.reading.space.records.delete(FailureOf(call.key))


def _shown(key: Key) -> str:
    """For people: it may be long, or one that cannot be shown."""
    try:
        return reprlib.repr(key)
    except Exception:
        return f"a key of the type {type(key).__name__}"
