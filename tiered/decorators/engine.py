"""Settling a call that the front door could not answer.

One engine per decorated function. It reads the client, judges what it found, and
acts as the mode's row says. The cache never breaks the call: whatever the client,
the codec or the key does, the caller gets the function's own value or exception.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tiered.clients.base import ANY, CacheClient, Claim, Entry, Search
from tiered.concurrency.flight import CircularWait, Flight, Flights
from tiered.decorators.plan import Plan
from tiered.decorators.stats import CallCounters
from tiered.decorators.verdict import Action, Row, Verdict, judge
from tiered.errors import CacheMissError
from tiered.keys.call import BoundCall, CallShape
from tiered.sentinels import MISSING, MissingType
from tiered.stats.reports import Reports

__all__ = ["Engine"]

T = TypeVar("T")

_NO_CLAIMS: Final = MISSING
"""In place of a claim, where asking for one failed."""
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.015
"""Seconds between two looks for a value that another process is computing."""


class Engine:
    """Reads, computes and stores for one decorated function.

    Args:
        plan: the options.
        client: ``plan.client`` within the function's namespace.
        shape: the calls of the function.

    Threads: safe. No lock is held while the function runs.
    """

    def __init__(self, plan: Plan, client: CacheClient, shape: CallShape) -> None:
        self.counters = CallCounters()
        self.flights = Flights()
        self._plan = plan
        self._client = client
        self.bind = shape.binder()
        self._check = shape.checker()
        self._monotonic = client.clock.monotonic
        self._sleep = client.clock.sleep
        self._reports = Reports("tiered.decorators", client.clock)

    # -- Calls that may compute -------------------------------------------------

    def settle(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a plain call."""
        call = self.keyed(args, kwargs)
        return self._compute(args, kwargs) if call is None else self.settle_call(call)

    def settle_call(self, call: BoundCall) -> Any:
        """Answer a plain call whose key is known: compute, or wait for who does."""
        while True:
            flight, leads = self.flights.join(call.key)
            if leads:
                return self.fly(flight, call)
            try:
                value = flight.wait()
            except CircularWait:
                # The function asks, itself or through another thread, for what it is
                # computing.
                return self._compute(call.args, call.kwargs)
            if not flight.abandoned:
                self.counters.misses += 1
                self.counters.shared += 1
                return value

    def refresh(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute now, whatever is held; stores and returns the value."""
        call = self.keyed(args, kwargs)
        if call is None:
            return self._compute(args, kwargs)
        flight = self.flights.restart(call.key)
        # Who is computing it elsewhere started earlier, on older data.
        self._guarded(lambda: self._client.revoke(call.key), None)
        return self._lead(flight, call, lambda: self._compute_and_store(flight, call))

    def fly(self, flight: Flight, call: BoundCall, margin: float = 0.0) -> Any:
        """Lead *flight*: find a value with more than *margin* seconds left, or compute."""
        return self._lead(flight, call, lambda: self._read_or_compute(flight, call, margin))

    def _lead(self, flight: Flight, call: BoundCall, work: Callable[[], Any]) -> Any:
        """Run *work* and land *flight* with its outcome, on every exit."""
        try:
            value = work()
        except Exception as error:
            self.flights.finish(call.key, flight)
            flight.land(error=error)
            raise
        except BaseException:
            self.flights.finish(call.key, flight)
            flight.abandon()
            raise
        self.flights.finish(call.key, flight)
        flight.land(value)
        return value

    def _read_or_compute(self, flight: Flight, call: BoundCall, margin: float) -> Any:
        entry = self._read_fresh(call, margin)
        if entry is not None:
            self.counters.far_hits += 1
            return entry.value
        self.counters.misses += 1
        if not self._client.capabilities.shared:
            return self._compute_and_store(flight, call)
        return self._compute_once(flight, call, margin)

    def _compute_once(self, flight: Flight, call: BoundCall, margin: float) -> Any:
        """Compute under a claim, or wait for the value of whoever holds it.

        A holder that dies is replaced when its claim ends. Waiting holds no lock and
        no connection.
        """
        pause = _FIRST_PAUSE
        while True:
            claim: Claim | MissingType | None = self._guarded(
                lambda: self._client.claim(call.key, self._plan.claim_ttl), _NO_CLAIMS
            )
            # Also with the claim in hand: it may have come free because the value is there.
            entry = self._read_fresh(call, margin)
            if entry is not None:
                if isinstance(claim, Claim):
                    self._guarded(claim.release, False)
                self.counters.shared += 1
                return entry.value
            if isinstance(claim, Claim):
                return self._compute_and_fill(flight, call, claim)
            if claim is _NO_CLAIMS:
                return self._compute_and_store(flight, call)
            self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _compute_and_fill(self, flight: Flight, call: BoundCall, claim: Claim) -> Any:
        plan = self._plan
        try:
            value = self._compute(call.args, call.kwargs)
            self._guarded(
                lambda: flight.publish(lambda: claim.fill(value, plan.ttl, keep=plan.keep)), False
            )
        finally:
            self._guarded(claim.release, False)
        return value

    def _compute_and_store(self, flight: Flight, call: BoundCall) -> Any:
        value = self._compute(call.args, call.kwargs)
        plan = self._plan
        self._guarded(
            lambda: flight.publish(
                lambda: self._client.put(call.key, value, plan.ttl, keep=plan.keep)
            ),
            False,
        )
        return value

    def _read_fresh(self, call: BoundCall, margin: float) -> Entry | None:
        # With a margin, a farther tier may hold what another process has refreshed.
        search = Search(ttl_skip=margin) if margin else ANY
        entry = self._guarded(lambda: self._client.find(call.key, search), None)
        if entry is None or entry.deadline - self._monotonic() <= margin:
            return None
        return entry

    def _compute(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.counters.computations += 1
        try:
            return self._plan.function(*args, **kwargs)
        except Exception:
            self.counters.failures += 1
            raise

    # -- Calls that look first ---------------------------------------------------

    def serve(
        self,
        row: Row,
        call: BoundCall,
        refresh: Callable[[BoundCall], object] | None = None,
        compute: Callable[[BoundCall], Any] | None = None,
    ) -> Any:
        """Answer from the cache as *row* says.

        Args:
            row: of the table.
            call: the call.
            refresh: starts a computation behind the caller; ``None`` where none can be.
            compute: gets the value where the row says so; by default in this thread, or
                from whoever computes already.

        Raises:
            CacheMissError: nothing that the row takes is there.
        """
        entry = self._guarded(lambda: self._client.entry(call.key), None)
        verdict = judge(entry, self._monotonic(), self._plan.due_below)
        action = row[verdict]
        if action.refreshes and refresh is not None:
            refresh(call)
        if action.serves and entry is not None:
            if verdict is Verdict.STALE:
                self.counters.stale += 1
            else:
                self.counters.far_hits += 1
            return entry.value
        if action is Action.COMPUTE:
            return self.settle_call(call) if compute is None else compute(call)
        self.counters.misses += 1
        raise CacheMissError(self._plan.namespace, call.args, call.kwargs)

    def look(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer from the cache and never compute. Raises ``CacheMissError``."""
        call = self.keyed(args, kwargs)
        if call is None:
            self.counters.misses += 1
            raise CacheMissError(self._plan.namespace, args, kwargs)
        return self.serve(row, call)

    def near(self, call: BoundCall) -> Entry | None:
        """What can be had without blocking, if it is fresh and not due for a refresh."""
        entry = self._guarded(lambda: self._client.near(call.key), None)
        if judge(entry, self._monotonic(), self._plan.due_below) is not Verdict.FRESH:
            return None
        self.counters.far_hits += 1
        return entry

    def get_ttl(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, float]:
        """``(value, seconds left)``; never computes. Raises ``CacheMissError``."""
        entry = self.find(args, kwargs)
        if entry is None:
            raise CacheMissError(self._plan.namespace, args, kwargs)
        return entry.value, entry.deadline - self._monotonic()

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry | None:
        """What is held for the call, fresh or stale."""
        call = self.keyed(args, kwargs)
        if call is None:
            return None
        return self._guarded(lambda: self._client.entry(call.key), None)

    def put(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Hold *value* for the call, in place of what is being computed for it."""
        plan = self._plan

        def put(key: Any) -> bool:
            self._client.revoke(key)  # what is being computed elsewhere is older than this
            return self._client.put(key, value, plan.ttl, keep=plan.keep)

        return self._changed(args, kwargs, put)

    def invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Forget the call; a computation that is running for it will not be stored."""
        return self._changed(args, kwargs, self._client.delete)

    def expire(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Make the call's value stale; a computation that is running will not be stored."""
        return self._changed(args, kwargs, self._client.expire)

    def clear(self) -> None:
        """Forget all calls; computations that are running will not be stored."""
        self.flights.supersede_all()
        self._guarded(self._client.clear, None)

    def _changed(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        change: Callable[[Any], bool],
    ) -> bool:
        call = self.keyed(args, kwargs)
        if call is None:
            return False
        self.flights.supersede(call.key)
        return self._guarded(lambda: change(call.key), False)

    # -- Keeping the cache's troubles from the caller ----------------------------

    def keyed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall | None:
        """The call with its key; ``None`` if it has none that a cache could use."""
        try:
            call = self.bind(*args, **kwargs)
            hash(call.key)
        except Exception as error:
            self._check(*args, **kwargs)  # a wrong call is the caller's mistake, not the key's
            self.counters.errors += 1
            self._reports.warn(
                "key", "%s is called without the cache: %r", self._plan.namespace, error
            )
            return None
        return call

    def _guarded(self, operation: Callable[[], T], fallback: T) -> T:
        try:
            return operation()
        except Exception as error:
            self.counters.errors += 1
            self._reports.warn(
                type(error).__name__, "the cache of %s failed: %r", self._plan.namespace, error
            )
            return fallback
