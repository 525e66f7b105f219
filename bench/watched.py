"""Values that note when they end: when a cache drops one, the moment is known.

Nobody has to look for that, so nothing competes with the threads that are measured. The
moments of two processes of one machine can be compared: both are CLOCK_MONOTONIC.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

__all__ = ["Watched", "forget", "gone"]

_ended: dict[str, int] = {}
_now = time.monotonic_ns


class Watched:
    """A value of about 100 bytes; the last reference to it is the cache's."""

    __slots__ = ("_filling", "_key")

    def __init__(self, key: str, filling: bytes = bytes(80)) -> None:
        self._key = key
        self._filling = filling

    def __reduce__(self) -> tuple[type[Watched], tuple[str, bytes]]:
        return Watched, (self._key, self._filling)

    def __del__(self) -> None:
        _ended[self._key] = _now()


def forget() -> None:
    """What has ended until now is of no interest."""
    _ended.clear()


def gone(keys: Sequence[str], patience: float) -> dict[str, int]:
    """When the values of *keys* ended, nanoseconds; after *patience* seconds, of those that did."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not all(key in _ended for key in keys):
        time.sleep(0.002)
    return {key: _ended[key] for key in keys if key in _ended}
