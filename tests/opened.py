"""What a process holds open: for tests that nothing is left, or begun."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

__all__ = ["Opened"]

_PATIENCE = 10.0


class Opened:
    """What has come since this was made.

    Counts would not do: what other tests have left may be collected, or end by itself, at any
    moment, and then a leak beside it is not seen, or one is seen that is none. Nor is all that
    has come ours: a thread of another test may have begun late.

    Args:
        within: count descriptors of what lies in this directory only; of everything by default.
    """

    def __init__(self, within: Path | str = "") -> None:
        self._within = str(within)
        gc.collect()  # so that little of what others left goes meanwhile
        self._threads = set(threading.enumerate())
        self._descriptors = self._opened()

    @property
    def threads(self) -> set[threading.Thread]:
        """Those that are alive, and were not."""
        return set(threading.enumerate()) - self._threads

    @property
    def descriptors(self) -> set[tuple[int, str]]:
        """Those that are open, and were not: number, and what is open."""
        return self._opened() - self._descriptors

    def left(self) -> set[object]:
        """What stays of both, for longer than what ends by itself does."""
        over = time.monotonic() + _PATIENCE
        while (left := self.threads | self.descriptors) and time.monotonic() < over:
            time.sleep(0.005)
        return set(left)

    def _opened(self) -> set[tuple[int, str]]:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except FileNotFoundError:
                continue  # it is the one that listed them, or another thread's
            if target.startswith(self._within):
                found.add((int(name), target))
        return found
