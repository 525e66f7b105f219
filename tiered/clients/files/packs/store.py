"""Small values of an open directory, one at a time: found, written, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np

from tiered.clients.files.counts import Counts
from tiered.clients.files.locks import Locks
from tiered.clients.files.names import LANES, Place
from tiered.clients.files.packs.index import Index, Spot, spot_of
from tiered.clients.files.packs.lanes import PACKED_UP_TO, Cell, Lanes
from tiered.clients.files.packs.records import HEAD, Record, unpack_record
from tiered.clients.files.packs.stock import Stock

__all__ = ["Found", "Packs"]

_ATTEMPTS: Final = 4


class Found(NamedTuple):
    """What lies where the index says that a key's value lies.

    Attributes:
        spot: where.
        record: ``None`` if it is damaged.
    """

    spot: Spot
    record: Record | None


class Packs(Stock):
    """Small values of a directory, and the packs that they lie in.

    Args:
        directory, lanes, counts, mode: as of :class:`Stock`.
        locks: of the whole directory.
        size: bytes that the directory is to hold.

    Attributes:
        limit: bytes that a record may have; 0 if nothing is packed.

    Threads: safe, but for what asks for a lane's lock.
    """

    def __init__(
        self,
        directory: int,
        lanes: Lanes,
        counts: Counts,
        locks: Locks,
        *,
        mode: int,
        size: int,
    ) -> None:
        super().__init__(directory, lanes, counts, mode=mode)
        # Packs may have been laid out for somebody with more room, who would leave us none.
        fits = lanes.pack * LANES <= size // 2
        self.limit: Final = min(PACKED_UP_TO, lanes.pack // 4) if fits else 0
        self._counts = counts
        self._locks = locks

    # -- Reading -----------------------------------------------------------------

    def find(self, place: Place) -> Found | None:
        """What is held for a key, or for another one with the same tag. No lock is needed."""
        lane = self.lanes.of(place)
        found: Found | None = None
        for _ in range(_ATTEMPTS):
            index = self._index(lane)
            at = -1 if index is None else index.find(place.tag)
            if index is None or at < 0 or not (packed := index.cells[at + 1]):
                return None
            spot = spot_of(packed)
            record = unpack_record(self.files.read(lane, spot.pack, spot.start, spot.length))
            found = Found(spot, record)
            if record is not None:
                index.cells[at + 2] = self._counts.tick()
                return found
            # Perhaps it was moved or removed just now; or the file was, by somebody.
            self.files.forget(lane, spot.pack)
        return found

    def records(self, lane: int) -> Iterator[Found]:
        """All that a lane holds, as of when it is come to; each pack is read in one piece."""
        index = self._index(lane)
        if index is None:
            return
        for pack in self.lanes.packs(lane):
            spots = index.spots[index.lying_in(pack)]
            data = memoryview(self.files.read(lane, pack, 0, self.lanes.pack))
            for packed in np.sort(spots).tolist():
                spot = spot_of(packed)
                record = unpack_record(data[spot.start : spot.start + spot.length])
                if record is not None:
                    yield Found(spot, record)

    def holds(self, lane: int, found: Found) -> bool:
        """Whether what was found in a lane is what a reader of its key finds."""
        index, record = self._index(lane), found.record
        if index is None or record is None:
            return False
        at = index.find(Place.of(record.name).tag)
        return at >= 0 and index.cells[at + 1] == found.spot.packed

    # -- Writing -----------------------------------------------------------------

    def write(
        self,
        place: Place,
        record: bytes,
        *,
        room: Callable[[], bool],
        allows: Callable[[], bool],
        apart: Callable[[], Callable[[], object] | None] = lambda: None,
        now: float,
    ) -> bool:
        """Hold *record*, which is not above :attr:`limit`; whether it does.

        Args:
            room: makes room for what is reserved, and says whether there is.
            allows: is asked under the lane's lock; what it does there is in one step with the
                write.
            apart: gives what removes the file that the key's value has, ``None`` if it has none.
            now: the time, in the terms of files.
        """
        lane = self.lanes.of(place)
        while True:
            with self._locks.lane(lane):
                growth = self._growth(lane)
                if not growth and self._has_room(lane, len(record)):
                    if not allows():
                        return False
                    discard = apart()
                    if discard is None:
                        self._append(lane, place.tag, record)
                        return True
                    with self.moving(lane):
                        discard()
                        self._append(lane, place.tag, record)
                    return True
            if not self._add_room(lane, len(record), growth, room, now):
                return False

    def remove(self, place: Place) -> bool:
        """Forget a key, whose lane's lock is held; whether it was there."""
        lane = self.lanes.of(place)
        cell = self._cell(lane, place.tag)
        if cell is None:
            return False
        index, at = cell
        with self.changing(lane):
            packed = index.cells[at]
            index.cells[at] = 0
            self._died(lane, packed)
        return True

    @contextmanager
    def leaving(self, place: Place) -> Iterator[None]:
        """Forget a key for what is put into a file of its own in here; its lock is held."""
        lane = self.lanes.of(place)
        if self._cell(lane, place.tag) is None:
            yield
            return
        with self.moving(lane):
            self.remove(place)  # found anew, as the lane may have been put right
            yield

    def _cell(self, lane: int, tag: int) -> tuple[Index, int] | None:
        """The index, and where in its cells the spot of a value is; ``None`` if there is none."""
        index = self.index(lane)
        at = -1 if index is None else index.find(tag)
        if index is None or at < 0 or not index.cells[at + 1]:
            return None
        return index, at + 1

    def rewrite(self, place: Place, spot: Spot, record: Record, head: bytes) -> None:
        """Let the envelope of *record*, which lies at *spot*, begin with *head*, in place.

        The lane's lock is held. Raises ``OSError``.
        """
        # In one call, and as little as there is to change: nothing lies between old and new.
        start = spot.start + HEAD + len(record.name)
        self.files.write(self.lanes.of(place), spot.pack, start, head)

    def _append(self, lane: int, tag: int, record: bytes) -> None:
        lanes = self.lanes
        if self.fast is not None and (emptied := self.fast.append(lane, tag, record)) >= 0:
            if emptied:
                with self.changing(lane):
                    self._drop(lane, spot_of(emptied).pack)
            return
        with self.changing(lane):
            index = self._index_to_write(lane)
            pack, tail = lanes.get(lane, Cell.ACTIVE), lanes.get(lane, Cell.TAIL)
            self._put(lane, pack, tail, record)
            spot = Spot(pack, tail, len(record)).packed
            before = index.point(tag, spot, self._counts.tick())
            if before:
                self._died(lane, before)

    def _add_room(
        self, lane: int, size: int, growth: int, room: Callable[[], bool], now: float
    ) -> bool:
        reserved = self.lanes.pack + growth
        self._counts.begin(reserved)
        try:
            if not room():
                return False
            with self._locks.lane(lane), self.changing(lane):
                if not self._has_room(lane, size):
                    self._open_pack(lane)
                self._index_to_write(lane)
        finally:
            self._counts.end(reserved, 0, now)
        return True
