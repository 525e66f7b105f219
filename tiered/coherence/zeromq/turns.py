"""Whose turn it is to use the sockets: the bus's thread's, or a caller's while that sleeps."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Final

from tiered.coherence.receipts import Lock
from tiered.coherence.zeromq.readiness import Readiness
from tiered.stats.reports import Reports

__all__ = ["Turns"]

_PACE: Final = 0.0005
"""Seconds after a direct sending in which there is no other: a flood is better sent in blocks."""
_NO_WAITING: Final = (False,)
"""Whether to wait for the lock, for each time that it is tried."""


class Turns:
    """Lets callers send by themselves while the thread sleeps, and wakes it where they cannot.

    To wake a thread takes longer than to send an event.

    Args:
        lock: held by whoever uses the sockets and what belongs to them. The thread waits for
            it, and has it but for its sleep. Callers only try to get it.
        readiness: in which the thread sleeps.
        now: the monotonic clock.
        send: called with the time, under the lock: sends what callers have left, and returns
            whether the thread may sleep on. It must not call anybody's code, log or wait: the
            caller may be in a callback of the thread's, in a signal's handler that has
            interrupted this very sending, or hold what such a callback waits for.
        reports: where to tell of errors in it.

    Attributes:
        lock: as given.
        sleeping: whether the thread sleeps, or is about to; changed by it under the lock.
        cut_short: whether a caller was stopped while he sent: what he had in hand may be lost,
            or half done. The thread is awake then, and has to put it right.

    Threads: safe.
    """

    def __init__(
        self,
        lock: Lock,
        readiness: Readiness,
        now: Callable[[], float],
        send: Callable[[float], bool],
        reports: Reports,
    ) -> None:
        self.lock = lock
        self.sleeping = False
        self.cut_short = False
        self._readiness = readiness
        self._now = now
        self._send = send
        self._reports = reports
        self._sent_at = -math.inf

    def wake(self) -> None:
        """Have what callers have left be sent: here, or by the thread. Never waits."""
        # In one function, as each one costs some microseconds where caches are cold.
        if not self.sleeping:
            return  # it looks for the last time before it sleeps
        held: list[bool] = []
        sent = False
        try:
            try:
                now = self._now()
                if now - self._sent_at >= _PACE:
                    # Taken and noted in one step: a handler that raises cannot come between.
                    held.extend(map(self.lock.acquire, _NO_WAITING))
                    # A signal's handler gets the lock that its thread has already. If it comes in
                    # the midst of the sending itself, it finds that cut short, and has the thread
                    # woken. What somebody was stopped at is for the thread to put right.
                    asleep: bool = self.sleeping  # not if it was awake meanwhile
                    if held[0] and asleep and not self.cut_short:
                        self._sent_at = now
                        # A handler that raises may end this anywhere.
                        self.cut_short = True
                        done = self._send(now)
                        self.cut_short = False
                        sent = done  # not before: the thread has to put right what is cut short
            finally:
                try:
                    if held and held[0]:
                        self.lock.release()
                finally:
                    if not sent:
                        self.sleeping = False
                        self._readiness.bell.ring()
        except Exception:
            # Said when nobody has to wait for it: what a log calls may publish, or hold others up.
            what = "what was published could not be sent:\n%s"
            self._reports.warn("direct", what, traceback.format_exc())
