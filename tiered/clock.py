"""The only module that asks the operating system for the time.

Deadlines inside a process are on the monotonic clock, which no administrator
and no NTP daemon can step. Wall-clock time appears where bytes leave the
process, and is converted at that edge.
"""

from __future__ import annotations

import time
from typing import Final

from tiered.typing import Clock

__all__ = ["SYSTEM_CLOCK", "SystemClock"]


class SystemClock:
    """The real clock.

    The methods are the C functions themselves: no Python frame stands between
    the hot path and the time.
    """

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(time.sleep)

    def __repr__(self) -> str:
        return "SYSTEM_CLOCK"


SYSTEM_CLOCK: Final[Clock] = SystemClock()
"""The clock that everything uses unless it is given another."""
