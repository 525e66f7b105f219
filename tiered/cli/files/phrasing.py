"""Sizes, times and keys for people, and for JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from tiered.keys.readable import readable

if TYPE_CHECKING:
    from tiered.clients.files.inspection import Held

__all__ = ["Row", "counted", "duration", "size_text"]

_UNITS: Final = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_TIMES: Final = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0))


class Row(NamedTuple):
    """What is told of a value.

    Attributes:
        age: seconds; ``None`` if its file does not tell.
        ttl: seconds that are left, below 0 if it is stale; ``None`` if its file does not tell.
    """

    key: str
    size: int
    age: float | None
    ttl: float | None
    used: int
    held: Held

    @classmethod
    def of(cls, held: Held, now: float) -> Row:
        """Of a value at *now*, in the time of files."""
        key = "<damaged>" if held.name is None else readable(held.name)
        age = ttl = None
        if held.header is not None:
            age, ttl = now - held.header.created, held.header.expires - now
        return cls(key, held.size, age, ttl, held.used, held)

    @property
    def stale(self) -> bool:
        """Whether its time is over."""
        return self.ttl is not None and self.ttl <= 0

    def data(self) -> dict[str, object]:
        """For JSON, which knows no infinity: what has no end has no ``ttl``."""
        return {
            "key": self.key,
            "digest": self.held.digest,
            "file": self.held.file,
            "size": self.size,
            "age": _finite(self.age),
            "ttl": _finite(self.ttl),
            "stale": self.stale,
            "verified": False,
        }


def counted(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(size: float) -> str:
    """Bytes, in units of thousands."""
    for unit, factor in _UNITS:
        if abs(size) >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def duration(seconds: float | None) -> str:
    """Seconds, in the largest unit that they have one of; ``-`` if that is not known."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "never" if seconds > 0 else "-"
    for unit, length in _TIMES:
        if abs(seconds) >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _finite(seconds: float | None) -> float | None:
    return round(seconds, 3) if seconds is not None and math.isfinite(seconds) else None
