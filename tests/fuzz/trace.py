"""How much memory this process has."""

from __future__ import annotations

import os
import resource
from pathlib import Path

__all__ = ["resident"]


def resident() -> float:
    """MiB in memory just now; where that cannot be told, the most that ever were."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
