"""What a process holds open: for tests that nothing is left, or begun."""

from __future__ import annotations

import gc
import os
import threading

__all__ = ["Census"]


class Census:
    """What has come since this was made.

    Counts would not do: what other tests have left may be collected, or end by itself, at any
    moment, and then a leak beside it is not seen, or one is seen that is none.
    """

    def __init__(self) -> None:
        gc.collect()  # so that little of it goes meanwhile
        self._threads = set(threading.enumerate())
        self._descriptors = _opened()

    @property
    def threads(self) -> set[threading.Thread]:
        """Those that are alive, and were not."""
        return set(threading.enumerate()) - self._threads

    @property
    def descriptors(self) -> set[tuple[int, str]]:
        """Those that are open, and were not: number, and what is open."""
        return _opened() - self._descriptors


def _opened() -> set[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            pass  # the one that listed them, or another thread's
    return found
