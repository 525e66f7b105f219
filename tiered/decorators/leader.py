"""What the leader of a flight does: look, claim, compute, store; and what comes of failures."""

from __future__ import annotations

import contextlib
import math
import random
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, TypeVar

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
from tiered.steps.following import Followed, Follower
from tiered.steps.landing import begun, landed
from tiered.typing import Key, KeyWatch

__all__ = ["Leader", "Led"]

T = TypeVar("T")

_Write: TypeAlias = Callable[[Key, Any, float], bool]

_USED_ONCE: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
"""What a function may return without being refused for it; its second user would find it empty."""
_NO_CLAIMS: Final[Claim | MissingType | None] = MISSING
"""In place of a claim, where asking for one failed."""
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.01
"""Seconds between two looks for a value that another process is computing."""


class Patience:
    """How long the caller of one call, or of many at once, waits for other processes.

    Attributes:
        left: seconds, in all.
    """

    __slots__ = ("left",)

    def __init__(self, left: float) -> None:
        self.left = left


class Led(NamedTuple):
    """A flight, the call that it is for, and what it hears of other processes."""

    flight: Flight
    call: BoundCall
    followed: Followed
    patience: Patience


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
        self._follower = Follower(
            flights, self._client.follow, reading.monotonic, told=self._shared
        )

    # -- Flights -----------------------------------------------------------------

    def patience(self) -> Patience:
        """Of somebody who calls now."""
        wait_time = self._plan.wait_time
        return Patience(math.inf if wait_time is None else wait_time)

    def led(self, flight: Flight, call: BoundCall, patience: Patience | None = None) -> Led:
        """*flight*, which hears of nobody yet; many that one caller waits for share *patience*."""
        followed = self._follower.of(call.key, flight)
        return Led(flight, call, followed, patience or self.patience())

    def lead(
        self, flight: Flight, call: BoundCall, patience: Patience | None = None
    ) -> Steps[Outcome | None]:
        """Find a fresh value, or compute one."""
        led = self.led(flight, call, patience)
        return self._begun(led, self._found_or_computed(led, 0.0))

    def lead_on(self, led: Led, known: Mapping[Key, Entry]) -> Steps[Outcome | None]:
        """The same, for who looked already, and found what is *known*."""
        return self._begun(led, self._known_or_computed(led, known))

    def refresh(
        self, flight: Flight, call: BoundCall, left: float, placeholder: Any
    ) -> Steps[Outcome | None]:
        """Find a value with more than *left* seconds left, and not yet due, or compute one."""
        margin = max(left, self._reading.terms.due_below)
        led = self.led(flight, call)
        return self._begun(led, self._renewed(led, margin, placeholder))

    def compute_anew(self, flight: Flight, call: BoundCall) -> Steps[Outcome | None]:
        """Compute, whatever is held; for a flight that was begun already."""
        steps = self._anew(flight, call)
        return landed(self._flights, call.key, flight, steps, self._guarded)

    def _begun(self, led: Led, steps: Steps[Outcome]) -> Steps[Outcome | None]:
        return begun(self._flights, led.call.key, led.flight, steps, self._guarded)

    def _guarded(self, work: Callable[[], None]) -> None:
        self._reading.guarded(work, None)

    # -- Looking and claiming ----------------------------------------------------

    def _known_or_computed(self, led: Led, known: Mapping[Key, Entry]) -> Steps[Outcome]:
        """A value that is *known*, or as :meth:`_found_or_computed`."""
        outcome = self._settled(led.call, known, 0.0)
        if outcome is not None and not led.followed.decide():
            return (yield from self._found_or_computed(led, 0.0))
        if self._counted(outcome):
            return outcome
        return (yield from self._computed_once(led, 0.0, self._held(known, led.call.key)))

    def _found_or_computed(self, led: Led, margin: float) -> Steps[Outcome]:
        """A value with more than *margin* seconds left, or a new one."""
        known, outcome = yield from self._looked(led, margin)
        if self._counted(outcome):
            return outcome
        return (yield from self._computed_once(led, margin, self._held(known, led.call.key)))

    def _looked(self, led: Led, margin: float) -> Steps[tuple[Mapping[Key, Entry], Outcome | None]]:
        """What is held, and the outcome in it if there is one.

        Again if others have changed the key meanwhile: who asked after that may have joined.
        """
        followed = led.followed
        while True:
            followed.look()
            found = yield from self._reading.find_all((led.call,), margin, (followed,))
            outcome = self._settled(led.call, found, margin)
            if outcome is None or followed.decide():
                return found, outcome

    def _counted(self, outcome: Outcome | None) -> TypeGuard[Outcome]:
        """Whether a look came to an *outcome*."""
        if outcome is None:
            self._reading.counters.misses += 1
        else:
            self._reading.counters.far_hits += 1
        return outcome is not None

    def _computed_once(self, led: Led, margin: float, stale: Entry | None) -> Steps[Outcome]:
        if self._shared:
            return (yield from self._claimed(led, margin, stale))
        # Within one process, flights keep computations of a key apart, and need no claim.
        with self._watched(led.call) as write:
            return (yield from self._computed_and_stored(led, stale, write))

    def _renewed(self, led: Led, margin: float, placeholder: Any) -> Steps[Outcome]:
        """Behind everybody's back; with ``renew_time``, what there is serves others meanwhile."""
        plan, reading = self._plan, self._reading
        if plan.renew_time is None:
            return (yield from self._found_or_computed(led, margin))
        known, outcome = yield from self._looked(led, margin)
        if self._counted(outcome):
            return outcome
        ttl = reading.terms.due_below + plan.renew_time
        client, call, key = self._client, led.call, led.call.key
        stale = known.get(key)
        if stale is not None:
            yield from reading.ask(lambda: client.renew(key, ttl), False)
        elif placeholder is not MISSING:
            stamp = yield from reading.stamp(call)
            if stamp is not MISSING:
                value = stamped(placeholder, stamp)
                yield from reading.ask(lambda: client.add(key, value, ttl), False)
        # What has no more left than our own renewal gave it was not refreshed by others.
        return (yield from self._computed_once(led, max(margin, ttl), stale))

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

    def _claimed(self, led: Led, margin: float, stale: Entry | None) -> Steps[Outcome]:
        """Compute under a claim, or wait for the value of whoever holds it.

        A holder that dies is replaced when its claim ends; who has waited for ``wait_time``
        computes for its own callers. Waiting holds no lock, no
        connection and, in a pool, no thread; where the client tells of it, it ends with the claim.
        """
        reading, call, followed = self._reading, led.call, led.followed
        patience, pause = led.patience, _FIRST_PAUSE
        ends = reading.monotonic() + patience.left
        while True:
            if led.flight.superseded:
                # Nothing of it will be stored. With a claim in hand it would hold up the flight
                # that has come in its place, which it may be waiting for itself.
                return (yield from self._computed_and_stored(led, stale, self._put))
            followed.rearm()
            claim = yield from reading.ask(partial(self._claim, call), _NO_CLAIMS)
            outcome = yield from self._under(claim, self._with(claim, led, margin, stale))
            if outcome is not None:
                return outcome
            left = ends - reading.monotonic()
            # Of two that wait at the same time, who has waited longer.
            patience.left = min(patience.left, left)
            if left <= 0:
                return (yield from self._computed_and_stored(led, stale, _unwritten, _unwritten))
            yield Pause(min(pause * random.uniform(0.5, 1.0), left), followed.waker)  # noqa: S311
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _with(
        self, claim: Claim | MissingType | None, led: Led, margin: float, stale: Entry | None
    ) -> Steps[Outcome | None]:
        """A value that is there by now; or a new one, unless another has the *claim*."""
        # Also with the claim in hand: it may have come free because the value is there.
        found, outcome = yield from self._looked(led, margin)
        self._reading.counters.shared += outcome is not None
        if outcome is None and claim is not None:
            # Where no claim could be asked for, nothing is known of deletes either.
            stale = self._held(found, led.call.key) or stale
            if not isinstance(claim, Claim):
                return (yield from self._computed_and_stored(led, stale, _unwritten, _unwritten))
            write = self._filling(claim)
            if not self._reading.remembers_failures:
                return (yield from self._computed_and_stored(led, stale, write))
            # What is noted of a failure is older than an invalidation meanwhile, as a value is.
            key, ttl = FailureOf(led.call.key), self._plan.claim_ttl
            noting = yield from self._reading.ask(lambda: self._records.claim(key, ttl), _NO_CLAIMS)
            note = self._filling(noting, 0.0) if isinstance(noting, Claim) else _unwritten
            steps = self._computed_and_stored(led, stale, write, note)
            outcome = yield from self._under(noting, steps)
        return outcome

    def _under(self, claim: Claim | MissingType | None, steps: Steps[T]) -> Steps[T]:
        """*steps*, after which *claim* is given back, if it is one."""
        try:
            result = yield from steps
        except BaseException:
            # Here and now: a driver that gives up performs no more steps.
            if isinstance(claim, Claim):
                self._reading.guarded(claim.release, False)
            raise
        if isinstance(claim, Claim) and not claim.released:
            yield from self._reading.ask(claim.release, False)
        return result

    def _claim(self, call: BoundCall) -> Claim | MissingType | None:
        return self._client.claim(call.key, self._plan.claim_ttl)

    def _filling(self, claim: Claim, keep: float | None = None) -> _Write:
        started = self._reading.monotonic()
        kept = self._plan.keep if keep is None else keep

        def fill(_key: Key, value: Any, ttl: float) -> bool:
            claim.cost = self._reading.monotonic() - started
            return claim.fill(value, ttl, keep=kept)

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
        claim = _NO_CLAIMS
        if self._shared:
            claim = yield from self._reading.ask(partial(self._claim, call), _NO_CLAIMS)
        if isinstance(claim, Claim):
            claim.refreshes = True
        with self._watched(call) as put:
            # Who has got the claim before us is as new as we are.
            write = self._filling(claim) if isinstance(claim, Claim) else put
            computed = self._computed_with(flight, call, write)
            outcome, _ = yield from self._under(claim, computed)
        if outcome.error is None and self._reading.remembers_failures:
            failure = FailureOf(call.key)
            yield from self._reading.ask(lambda: self._records.delete(failure), False)
        return outcome

    def _computed_with(
        self, flight: Flight, call: BoundCall, write: _Write
    ) -> Steps[tuple[Outcome, Stamp | MissingType | None]]:
        """Compute, and *write* what comes of it; that, and what it is to be kept with."""
        # Before it runs: what it reads may be changed while it does.
        stamp = yield from self._reading.stamp(call)
        outcome = yield from self.computed(call, flight)
        if outcome.error is None:
            yield from self._stored(flight, call, outcome.value, stamp, write)
        return outcome, stamp

    def _computed_and_stored(
        self, led: Led, stale: Entry | None, write: _Write, note: _Write | None = None
    ) -> Steps[Outcome]:
        """Compute, and *write* what comes of it, or *note* that it has failed."""
        flight, call, followed, _ = led
        followed.compute()
        outcome, stamp = yield from self._computed_with(flight, call, write)
        if outcome.error is None:
            return outcome
        return (yield from self._failed(led, stale, outcome, stamp, note))

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

    @contextlib.contextmanager
    def _watched(self, call: BoundCall) -> Iterator[_Write]:
        """How to keep what is computed within: unless it was deleted or cleared meanwhile."""
        guarded = self._reading.guarded

        def entered() -> KeyWatch:
            watch = self._client.watching(call.key)
            watch.__enter__()
            return watch

        watch = guarded(entered, None)
        if watch is None:
            yield _unwritten
            return
        try:
            yield lambda key, value, ttl: watch.publish(lambda: self._put(key, value, ttl))
        finally:
            guarded(lambda: watch.__exit__(None, None, None), None)

    def _put(self, key: Key, value: Any, ttl: float) -> bool:
        return self._client.put(key, value, ttl, keep=self._plan.keep)

    def _failed(
        self,
        led: Led,
        stale: Entry | None,
        outcome: Outcome,
        stamp: Stamp | MissingType | None,
        note: _Write | None,
    ) -> Steps[Outcome]:
        """What a failed computation comes to: its exception, or a stale value in its place."""
        (flight, call, _, _), plan, error = led, self._plan, outcome.error
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
            key, write = FailureOf(call.key), note or self._records.put
            yield from self._reading.ask(
                lambda: flight.publish(lambda: write(key, record, seconds)), False
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
