"""What is true, for the demo to check answers against: notices that workers change."""

from __future__ import annotations

from ctypes import Array, c_double, c_int64
from multiprocessing.context import BaseContext
from typing import Final

__all__ = ["Board"]

_NOTICES: Final = 64


class Board:
    """Notices in memory that all workers share; each is changed by one of them only.

    Attributes:
        versions: of each notice, as it is.
        known: of each, the version that everybody was told of: older ones are not to be served.
        changed_at: when (monotonic, which is the same for all processes) each was changed last.
    """

    def __init__(self, context: BaseContext, size: int = _NOTICES) -> None:
        # No lock: a cell is written in one step, by one process.
        self.versions: Array[c_int64] = context.RawArray(c_int64, size)
        self.known: Array[c_int64] = context.RawArray(c_int64, size)
        self.changed_at: Array[c_double] = context.RawArray(c_double, size)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.versions)
