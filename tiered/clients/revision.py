"""What is believed for a while, and the part of a namespace that every call of a cached function
reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tiered.acceleration import core

__all__ = ["Lease", "PythonLease", "PythonRevision", "Revision"]


class PythonLease:
    """Until when something is believed without asking again.

    Attributes:
        horizon: the moment (monotonic, seconds); ``-inf`` at first, and when it has ended.

    Threads: read without a lock.
    """

    horizon: float = -math.inf


class PythonRevision(PythonLease):
    """What keys in a namespace begin with, and until when that is believed.

    Attributes:
        prefix: the first part of every key.

    Threads: as of :class:`PythonLease`.
    """

    prefix: str = ""


if TYPE_CHECKING:
    Lease = PythonLease
    Revision = PythonRevision
else:
    Lease = core.Lease if core else PythonLease
    Revision = core.Revision if core else PythonRevision
