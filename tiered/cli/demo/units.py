"""Times for people."""

from __future__ import annotations

__all__ = ["duration"]


def duration(seconds: float) -> str:
    """*seconds* in a unit in which they are easy to read."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:,.1f} {unit}"
    return f"{seconds / 1e-9:,.0f} ns"
