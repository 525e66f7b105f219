"""The way to small values where all that is needed is known and open: compiled."""

from __future__ import annotations

from typing import Any, Protocol

from tiered.acceleration import core
from tiered.clients.files.counts import Counts
from tiered.clients.files.packs.files import OpenFile
from tiered.clients.files.packs.lanes import Lanes
from tiered.entry import Entry

__all__ = ["PackAccess", "pack_access"]


class PackAccess(Protocol):
    """Reads and writes small values where all that is needed is known and open; compiled.

    Attributes:
        files: open packs, by ``lane << PACK_BITS | pack``.
    """

    files: dict[int, OpenFile]

    def attach(self, lane: int, number: int, cells: memoryview[int]) -> None:
        """Read a lane by this index from now on."""

    def append(self, lane: int, tag: int, record: bytes) -> int:
        """Write a record in a lane, whose lock is held.

        Returns:
            Where the key's value was before (see :attr:`Spot.packed`), if the pack there has
            nothing else any more; 0 if not; -1 if nothing was done.
        """

    def entry(self, name: bytes, opener: Any, base: float, now: float) -> Entry | None:
        """What is held for the key with this name; ``None`` is no miss yet.

        Args:
            opener: of the codec.
            base: see ``Counts``.
            now: monotonic; what was made later than that is not believed.
        """


def pack_access(lanes: Lanes, counts: Counts) -> PackAccess | None:
    """One for the packs of *lanes*; ``None`` where the compiled core is not in use."""
    if core is None:
        return None
    access: PackAccess = core.PackAccess(
        lanes.cells, lanes.slots, lanes.pack, *counts.clock_of_accesses
    )
    return access
