"""Who computes behind a caller's back: a flight queued for a thread of a pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiered.concurrency.flight import Flight
from tiered.concurrency.pool import PoolRefuses, WorkerPool
from tiered.decorators.engine import Engine
from tiered.keys.call import BoundCall
from tiered.stats.reports import Reports
from tiered.typing import Clock

__all__ = ["Refresher", "default_pool"]

_default_pool = WorkerPool(name="tiered")


def default_pool() -> WorkerPool:
    """The pool of all functions that were not given one; its threads start on first use."""
    return _default_pool


class Refresher:
    """Starts computations for one function in *pool*.

    Threads: safe. A computation that fails behind a caller's back is counted and
    logged once per interval; who waits for its flight gets the exception.
    """

    def __init__(
        self, engine: Engine, pool: WorkerPool, clock: Clock, name: str, due_below: float
    ) -> None:
        self.pool = pool
        self._engine = engine
        self._name = name
        self._due_below = due_below
        self._reports = Reports("tiered.decorators", clock)

    def refresh(self, call: BoundCall) -> None:
        """See that *call* is being computed, without waiting for it."""
        flight = self._engine.flights.queue(call.key)
        if flight is not None:
            self.run(lambda: self.lead(flight, call))

    def lead(self, flight: Flight, call: BoundCall) -> None:
        """Compute for *flight*, unless somebody who needed it was faster."""
        if flight.begin():
            self._quietly(lambda: self._engine.fly(flight, call, self._due_below))

    def run(self, work: Callable[[], Any]) -> None:
        """Run *work* in the pool; in this thread if the pool takes no more."""
        try:
            self.pool.submit(lambda: self._quietly(work))
        except PoolRefuses as refusal:
            self._reports.warn("pool", "%s computes in its callers: %s", self._name, refusal)
            self._quietly(work)

    def _quietly(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self._reports.warn("refresh", "%s failed behind its caller: %r", self._name, error)
