"""What the leader of a flight does: look, claim, compute, store; and what comes of failures."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from tiered.clients.base import Claim, Entry
from tiered.clients.tags import Stamp
from tiered.concurrency.flight import Flight, Flights
from tiered.concurrency.outcome import Outcome
from tiered.decorators.failures import FailureOf, lasting, outcome_of, record_of
from tiered.decorators.reading import Reading
from tiered.decorators.tagging import stamped
from tiered.keys.call import BoundCall
from tiered.sentinels import MISSING, MissingType
from tiered.steps.effects import Compute, Pause, Steps
from tiered.steps.landing import landed
from tiered.typing import Key

__all__ = ["Leader"]

_Write: TypeAlias = Callable[[Key, Any, float], bool]

_USED_ONCE: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
"""What a function may return without being refused for it; its second user would find it empty."""
_NO_CLAIMS: Final[Claim | MissingType | None] = MISSING
"""In place of a claim, where asking for one failed."""
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.01
"""Seconds between two looks for a value that another process is computing."""


class Leader:
    """Leads the flights of one decorated function.

    Threads: safe; each flight is led once.
    """

    def __init__(self, reading: Reading, flights: Flights) -> None:
        self._reading = reading
        self._flights = flights
        self._plan = reading.plan
        self._client = reading.space.client
        self._records = reading.space.records
        self._shared = self._client.capabilities.shared

    # -- Flights -----------------------------------------------------------------

    def lead(
        self, flight: Flight, call: BoundCall, known: Mapping[Key, Entry] | None = None
    ) -> Steps[Outcome | None]:
        """Find a fresh value, or compute one. *known* is what was found, by who looked already."""
        return self._led(flight, call, self._found_or_computed(flight, call, 0.0, known))

    def refresh(
        self, flight: Flight, call: BoundCall, left: float, placeholder: Any
    ) -> Steps[Outcome | None]:
        """Find a value with more than *left* seconds left, and not yet due, or compute one."""
        margin = max(left, self._reading.terms.due_below)
        return self._led(flight, call, self._renewed(flight, call, margin, placeholder))

    def compute_anew(self, flight: Flight, call: BoundCall) -> Steps[Outcome | None]:
        """Compute, whatever is held; for a flight that was begun already."""
        return self._landed(flight, call, self._anew(flight, call))

    def _led(self, flight: Flight, call: BoundCall, steps: Steps[Outcome]) -> Steps[Outcome | None]:
        if not flight.begin():
            return None  # whoever needed it earlier leads
        return (yield from self._landed(flight, call, steps))

    def _landed(self, flight: Flight, call: BoundCall, steps: Steps[Outcome]) -> Steps[Outcome]:
        guarded = self._reading.guarded
        return landed(self._flights, call.key, flight, steps, lambda work: guarded(work, None))

    # -- Looking and claiming ----------------------------------------------------

    def _found_or_computed(
        self, flight: Flight, call: BoundCall, margin: float, known: Mapping[Key, Entry] | None
    ) -> Steps[Outcome]:
        """A value with more than *margin* seconds left, or a new one."""
        reading = self._reading
        if known is None:
            known = yield from reading.find_all((call,), margin)
        outcome = self._settled(call, known, margin)
        if outcome is not None:
            reading.counters.far_hits += 1
            return outcome
        reading.counters.misses += 1
        return (yield from self._computed_once(flight, call, margin, self._held(known, call.key)))

    def _computed_once(
        self, flight: Flight, call: BoundCall, margin: float, stale: Entry | None
    ) -> Steps[Outcome]:
        if self._shared:
            return (yield from self._claimed(flight, call, margin, stale))
        return (yield from self._computed_and_stored(flight, call, stale, self._put))

    def _renewed(
        self, flight: Flight, call: BoundCall, margin: float, placeholder: Any
    ) -> Steps[Outcome]:
        """Behind everybody's back; with ``renew_time``, what there is serves others meanwhile."""
        plan, reading = self._plan, self._reading
        if plan.renew_time is None:
            return (yield from self._found_or_computed(flight, call, margin, None))
        known = yield from reading.find_all((call,), margin)
        outcome = self._settled(call, known, margin)
        if outcome is not None:
            reading.counters.far_hits += 1
            return outcome
        reading.counters.misses += 1
        ttl = reading.terms.due_below + plan.renew_time
        client, key = self._client, call.key
        stale = known.get(key)
        if stale is not None:
            yield from reading.ask(lambda: client.renew(key, ttl), False)
        elif placeholder is not MISSING:
            stamp = yield from reading.stamp(call)
            if stamp is not MISSING:
                value = stamped(placeholder, stamp)
                yield from reading.ask(lambda: client.add(key, value, ttl), False)
        # What has no more left than our own renewal gave it was not refreshed by others.
        return (yield from self._computed_once(flight, call, max(margin, ttl), stale))

    def _held(self, found: Mapping[Key, Entry], key: Key) -> Entry | None:
        """What was found for *key*; nothing, if it fails to be compared."""
        return self._reading.guarded(lambda: found.get(key), None)

    def _settled(
        self, call: BoundCall, found: Mapping[Key, Entry], margin: float
    ) -> Outcome | None:
        """The outcome that needs no computing: a fresh value, or a failure that lasts."""
        reading = self._reading
        now = reading.monotonic()
        entry = self._held(found, call.key)
        if entry is not None and entry.deadline - now > margin:
            return Outcome(entry.value)
        failure = self._held(found, FailureOf(call.key)) if reading.remembers_failures else None
        if failure is None or failure.deadline <= now:
            return None
        outcome = outcome_of(failure.value)
        if outcome is None and entry is not None and reading.usable(entry):
            outcome = Outcome(entry.value)
        return outcome

    def _claimed(
        self, flight: Flight, call: BoundCall, margin: float, stale: Entry | None
    ) -> Steps[Outcome]:
        """Compute under a claim, or wait for the value of whoever holds it.

        A holder that dies is replaced when its claim ends. Waiting holds no lock, no
        connection and, in a pool, no thread.
        """
        reading = self._reading
        pause = _FIRST_PAUSE
        while True:
            if flight.superseded:
                # Nothing of it will be stored. With a claim in hand it would hold up the flight
                # that has come in its place, which it may be waiting for itself.
                return (yield from self._computed_and_stored(flight, call, stale, self._put))
            claim = yield from reading.ask(partial(self._claim, call), _NO_CLAIMS)
            outcome: Outcome | None
            try:
                # Also with the claim in hand: it may have come free because the value is there.
                found = yield from reading.find_all((call,), margin)
                outcome = self._settled(call, found, margin)
                reading.counters.shared += outcome is not None
                if outcome is None and claim is not None:
                    # Where no claim could be asked for, nothing is known of deletes either.
                    write = self._filling(claim) if isinstance(claim, Claim) else _unwritten
                    stale = self._held(found, call.key) or stale
                    outcome = yield from self._computed_and_stored(flight, call, stale, write)
            except BaseException:
                # Here and now: a driver that gives up performs no more steps.
                if isinstance(claim, Claim):
                    reading.guarded(claim.release, False)
                raise
            if isinstance(claim, Claim) and not claim.released:
                yield from reading.ask(claim.release, False)
            if outcome is not None:
                return outcome
            yield Pause(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _claim(self, call: BoundCall) -> Claim | MissingType | None:
        return self._client.claim(call.key, self._plan.claim_ttl)

    def _filling(self, claim: Claim) -> _Write:
        started = self._reading.monotonic()

        def fill(_key: Key, value: Any, ttl: float) -> bool:
            claim.cost = self._reading.monotonic() - started
            return claim.fill(value, ttl, keep=self._plan.keep)

        return fill

    # -- Computing and storing ---------------------------------------------------

    def computed(self, call: BoundCall, flight: Flight | None = None) -> Steps[Outcome]:
        """Run the function."""
        reading = self._reading
        reading.counters.computations += 1
        started = reading.monotonic()
        outcome: Outcome = yield Compute(call, flight)
        seconds = reading.monotonic() - started
        reading.counters.computed(seconds)
        if outcome.error is not None:
            reading.counters.failures += 1
        else:
            reading.terms.measured(seconds)
            reading.hooks.computed(outcome.value, call)
        return outcome

    def _anew(self, flight: Flight, call: BoundCall) -> Steps[Outcome]:
        # Who is computing it elsewhere started earlier, on older data.
        yield from self._reading.ask(lambda: self._client.revoke(call.key), None)
        stamp = yield from self._reading.stamp(call)
        outcome = yield from self.computed(call, flight)
        if outcome.error is None:
            yield from self._stored(flight, call, outcome.value, stamp, self._put)
            if self._reading.remembers_failures:
                failure = FailureOf(call.key)
                yield from self._reading.ask(lambda: self._records.delete(failure), False)
        return outcome

    def _computed_and_stored(
        self, flight: Flight, call: BoundCall, stale: Entry | None, write: _Write
    ) -> Steps[Outcome]:
        # Before it runs: what it reads may be changed while it does.
        stamp = yield from self._reading.stamp(call)
        outcome = yield from self.computed(call, flight)
        if outcome.error is None:
            yield from self._stored(flight, call, outcome.value, stamp, write)
            return outcome
        return (yield from self._failed(flight, call, stale, outcome, stamp))

    def _stored(
        self,
        flight: Flight,
        call: BoundCall,
        value: Any,
        stamp: Stamp | MissingType | None,
        write: _Write,
    ) -> Steps[None]:
        if stamp is MISSING:
            return  # nobody could say what it is to be kept with
        if isinstance(value, _USED_ONCE):
            self._reading.counters.errors += 1
            self._reading.reports.warn(
                "once",
                "%s is not cached: it returns a %s, which serves one user only",
                self._plan.name,
                type(value).__name__,
            )
            return

        def store() -> None:
            terms = self._reading.terms
            if terms.wants(value, call) and (ttl := terms.ttl(value)) > 0:
                flight.publish(lambda: write(call.key, stamped(value, stamp), ttl))

        yield from self._reading.ask(store, None)

    def _put(self, key: Key, value: Any, ttl: float) -> bool:
        return self._client.put(key, value, ttl, keep=self._plan.keep)

    def _failed(
        self,
        flight: Flight,
        call: BoundCall,
        stale: Entry | None,
        outcome: Outcome,
        stamp: Stamp | MissingType | None,
    ) -> Steps[Outcome]:
        """What a failed computation comes to: its exception, or a stale value in its place."""
        plan, error = self._plan, outcome.error
        assert error is not None
        ttl = lasting(error, plan.cache_errors)
        answers = ttl is not None
        rescued = (
            not answers
            and plan.stale_if_error
            and stale is not None
            and self._reading.usable(stale)
        )
        if rescued and plan.error_backoff:
            ttl = plan.error_backoff
        if ttl is not None and stamp is not MISSING:
            record, seconds = stamped(record_of(error, answers=answers), stamp), ttl
            key = FailureOf(call.key)
            yield from self._reading.ask(
                lambda: flight.publish(lambda: self._records.put(key, record, seconds)), False
            )
        if not rescued:
            return outcome
        assert stale is not None
        self._reading.counters.rescued += 1
        self._reading.reports.warn(
            "stale", "%s failed, and its callers get stale values: %r", plan.name, error
        )
        return Outcome(stale.value)


def _unwritten(_key: Key, _value: Any, _ttl: float) -> bool:
    """In place of a write, where the value is for its callers only."""
    return False
