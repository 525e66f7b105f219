"""Waiting for what becomes of published events, and of questions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tiered.coherence.bus import Answer

if TYPE_CHECKING:
    from _thread import RLock

__all__ = ["EventReceipt", "Lock", "Progress", "Questions", "is_held_here"]

Lock: TypeAlias = "RLock"
"""Held by whoever carries messages: the transport's thread, or a caller in its place."""


def is_held_here(lock: Lock) -> bool:
    """Whether this thread holds *lock*: in a callback of the transport's, or in a signal's
    handler that has interrupted a caller who sends. What it waits for cannot happen then."""
    # Taken and noted in one step by the interpreter; what conditions ask their lock, too.
    return bool(lock._is_owned())  # type: ignore[attr-defined]


class Progress:
    """How far a node's own events have come, by their serials.

    Args:
        carrying: held by whoever moves it on: who waits for that meanwhile does so in vain,
            and is told at once.

    Threads: safe. One writes; any may wait.
    """

    def __init__(self, carrying: Lock) -> None:
        self._carrying = carrying
        self.accepted = 0
        self.settled = 0
        self._changed = threading.Condition()
        self._waiting = 0
        self._ended = False

    def advance(self, *, accepted: int = 0, settled: int = 0) -> None:
        """All up to these serials."""
        self.accepted = max(self.accepted, accepted)
        self.settled = max(self.settled, settled)
        # Who is about to wait says so before it looks for the last time.
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def end(self) -> None:
        """They come no farther, as the node has left: nobody waits for that any more."""
        self._ended = True
        self.advance()

    def await_accepted(self, serial: int, timeout: float) -> bool:
        return self.accepted >= serial or self._await(lambda: self.accepted >= serial, timeout)

    def await_settled(self, serial: int, timeout: float) -> bool:
        return self.settled >= serial or self._await(lambda: self.settled >= serial, timeout)

    def _await(self, condition: Callable[[], bool], timeout: float) -> bool:
        if is_held_here(self._carrying):
            return False
        with self._changed:
            self._waiting += 1
            try:
                patience = min(timeout, threading.TIMEOUT_MAX)
                self._changed.wait_for(lambda: condition() or self._ended, patience)
                return condition()
            finally:
                self._waiting -= 1


class EventReceipt:
    """What becomes of the events up to *serial*; see :class:`tiered.coherence.bus.Receipt`."""

    __slots__ = ("_progress", "_serial")

    def __init__(self, progress: Progress, serial: int) -> None:
        self._progress = progress
        self._serial = serial

    def accepted(self, timeout: float) -> bool:
        """Wait until the broker has them in its order; ``False`` after *timeout* seconds, or at
        once where the wait itself would be what keeps them, and where the bus was closed."""
        return self._progress.await_accepted(self._serial, timeout)

    def settled(self, timeout: float) -> bool:
        """Wait until all live nodes have applied them; of urgent ones only."""
        return self._progress.await_settled(self._serial, timeout)


class Questions:
    """Questions to the broker that somebody waits to have answered.

    Args:
        carrying: held by whoever brings answers, as for :class:`Progress`.

    Threads: safe.
    """

    def __init__(self, carrying: Lock) -> None:
        self._carrying = carrying
        self._answered = threading.Condition()
        self._answers: dict[int, Answer | None] = {}
        self._next = 0

    def ask(self) -> int:
        """The number of a new question; to be given to :meth:`wait` in any case."""
        with self._answered:
            self._next += 1
            self._answers[self._next] = None
            return self._next

    def answer(self, question: int, answer: Answer) -> bool:
        """*answer* has come; whether anybody still waits for it."""
        with self._answered:
            if question not in self._answers:
                return False
            self._answers[question] = answer
            self._answered.notify_all()
            return True

    def wait(self, question: int, timeout: float) -> Answer:
        """The answer, or one that says that nobody could be asked."""
        if is_held_here(self._carrying):
            timeout = 0.0
        with self._answered:
            self._answered.wait_for(lambda: self._answers[question] is not None, timeout)
            return self._answers.pop(question) or Answer(False)
