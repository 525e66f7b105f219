"""The life of an item on the server, from the life of a value.

The server keeps time in whole seconds, takes numbers past thirty days for
absolute times, and numbers below zero for "expired already". The exact expiry is
in the envelope; the server only has to keep the item long enough.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["exptime"]

_THIRTY_DAYS: Final = 30 * 24 * 3600
_LAST_TIME: Final = 2**31 - 1
"""Servers read a signed 32-bit number."""
_STALE_GRACE: Final = 30.0
"""What is stored stale, with no keep given, stays readable for this long."""


def exptime(remaining: float, keep: float, server_time: float) -> int:
    """What to tell the server for a value with *remaining* seconds to live.

    Args:
        remaining: seconds until it is stale; negative if it is already.
        keep: seconds for which readers of stale values want it after that.
        server_time: the server's wall clock, or a guess at it.
    """
    life = max(remaining, 0.0) + keep
    if remaining <= 0.0:
        life = max(life, _STALE_GRACE)
    if math.isinf(life):
        return 0
    # The server's second may be nearly over: without one more, "1" can be gone at once.
    whole = math.ceil(life) + 1
    if whole <= _THIRTY_DAYS:
        return whole
    absolute = math.ceil(server_time) + whole
    return absolute if absolute <= _LAST_TIME else 0
