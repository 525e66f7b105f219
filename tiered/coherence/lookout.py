"""Until when copies may be served: what the bus says, and what the witness in the shared tier says.

The bus speaks in its own thread and cannot wait for a server. So a worker looks at the
record, about four times in a detection time, and at once where something hangs on it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Final

from tiered.clients.base import CacheClient
from tiered.coherence.witness import Record, Witness
from tiered.coherence.workers import behind
from tiered.concurrency import fork
from tiered.stats.reports import Reports
from tiered.typing import Clock, Key

__all__ = ["Lookout"]

_MARK = "tiered.coherence.witness"
_TWO: Final = (
    "two buses share %s's tier: each has a broker at its only address, and does not hear of what "
    "the other one changes; give all processes addresses that reach the same broker (a loopback "
    "or ipc address is another one on each host), or another topic to applications that share no "
    "keys. Until then, copies are confirmed more often"
)
_log: Final = logging.getLogger("tiered.coherence")


class Lookout:
    """The driver of one :class:`~tiered.coherence.witness.Witness`.

    Args:
        namespace: whose record it is.
        shared: the shared tier's authority, where the record lies; ``None`` for no record:
            then the bus alone decides.
        detection, sole: as of the bus.
        clock: of all deadlines.
        distrust: called when all copies must be confirmed.
        moved: called when :attr:`until` may have changed.

    Attributes:
        answered: when (monotonic) the newest look began that *shared* has answered; ``inf``
            where there is none to ask.

    Threads: safe. *distrust* and *moved* are called without a lock held.
    """

    def __init__(
        self,
        namespace: str,
        shared: CacheClient | None,
        *,
        detection: float,
        sole: bool,
        clock: Clock,
        distrust: Callable[[str], None],
        moved: Callable[[], None],
    ) -> None:
        self._key: Key = (_MARK, namespace)
        self._namespace = namespace
        self._shared = shared
        self._detection = detection
        self._sole = sole or shared is None
        self._clock = clock
        self._distrust = distrust
        self._moved = moved
        self._reports = Reports("tiered.coherence", clock)
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """What was known was another process's."""
        self._looked = threading.Condition()
        self._witness = Witness(detection=self._detection, sole=self._sole)
        self._looking = False
        self.answered = -math.inf if self._shared is not None else math.inf

    @property
    def until(self) -> float:
        """Until when (monotonic) copies that are not distrusted may be served."""
        with self._looked:
            return self._witness.until

    @property
    def looking(self) -> bool:
        """Whether a worker looks at the record just now."""
        return self._looking

    # -- What the bus says ---------------------------------------------------------

    def extend(self, epoch: int, until: float) -> None:
        """The bus's lease, on the word of the broker of *epoch*."""
        now = self._clock.monotonic()
        with self._looked:
            self._witness.extend(epoch, until, now)
            disproved = self._sole and not self._witness.sole
            if disproved:
                self._sole = False  # in forked children, too
        if disproved:
            _log.error(_TWO, self._namespace)
            self._distrust("there is another bus beside ours")
        self._moved()
        self._look_if_due(now)

    def accepted(self) -> None:
        """Events from here have been accepted."""
        with self._looked:
            self._witness.accepted(self._clock.monotonic())

    def overdue(self) -> None:
        """Events from here wait for acceptance for too long."""
        now = self._clock.monotonic()
        with self._looked:
            self._witness.overdue(now)
        self._look_if_due(now)

    # -- Looking -------------------------------------------------------------------

    def await_sure(self, since: float, timeout: float) -> bool:
        """Wait until nobody serves what was not heard of at *since* (monotonic)."""
        with self._looked:
            if self._witness.sure >= since:
                return True
            self._witness.hurry(since)
        self._look_if_due(math.inf)
        with self._looked:
            return self._looked.wait_for(lambda: self._witness.sure >= since, timeout)

    def _look_if_due(self, now: float) -> None:
        if self._shared is None:
            return
        with self._looked:
            if self._looking or now < self._witness.due:
                return
            self._looking = True
        if not behind(self._look):
            with self._looked:
                self._looking = False  # the next beat tries again

    def _look(self) -> None:
        try:
            while self._looked_once():
                pass
        finally:
            with self._looked:
                self._looking = False
                self._looked.notify_all()

    def _looked_once(self) -> bool:
        """Look, and do what comes of it; whether to look again at once."""
        assert self._shared is not None
        with self._looked:
            proposal = self._witness.proposal()
        began = self._clock.monotonic()
        found = self._asked(proposal)
        if found is not None:
            self.answered = began
        with self._looked:
            verdict = self._witness.looked(found, began, self._clock.monotonic())
        if verdict.distrust:
            self._distrust("the witness in the shared tier has changed")
        if verdict.write is not None:
            self._write(verdict.write)
        self._moved()
        with self._looked:
            return found is not None and self._clock.monotonic() >= self._witness.due

    def _asked(self, proposal: Record) -> Record | None:
        assert self._shared is not None
        try:
            entry = self._shared.agree(self._key, str(proposal))
        except Exception as error:
            self._reports.warn("ask", "the witness cannot be read: %r", error)
            return None
        return None if entry is None else Record.read(entry.value)

    def _write(self, record: Record) -> None:
        assert self._shared is not None
        try:
            self._shared.decree(self._key, str(record))
        except Exception as error:
            self._reports.warn("write", "the witness cannot be written: %r", error)
