"""Whether a server is worth asking: a growing, jittered pause after failures."""

from __future__ import annotations

import random
from typing import Final

from tiered.typing import Clock

__all__ = ["NodeHealth"]


class NodeHealth:
    """The state of one server, shared by all threads.

    After a failure the server is left alone for a quarter of a second, then for
    twice as long after each further one, up to ten seconds. The first request
    after the pause is the probe. Jitter keeps the processes of a fleet from
    returning in one wave.

    Threads: safe without a lock; a lost update makes one pause a step shorter.
    """

    FIRST_PAUSE: Final = 0.25
    LONGEST_PAUSE: Final = 10.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._resume = -float("inf")
        self._slow = False

    @property
    def usable(self) -> bool:
        """Whether to ask the server now."""
        return not self._failures or self._clock.monotonic() >= self._resume

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0

    @property
    def refuses_quickly(self) -> bool:
        """Whether to ask a failing server all the same costs next to nothing."""
        return not self._slow

    def failed(self, *, slowly: bool = False) -> None:
        """The server could not be reached, or broke off; or *slowly*, it let us wait in vain."""
        self._slow = slowly
        if not self.usable:
            return  # the same outage, met by a request that was under way when it began
        pause = min(self.FIRST_PAUSE * 2.0**self._failures, self.LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 16)
        self._resume = self._clock.monotonic() + pause * random.uniform(0.75, 1.0)  # noqa: S311
