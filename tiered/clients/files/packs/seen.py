"""Packs of a directory that is only looked at: nothing is locked, made or changed.

Others may write meanwhile. A value that is moved just then may not be met; one that is met was
there whole.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tiered.clients.files.names import LANES, PACKS, Place, index_name, pack_name
from tiered.clients.files.packs.index import Index, spot_of
from tiered.clients.files.packs.lanes import Cell, SeenLanes
from tiered.clients.files.packs.records import Record, unpack_record

__all__ = ["PackFigures", "SeenPacks", "SeenRecord"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_ATTEMPTS: Final = 4


class SeenRecord(NamedTuple):
    """A small value.

    Attributes:
        record: as it lies there, unverified.
        pack: the name of the file that it lies in.
        size: bytes that it takes.
        used: when it was last used, by the clock of accesses.
    """

    record: Record
    pack: str
    size: int
    used: int


class PackFigures(NamedTuple):
    """What packs take together, in bytes, as it is counted.

    Attributes:
        packs: how many there are.
        data: of all of them.
        dead: of these, what is of no key any more.
        indexes: beside them.
    """

    packs: int
    data: int
    dead: int
    indexes: int


class SeenPacks:
    """Reads the packs of a directory.

    Args:
        root: the open directory.

    Raises:
        OSError: as :class:`SeenLanes`; ``FileNotFoundError`` if there are no packs.
    """

    def __init__(self, root: int) -> None:
        self._lanes = SeenLanes(root)
        self._directory = os.open(PACKS, _DIRECTORY, dir_fd=root)

    def close(self) -> None:
        """Close the directory of packs."""
        os.close(self._directory)

    @property
    def figures(self) -> PackFigures:
        """What is counted."""
        lanes = self._lanes
        there = lanes.numbers > 0
        data = int(lanes.sizes[there].sum())
        return PackFigures(
            int(there.sum()), data, int(lanes.dead[there].sum()), max(lanes.used - data, 0)
        )

    def find(self, place: Place) -> SeenRecord | None:
        """What is held for a key, or for another one with the same tag."""
        lane = self._lanes.of(place)
        for _ in range(_ATTEMPTS):
            index = self._index(lane)
            at = -1 if index is None else index.find(place.tag)
            if index is None or at < 0 or not (packed := index.cells[at + 1]):
                return None
            spot, used = spot_of(packed), index.cells[at + 2]
            name = pack_name(lane, spot.pack)
            record = unpack_record(self._read(name, spot.start, spot.length))
            if record is not None:
                return SeenRecord(record, name, spot.length, used)
            # Perhaps it was moved just now.
        return None

    def records(self, done: Callable[[int], object]) -> Iterator[SeenRecord]:
        """All that there is; *done* is called with the number of lanes read, after each."""
        for lane in range(LANES):
            index = self._index(lane)
            for pack in () if index is None else self._lanes.packs(lane):
                yield from self._records_in(lane, pack, index)
            done(lane + 1)

    def _records_in(self, lane: int, pack: int, index: Index | None) -> Iterator[SeenRecord]:
        assert index is not None
        places = index.lying_in(pack)
        found = zip(index.spots[places].tolist(), index.ticks[places].tolist(), strict=True)
        name = pack_name(lane, pack)
        data = memoryview(self._read(name, 0, self._lanes.pack))
        for packed, used in found:
            spot = spot_of(packed)
            record = unpack_record(data[spot.start : spot.start + spot.length])
            if record is not None and spot.pack == pack:
                yield SeenRecord(record, name, spot.length, used)

    def _index(self, lane: int) -> Index | None:
        for _ in range(_ATTEMPTS):
            number = self._lanes.get(lane, Cell.INDEX)
            if not number:
                return None
            try:
                descriptor = os.open(index_name(lane, number), _READ, dir_fd=self._directory)
            except FileNotFoundError:
                continue  # a larger one has taken its place
            try:
                return Index(descriptor, number, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
        return None

    def _read(self, name: str, start: int, length: int) -> bytes:
        try:
            descriptor = os.open(name, _READ, dir_fd=self._directory)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)
