"""The part of a namespace that every call of a cached function reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tiered.acceleration import core

__all__ = ["PythonRevision", "Revision"]


class PythonRevision:
    """What keys in a namespace begin with, and until when that is believed.

    Attributes:
        prefix: the first part of every key.
        horizon: until when (monotonic, seconds) *prefix* is taken for true.

    Threads: both are read without a lock.
    """

    prefix: str = ""
    horizon: float = -math.inf


if TYPE_CHECKING:
    Revision = PythonRevision
else:
    Revision = core.Revision if core else PythonRevision
