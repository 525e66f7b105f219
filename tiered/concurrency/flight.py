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
- Nobody waits in a circle (:mod:`tiered.concurrency.circles`).
- A leader that dies of something that is not its waiters' business
  (``KeyboardInterrupt``, a cancelled task, a loop that was closed under it)
  abandons the flight; a waiter takes over.

Threads and asyncio tasks share flights: a thread waits with :meth:`Flight.wait`,
a task is told through :meth:`Flight.then`. The table's lock is held for a few
dictionary operations and the gate only around a write; neither while user code
computes.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from tiered.concurrency import circles, fork
from tiered.concurrency.circles import CircularWait
from tiered.concurrency.outcome import Outcome

__all__ = ["CircularWait", "Flight", "Flights", "publishing"]

K = TypeVar("K")

LIVENESS_INTERVAL: Final = 1.0
"""Seconds between two looks whether what leads a flight still exists."""


class Flight:
    """One running computation.

    Attributes:
        outcome: how it landed; ``None`` before, and if it was abandoned.
        abandoned: ended without an outcome; compete for a new flight.
        cause: what it was abandoned for, if that was an exception.
        alive: tells whether the leader still exists, where it may vanish without a
            word (an event loop that is closed); ``None`` where it cannot.
        waits_for: the flights that this one's computation waits for just now.
        born: when it was entered, in the terms of who entered it.
        began: when (monotonic) it began to read what others may change; ``inf`` before.
        taken: whether somebody is at it who ends it, however he ends himself.
        told: whether it hears of such changes now; ``None`` where nobody ever tells.

    Threads: :meth:`publish` and :meth:`land` from the leader's; the rest from any.
    """

    __slots__ = (
        "_assigned",
        "_begun",
        "_callbacks",
        "_gate",
        "_landed",
        "_superseded",
        "abandoned",
        "alive",
        "began",
        "born",
        "cause",
        "outcome",
        "taken",
        "told",
        "waits_for",
    )

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.abandoned = False
        self.cause: BaseException | None = None
        self.alive: Callable[[], bool] | None = None
        self.waits_for: list[circles.Link] = []
        self.born: tuple[int, float] | None = None
        self.began = math.inf
        self.told: Callable[[], bool] | None = None
        self.taken = False
        self._assigned = False
        self._begun = False
        self._callbacks: list[Callable[[Flight], object]] = []
        self._landed = threading.Event()
        self._gate = threading.RLock()
        self._superseded = False

    @property
    def ended(self) -> bool:
        """Whether it has landed, or was abandoned."""
        return self._landed.is_set()

    def assign(self) -> bool:
        """Whether the caller is the first to have somebody lead it, who will certainly come.

        A flight that is merely in the table may belong to one who does other things first.
        """
        with self._gate:
            first = not self._assigned and not self._begun
            self._assigned = True
            return first

    @property
    def deserted(self) -> bool:
        """Whether nobody is at it, nor told to be: who began it is to end it if he gives up."""
        return not self.taken and not self._assigned

    @property
    def superseded(self) -> bool:
        """Whether what it brings is not to be stored."""
        return self._superseded

    # -- For leaders -----------------------------------------------------------

    def begin(self) -> bool:
        """Lead, if nobody does yet; whether the caller leads now."""
        begins = False
        try:
            with self._gate:
                begins = not self._begun
                self._begun = True
            return begins
        except BaseException as error:
            # A signal's handler has raised: who does not know that he leads never lands it.
            if begins:
                self.abandon(error)
            raise

    def computing(self) -> AbstractContextManager[None]:
        """To be entered around the user's function: what it waits for, this flight waits for."""
        return circles.computing(self)

    def publish(self, write: Callable[[], object]) -> bool:
        """Run *write*, unless the flight was superseded; whether it ran.

        What *write* asks for of the same flight, it would wait for for ever: a store's callback
        that calls the function. So it counts as part of the computation.
        """
        with self._gate:
            if self._superseded:
                return False
            with self.computing():
                write()
            return True

    @contextlib.contextmanager
    def publishing(self) -> Iterator[bool]:
        """As :meth:`publish`, for who writes the values of several flights at once.

        Gives whether the value may be written. Whoever enters several of these enters all of
        them in one order of theirs.
        """
        with self._gate:
            yield not self._superseded

    def land(self, outcome: Outcome) -> None:
        """Give the waiters *outcome*."""
        self._end(outcome, None)

    def abandon(self, cause: BaseException | None = None) -> None:
        """Send the waiters back to compete for a new flight; what it has is not stored."""
        self._superseded = True
        self._end(None, cause)

    def _end(self, outcome: Outcome | None, cause: BaseException | None) -> None:
        with self._gate:
            if self._landed.is_set():
                return  # a leader that was given up for lost comes late
            self.outcome = outcome
            self.abandoned = outcome is None
            self.cause = cause
            self._landed.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    # -- For others ------------------------------------------------------------

    def outdate(self) -> None:
        """From now on :meth:`publish` refuses; one that is running already goes on."""
        self._superseded = True

    def supersede(self) -> None:
        """From now on :meth:`publish` refuses; waits for one that is running."""
        self._superseded = True
        with self._gate:
            pass

    def then(self, callback: Callable[[Flight], object]) -> None:
        """Call *callback* with this flight when it has ended; at once if it has."""
        with self._gate:
            if not self._landed.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def waiting(self) -> AbstractContextManager[None]:
        """To be entered while waiting for this flight by other means than :meth:`wait`.

        Raises:
            CircularWait: waiting would never end.
        """
        return circles.waiting(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Until it has ended; ``False`` after *timeout* seconds.

        Raises:
            CircularWait: the leader waits, maybe through others, for the caller.
        """
        if self._landed.is_set():
            return True
        with circles.waiting(self):
            if timeout is not None or self.alive is None:
                return self._landed.wait(timeout)
            while not self._landed.wait(LIVENESS_INTERVAL):
                self.bury()
            return True

    def bury(self) -> None:
        """Abandon the flight if its leader has vanished."""
        if self.lost:
            self.abandon()

    @property
    def lost(self) -> bool:
        """Whether the leader has vanished, so that nobody will end the flight."""
        return self.alive is not None and not self._landed.is_set() and not self.alive()


class Flights:
    """The running computations of one process, by key."""

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """The leaders are threads of the parent: nobody here would ever land these."""
        self._lock = threading.RLock()
        self._running: dict[Hashable, Flight] = {}
        # Superseded, and perhaps just writing: a second invalidation must wait for that write
        # as the first one does, or the value would be there after it.
        self._leaving: dict[Hashable, list[Flight]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._running

    def enter(self, key: Hashable) -> tuple[Flight, bool]:
        """The flight of *key*, and whether it is a new one, which the caller sees to."""
        with self._lock:
            running = self._running.get(key)
            # One that has ended is there only if its key could not be found to take it out.
            if running is not None and not running.lost and not running.ended:
                return running, False
            flight = self._running[key] = Flight()
        if running is not None:
            running.abandon()
        return flight, True

    def restart(self, key: Hashable) -> Flight:
        """A new flight of *key*, led by the caller, superseding the one that runs."""
        flight = Flight()
        flight.begin()
        try:
            self._replace(key, flight)
        except BaseException as error:  # a signal's handler has raised: nobody would lead it
            self.drop(key, flight, error)
            raise
        return flight

    def supersede(self, key: Hashable) -> bool:
        """Take the flight of *key* out of the table and stop its write; whether there was one."""
        return bool(self._running or self._leaving) and self._replace(key, None)

    def dismiss(self, key: Hashable, flight: Flight) -> bool:
        """Do so if *flight* is still the one of *key*; whether it was."""
        return self._replace(key, None, only=flight)

    def supersede_all(self) -> None:
        """Do so for every key."""
        with self._lock:
            keys = [*self._running, *self._leaving]
        for key in keys:
            self._replace(key, None)

    def retire(self, key: Hashable, flight: Flight) -> None:
        """As :meth:`dismiss`, without waiting for a write of *flight* that is running."""
        flight.outdate()
        # A key that fails to be hashed leaves it there; what it brings is not stored all the same.
        with contextlib.suppress(Exception), self._lock:
            if self._running.get(key) is flight:
                del self._running[key]
                self._leaving.setdefault(key, []).append(flight)

    def _replace(self, key: Hashable, new: Flight | None, only: Flight | None = None) -> bool:
        with self._lock:
            if only is not None and self._running.get(key) is not only:
                return False
            previous = self._running.pop(key, None)
            if new is not None:
                self._running[key] = new
            if previous is not None:
                previous.outdate()
                self._leaving.setdefault(key, []).append(previous)
            leaving = list(self._leaving.get(key, ()))
        for flight in leaving:
            flight.supersede()
        if previous is not None:
            with self._lock:
                self._left(key, previous)
        return previous is not None

    def finish(self, key: Hashable, flight: Flight) -> None:
        """Take *flight* out of the table, unless another has its place by now."""
        with self._lock:
            if self._running.get(key) is flight:
                del self._running[key]
            elif self._leaving:
                self._left(key, flight)

    def _left(self, key: Hashable, flight: Flight) -> None:
        leaving = self._leaving.get(key, [])
        if flight in leaving:
            leaving.remove(flight)
            if not leaving:
                del self._leaving[key]

    def drop(self, key: Hashable, flight: Flight, cause: BaseException | None = None) -> None:
        """Abandon *flight*, if it has not ended, and take it out of the table."""
        # A key that fails to be hashed leaves an ended flight there, which the next one replaces.
        with contextlib.suppress(Exception):
            self.finish(key, flight)
        flight.abandon(cause)


@contextlib.contextmanager
def publishing(flights: Mapping[K, Flight]) -> Iterator[set[K]]:
    """:meth:`Flight.publishing` of several at once; gives the keys that may be written."""
    with contextlib.ExitStack() as gates:
        yield {key for key, flight in flights.items() if gates.enter_context(flight.publishing())}
