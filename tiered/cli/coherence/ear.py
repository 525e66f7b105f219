"""Hears everything on a bus, and says it."""

from __future__ import annotations

import math
import queue
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from tiered.cli import output
from tiered.cli.coherence.spoken import Phrasing
from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.bus import Bus
from tiered.coherence.messages import ALL_TOPICS, Event
from tiered.typing import Clock

__all__ = ["Ear"]

_LOOK: Final = 0.05
"""Seconds between two looks at the broker."""
_MOST: Final = 100_000
"""Events that wait to be said."""


class _Doubt(NamedTuple):
    reason: str


class _End(NamedTuple):
    pass


_Heard: TypeAlias = Event | _Doubt | _End


class Ear:
    """A member of *bus* for all topics, who says what he hears on standard output.

    Args:
        quiet: leave out the events.
        goes_on: listen also when nothing can be said any more: there is other work.
        alone: what to say on standard error, once, if no broker was found within twice the bus's
            detection time.
    """

    topic = ALL_TOPICS

    def __init__(
        self,
        bus: Bus,
        phrasing: Phrasing,
        *,
        alone: str,
        quiet: bool = False,
        goes_on: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._bus = bus
        self._phrasing = phrasing
        self._alone = alone
        self._quiet = quiet
        self._goes_on = goes_on
        self._clock = clock
        self._heard: queue.SimpleQueue[tuple[float, _Heard]] = queue.SimpleQueue()
        self._until = -math.inf
        self._unsaid = self._doubts = self._doubts_said = 0
        self._followed = ("", 0)
        self._verified = False
        self._found = False

    # -- For the bus ---------------------------------------------------------------

    def hear(self, events: Sequence[Event]) -> None:
        now = self._clock.wall()
        if self._heard.qsize() > _MOST:
            self._unsaid += len(events)  # who reads what we say is slow
            return
        for event in events:
            self._heard.put((now, event))

    def distrust(self, reason: str) -> None:
        self._doubts += 1
        self._heard.put((self._clock.wall(), _Doubt(reason)))

    def extend(self, epoch: int, until: float) -> None:
        self._until = until

    def accepted(self) -> None:
        """We publish nothing."""

    def overdue(self) -> None:
        """Nor does anything of ours wait."""

    def told(self, node: bytes, payload: bytes) -> None:
        """Answers to others are not for us."""

    # -- Saying it -----------------------------------------------------------------

    def listen(self, count: int | None, timeout: float | None) -> int:
        """Until *count* events were heard, *timeout* seconds are over, or :meth:`end` is called.

        Returns:
            1 if the time was over before the events came, or any broker; else 0.

        Raises:
            OSError: what is heard cannot be said, for another reason than that nobody reads it.
        """
        output.forgive()
        try:
            return self._listen(math.inf if count is None else count, timeout)
        except BrokenPipeError:
            return 0

    def end(self) -> None:
        """Listen no more. A signal's handler may call it, too."""
        self._heard.put((0.0, _End()))

    def _listen(self, count: float, timeout: float | None) -> int:
        now = self._clock.monotonic
        until = math.inf if timeout is None else now() + timeout
        look_at = -math.inf
        alone_at = now() + 2 * self._bus.detection
        while count > 0:
            if now() >= look_at:
                self._look()
                look_at = now() + _LOOK
                if now() >= alone_at and not self._found:
                    print(self._alone, file=sys.stderr, flush=True)
                    alone_at = math.inf
            left = until - now()
            if left <= 0:
                return 1 if count < math.inf or not self._found else 0
            try:
                when, heard = self._heard.get(timeout=min(_LOOK, left))
            except queue.Empty:
                continue
            if isinstance(heard, _End):
                return 0
            if isinstance(heard, _Doubt):
                self._look()
                self._say(self._phrasing.news(when, "distrust", heard.reason, reason=heard.reason))
                self._doubts_said += 1
            else:
                count -= 1
                if not self._quiet:
                    self._say(self._phrasing.event(when, heard))
        return 0

    def _look(self) -> None:
        """Say what has become of the broker."""
        when, news = self._clock.wall(), self._phrasing.news
        stats = self._bus.stats
        followed = (stats.broker, stats.epoch if stats.broker else 0)
        if followed != self._followed:
            if self._followed[0]:
                self._say(news(when, "lost", self._followed[0], broker=self._followed[0]))
            if followed[0]:
                self._found = True
                epoch = f"{followed[1]:016x}"
                words = f"{followed[0]}, epoch {epoch}"
                self._say(news(when, "found", words, broker=followed[0], epoch=epoch))
            self._followed = followed
        doubted = self._doubts != self._doubts_said  # which is to be said first
        verified = self._clock.monotonic() < self._until
        if verified is not self._verified and not doubted:
            self._verified = verified
            self._say(news(when, "verified" if verified else "unverified"))
        if self._unsaid:
            unsaid, self._unsaid = self._unsaid, 0
            self._say(news(when, "unsaid", f"{unsaid} events, for want of time", events=unsaid))

    def _say(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            output.abandon()
            if not self._goes_on:
                raise
