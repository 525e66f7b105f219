"""A clock that moves when it is told to."""

from __future__ import annotations

import threading

__all__ = ["ManualClock"]


class ManualClock:
    """Time for tests: nothing expires unless the test says so.

    Args:
        monotonic: where the monotonic clock starts, in seconds.
        wall: where the wall clock starts, in seconds since 1970.

    Threads: safe.
    """

    def __init__(self, monotonic: float = 1_000.0, wall: float = 1_800_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Seconds; only :meth:`advance` moves them."""
        return self._monotonic

    def wall(self) -> float:
        """Seconds since 1970."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass.

        Raises:
            ValueError: time does not go back; see :meth:`step_wall`.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds

    sleep = advance

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        with self._lock:
            self._wall += seconds

    def __repr__(self) -> str:
        return f"<ManualClock {self._monotonic:g}>"
