"""Single flight: one running computation per key, shared by all who wait for it.

What this guarantees:

- At most one flight per key is in the table. Whoever begins it leads: it computes
  and must call :meth:`Flight.land` or :meth:`Flight.abandon`, however it ends.
- A flight may be queued for a thread of a pool. Whoever needs its value before a
  thread comes free begins it himself: nobody ever waits for what nobody does.
- A flight that is *superseded* (by an invalidation, a put or a refresh) leaves
  the table at once, so that later callers start anew. Its waiters, who asked
  before, still get its answer, but :meth:`Flight.publish` refuses to write it.
  The check and the write are one step under the flight's gate, so no value that
  was computed from data older than an invalidation is stored after it.
- Nobody waits in a circle. Where two threads each lead what the other one asks
  for, the second to ask is told to compute for itself.
- A leader that dies of something that is not its waiters' business
  (``KeyboardInterrupt`` and kin) abandons the flight; a waiter takes over.

The table's lock is held for a few dictionary operations and the gate only around
a write; neither while user code computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from tiered.concurrency import fork

__all__ = ["CircularWait", "Flight", "Flights"]


class Flight:
    """One running computation.

    Attributes:
        leader: the identity of the thread that computes; ``None`` before one begins.
        abandoned: ended without a value or an error; compete for a new one.

    Threads: :meth:`begin`, :meth:`wait`, :meth:`then` and :meth:`supersede` from any; the
    rest from the leader's only.
    """

    __slots__ = (
        "_callbacks",
        "_error",
        "_gate",
        "_landed",
        "_superseded",
        "_value",
        "abandoned",
        "leader",
    )

    def __init__(self) -> None:
        self.leader: int | None = None
        self.abandoned = False
        self._callbacks: list[Callable[[Flight], object]] = []
        self._landed = threading.Event()
        self._gate = threading.RLock()
        self._superseded = False
        self._value: Any = None
        self._error: Exception | None = None

    def begin(self) -> bool:
        """Lead, if nobody does yet; whether the caller leads now."""
        with self._gate:
            if self.leader is not None:
                return False
            self.leader = threading.get_ident()
            return True

    def publish(self, write: Callable[[], object]) -> bool:
        """Run *write*, unless the flight was superseded; whether it ran."""
        with self._gate:
            if self._superseded:
                return False
            write()
            return True

    def supersede(self) -> None:
        """From now on :meth:`publish` refuses; waits for one that is running."""
        with self._gate:
            self._superseded = True

    def land(self, value: Any = None, error: Exception | None = None) -> None:
        """Give the waiters *value*, or raise *error* in each of them."""
        self._value = value
        self._error = error
        self._end()

    def abandon(self) -> None:
        """Send the waiters back to compete for a new flight."""
        self.abandoned = True
        self._end()

    def _end(self) -> None:
        with self._gate:
            self._landed.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def then(self, callback: Callable[[Flight], object]) -> None:
        """Call *callback* with this flight when it has ended; at once if it has."""
        with self._gate:
            if not self._landed.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def wait(self) -> Any:
        """The leader's value, once it has landed.

        Raises:
            CircularWait: the leader waits, maybe through others, for this thread.
            Exception: what the leader's computation raised.
        """
        if not self._landed.is_set():
            with _waits.waiting_for(self):
                self._landed.wait()
        if self._error is not None:
            # Every waiter raises the same object; its traceback would grow with each.
            raise self._error.with_traceback(None)
        return self._value


class CircularWait(Exception):
    """Waiting for this flight would never end."""


class _Waits:
    """Which thread waits for which flight, over all tables of the process.

    Threads: the lock is held for a walk along the waiters, which ends because no
    circle is ever let in.
    """

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """None of the waiting threads is in this process."""
        self._lock = threading.RLock()
        self._flights: dict[int, Flight] = {}

    @contextmanager
    def waiting_for(self, flight: Flight) -> Iterator[None]:
        me = threading.get_ident()
        with self._lock:
            step: Flight | None = flight
            while step is not None:
                if step.leader == me:
                    raise CircularWait
                step = None if step.leader is None else self._flights.get(step.leader)
            self._flights[me] = flight
        try:
            yield
        finally:
            with self._lock:
                self._flights.pop(me, None)


_waits = _Waits()


class Flights:
    """The running computations of one process, by key."""

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """The leaders are threads of the parent: nobody here would ever land these."""
        self._lock = threading.RLock()
        self._running: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._running)

    def join(self, key: Hashable) -> tuple[Flight, bool]:
        """The flight of *key*, and whether the caller leads it."""
        with self._lock:
            flight = self._running.get(key)
            if flight is None:
                flight = self._running[key] = Flight()
        return flight, flight.begin()

    def queue(self, key: Hashable) -> Flight | None:
        """A flight of *key* for somebody to begin, or ``None`` if there is one already."""
        with self._lock:
            if key in self._running:
                return None
            flight = self._running[key] = Flight()
            return flight

    def restart(self, key: Hashable) -> Flight:
        """A new flight of *key*, led by the caller, superseding the one that runs."""
        flight = Flight()
        flight.begin()
        with self._lock:
            previous = self._running.get(key)
            self._running[key] = flight
        if previous is not None:
            previous.supersede()
        return flight

    def supersede(self, key: Hashable) -> None:
        """Take the flight of *key*, if one runs, out of the table and stop its write."""
        with self._lock:
            flight = self._running.pop(key, None)
        if flight is not None:
            flight.supersede()

    def supersede_all(self) -> None:
        """Do so for every key."""
        with self._lock:
            flights = list(self._running.values())
            self._running.clear()
        for flight in flights:
            flight.supersede()

    def finish(self, key: Hashable, flight: Flight) -> None:
        """Take *flight* out of the table, unless another has its place by now."""
        with self._lock:
            if self._running.get(key) is flight:
                del self._running[key]
