"""What comes in and is not ours: counted, told of now and then, and dropped."""

from __future__ import annotations

from tiered.stats.reports import Reports
from tiered.typing import Clock

__all__ = ["LOGGER", "ForeignCount"]

LOGGER = "tiered.coherence"


class ForeignCount:
    """How many frames and connections were refused. Threads: one counts."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self._reports = Reports(LOGGER, clock)

    def refuse(self, where: str, reason: object, times: int = 1) -> None:
        """Something that came in at *where* was dropped."""
        if times:
            self.count += times
            self._reports.warn(where, "dropped what came in at %s: %s", where, reason)
