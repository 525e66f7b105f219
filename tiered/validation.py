"""Checks of arguments: one wording for all refusals (the name, the value, what is right)."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["check_count", "check_number", "check_ttl"]


def check_number(name: str, value: Any, *, low: float, hint: str) -> float:
    """*value* if it is a real number of at least *low*.

    Raises:
        TypeError: it is not a number (``bool`` is not one here).
        ValueError: it is NaN or below *low*.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be {hint}, not {value!r} ({type(value).__name__})")
    if math.isnan(value) or value < low:
        raise ValueError(f"{name} must be {hint}, not {value!r}")
    return value


def check_count(name: str, value: Any, *, low: int) -> int:
    """*value* if it is an ``int`` of at least *low*. Raises as :func:`check_number`."""
    hint = f"a whole number, {low} or more"
    check_number(name, value, low=low, hint=hint)
    if not isinstance(value, int):
        raise TypeError(f"{name} must be {hint}, not {value!r}")
    return value


def check_ttl(name: str, ttl: Any) -> float:
    """*ttl* if it is a number of seconds; negative means stale already.

    Raises:
        TypeError: it is not a number.
        ValueError: it is NaN.
    """
    return check_number(name, ttl, low=-math.inf, hint="a number of seconds (FOREVER for no end)")
