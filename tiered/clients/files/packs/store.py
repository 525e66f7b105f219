"""The packs of an open directory: values in them are found, written, moved and removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tiered.acceleration import core
from tiered.clients.files.counts import Counts
from tiered.clients.files.locks import Locks
from tiered.clients.files.names import LANES, Place, index_name, pack_name, pack_of
from tiered.clients.files.packs.files import OpenFile, PackFiles
from tiered.clients.files.packs.index import (
    DamagedIndex,
    Index,
    Spot,
    index_size,
    lengths_of,
    packs_of,
    spot_of,
)
from tiered.clients.files.packs.lanes import PACKED_UP_TO, Cell, Lanes
from tiered.clients.files.packs.records import HEAD, Record, unpack_record
from tiered.entry import Entry

__all__ = ["Found", "Packs"]

_ATTEMPTS: Final = 4


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


class Found(NamedTuple):
    """What lies where the index says that a key's value lies.

    Attributes:
        spot: where.
        record: ``None`` if it is damaged.
    """

    spot: Spot
    record: Record | None


class Packs:
    """Small values of a directory.

    What changes something needs the lock of the key's lane, and is told in the lane's ``BUSY``
    cell: who finds that set, and has the lock, comes after somebody who was killed in the middle
    of it, and puts the lane's figures right.

    Args:
        directory: open, with the packs in it.
        lanes: shared memory that tells which there are.
        counts: for the clock of accesses, and what is reserved.
        locks: of the whole directory.
        mode: who may open files that are made.
        size: bytes that the directory is to hold.

    Attributes:
        files: the packs themselves.
        limit: bytes that a record may have; 0 if nothing is packed.
        fast: reads and writes in the usual case, if the compiled core is in use.

    Threads: safe.
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
        self.lanes: Final = lanes
        # Packs may have been laid out for somebody with more room, who would leave us none.
        fits = lanes.pack * LANES <= size // 2
        self.limit: Final = min(PACKED_UP_TO, lanes.pack // 4) if fits else 0
        self._directory = directory
        self._counts = counts
        self._locks = locks
        self._mode = mode
        self.fast: Final[PackAccess | None] = (
            None
            if core is None
            else core.PackAccess(lanes.cells, lanes.slots, lanes.pack, *counts.clock_of_accesses)
        )
        kept = {} if self.fast is None else self.fast.files
        self.files = PackFiles(directory, lanes, kept)
        self._indexes: list[Index | None] = [None] * LANES

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

    def spots(self, lane: int) -> list[int]:
        """Where a lane's values lie, each as one number (see :attr:`Spot.packed`)."""
        index = self._index(lane)
        return [] if index is None else index.spots[index.living()].tolist()

    def count(self, lane: int) -> int:
        """How many values a lane holds."""
        index = self._index(lane)
        return 0 if index is None else len(index.living())

    def measured(self, lane: int) -> int:
        """Bytes that a lane takes, whatever was counted."""
        lanes, index = self.lanes, self._index(lane)
        active, total = lanes.get(lane, Cell.ACTIVE), 0 if index is None else index.size
        for pack in lanes.packs(lane):
            size = self.files.size(lane, pack)
            total += min(size, lanes.get(lane, Cell.TAIL)) if pack == active else size
        return total

    def look_again(self) -> None:
        """Take files for what they are now, as a process does that comes just now."""
        self._indexes[:] = [None] * LANES
        self.files.forget_all()

    def is_lost(self, lane: int) -> bool:
        """Whether a lane's index is damaged or gone."""
        try:
            return self._index(lane) is None and self.lanes.get(lane, Cell.INDEX) > 0
        except DamagedIndex:
            return True

    def holds(self, lane: int, found: Found) -> bool:
        """Whether what was found in a lane is what a reader of its key finds."""
        index, record = self._index(lane), found.record
        if index is None or record is None:
            return False
        at = index.find(Place.of(record.name).tag)
        return at >= 0 and index.cells[at + 1] == found.spot.packed

    def strays(self, lane: int, names: Iterable[str]) -> list[str]:
        """Which of *names* are of files that were of a lane, and are not any more."""
        lanes, strays = self.lanes, []
        for name in names:
            known = pack_of(name)
            if known is None or known[0] != lane:
                continue
            _, number, is_index = known
            if not (lanes.get(lane, Cell.INDEX) == number if is_index else lanes.has(lane, number)):
                strays.append(name)
        return strays

    # -- Writing, one value at a time --------------------------------------------

    def write(
        self,
        place: Place,
        record: bytes,
        *,
        room: Callable[[], bool],
        allows: Callable[[], bool],
        now: float,
    ) -> bool:
        """Hold *record*, which is not above :attr:`limit`; whether it does.

        Args:
            room: makes room for what is reserved, and says whether there is.
            allows: is asked under the lane's lock; what it does there is in one step with the
                write.
            now: the time, in the terms of files.
        """
        lane = self.lanes.of(place)
        while True:
            with self._locks.lane(lane):
                if self._has_room(lane, len(record)) and not self._growth(lane):
                    if not allows():
                        return False
                    self._append(lane, place.tag, record)
                    return True
                growth = self._growth(lane)
            if not self._add_room(lane, len(record), growth, room, now):
                return False

    def remove(self, place: Place) -> bool:
        """Forget a key, whose lane's lock is held; whether it was there."""
        lane = self.lanes.of(place)
        index = self.index(lane)
        at = -1 if index is None else index.find(place.tag)
        if index is None or at < 0 or not index.cells[at + 1]:
            return False
        self._begin(lane)
        packed = index.cells[at + 1]
        index.cells[at + 1] = 0
        self._died(lane, packed)
        self._end(lane)
        return True

    def rewrite(self, place: Place, spot: Spot, record: Record, head: bytes) -> None:
        """Let the envelope of *record*, which lies at *spot*, begin with *head*, in place.

        The lane's lock is held. Raises ``OSError``.
        """
        # In one call, and as little as there is to change: nothing lies between old and new.
        start = spot.start + HEAD + len(record.name)
        self.files.write(self.lanes.of(place), spot.pack, start, head)

    # -- Whole packs, with the lane's lock held ----------------------------------

    def keep(self, lane: int, pack: int, places: npt.NDArray[np.intp]) -> int:
        """Remove a full pack, but for the values of *places* in the index; how many are gone.

        Those are moved. *places* may be all of them, or have some that lie elsewhere by now.
        """
        self._begin(lane)
        index, lanes = self.index(lane), self.lanes
        lost = 0
        if lanes.has(lane, pack) and lanes.get(lane, Cell.ACTIVE) != pack:
            if index is not None:
                inside = index.lying_in(pack)
                lost = len(inside) - self._moved(lane, index, pack, np.intersect1d(inside, places))
            self._lose(lane, pack)
        self._end(lane)
        return lost

    def close(self, lane: int) -> int | None:
        """Append no more to the pack that was appended to; its number, ``None`` if none was."""
        self._begin(lane)
        pack = self.lanes.get(lane, Cell.ACTIVE)
        self.lanes.set(lane, Cell.ACTIVE, 0)
        self._end(lane)
        return pack or None

    def clear(self, lane: int) -> int:
        """Forget everything in a lane; how many values there were."""
        self.lanes.set(lane, Cell.BUSY, 1)
        number = self.lanes.get(lane, Cell.INDEX)
        try:
            count = self.count(lane)
        except DamagedIndex:
            count = 0
        # First what readers look at.
        self.lanes.set(lane, Cell.INDEX, 0)
        self._indexes[lane] = None
        self.lanes.set(lane, Cell.ACTIVE, 0)
        for pack in self.lanes.packs(lane):
            self._drop(lane, pack)
        if number:
            self.files.remove(index_name(lane, number))
        self.lanes.set(lane, Cell.TAIL, 0)
        self.lanes.set(lane, Cell.BYTES, 0)
        self._end(lane)
        return count

    def forget(self, lane: int, spots: list[int]) -> int:
        """Forget what lies at *spots* still; how many there were."""
        index = self._index(lane)
        if index is None or not spots:
            return 0
        self._begin(lane)
        places = np.flatnonzero(np.isin(index.spots, np.array(spots, np.uint64)))
        gone = index.spots[places].tolist()
        index.spots[places] = 0
        for packed in gone:
            self._died(lane, packed)
        self._end(lane)
        return len(gone)

    def index(self, lane: int) -> Index | None:
        """The index of a lane, if there is one; what cannot be found any more is forgotten."""
        try:
            index = self._index(lane)
        except DamagedIndex:
            index = None
        if index is None and self.lanes.get(lane, Cell.INDEX):
            # Others may have it mapped still, and would go by it.
            self.clear(lane)
        return index

    def settle(self, lane: int) -> int:
        """Put right what is known of a lane, whose lock is held; bytes that it takes."""
        lanes, index = self.lanes, self.index(lane)
        active, tail = lanes.get(lane, Cell.ACTIVE), lanes.get(lane, Cell.TAIL)
        for pack in lanes.packs(lane):
            size = self.files.trim(lane, pack, tail if pack == active else None)
            lanes.sizes[lane, lanes.slot(pack)] = size or 0
            if size is None:
                lanes.numbers[lane, lanes.slot(pack)] = 0
            if pack == active and size != tail:
                lanes.set(lane, Cell.ACTIVE, 0)  # somebody has cut it
        if not lanes.has(lane, active):
            lanes.set(lane, Cell.ACTIVE, 0)
        lanes.sizes[lane][lanes.numbers[lane] == 0] = 0
        for name in self.strays(lane, self.files.names()):
            self.files.remove(name)
        living = np.zeros(lanes.slots, np.int64)
        if index is not None:
            index.mend()
            packs = packs_of(index.spots)
            index.spots[lanes.numbers[lane][packs % lanes.slots] != packs] = 0
            spots = index.spots[index.living()]
            np.add.at(living, packs_of(spots) % lanes.slots, lengths_of(spots))
        lanes.dead[lane] = np.maximum(lanes.sizes[lane] - living, 0)
        lanes.set(lane, Cell.BYTES, int(lanes.sizes[lane].sum()) + (index.size if index else 0))
        for pack in lanes.packs(lane):
            if pack != lanes.get(lane, Cell.ACTIVE) and lanes.bury(lane, pack, 0):
                self._drop(lane, pack)
        self._end(lane)
        return lanes.get(lane, Cell.BYTES)

    # -- Parts -------------------------------------------------------------------

    def _index(self, lane: int) -> Index | None:
        number = self.lanes.get(lane, Cell.INDEX)
        index = self._indexes[lane]
        if index is not None and index.number == number:
            return index
        if not number:
            return None
        for _ in range(_ATTEMPTS):
            try:
                descriptor = self.files.open(index_name(lane, number))
            except FileNotFoundError:
                later = self.lanes.get(lane, Cell.INDEX)
                if later == number:
                    return None
                number = later
                continue
            try:
                index = Index(descriptor, number)
            finally:
                os.close(descriptor)
            self._attach(lane, index)
            return index
        return None

    def _attach(self, lane: int, index: Index) -> None:
        self._indexes[lane] = index
        if self.fast is not None:
            self.fast.attach(lane, index.number, index.cells)

    def _has_room(self, lane: int, size: int) -> bool:
        lanes = self.lanes
        return lanes.get(lane, Cell.ACTIVE) > 0 and lanes.get(lane, Cell.TAIL) + size <= lanes.pack

    def _append(self, lane: int, tag: int, record: bytes) -> None:
        lanes = self.lanes
        if self.fast is not None and (emptied := self.fast.append(lane, tag, record)) >= 0:
            if emptied:
                self._begin(lane)
                self._drop(lane, spot_of(emptied).pack)
                self._end(lane)
            return
        self._begin(lane)
        index = self._index_to_write(lane)
        pack, tail = lanes.get(lane, Cell.ACTIVE), lanes.get(lane, Cell.TAIL)
        self._put(lane, pack, tail, record)
        spot = Spot(pack, tail, len(record)).packed
        before = index.point(tag, spot, self._counts.tick())
        if before:
            self._died(lane, before)
        self._end(lane)

    def _put(self, lane: int, pack: int, tail: int, data: bytes) -> None:
        try:
            self.files.write(lane, pack, tail, data)
        except FileNotFoundError:
            # Somebody has removed it: what was there is lost.
            self.lanes.set(lane, Cell.ACTIVE, 0)
            raise OSError(errno.ENOENT, "a pack was removed") from None
        except OSError:
            self.files.trim(lane, pack, tail)  # a part may have been written
            raise
        self.lanes.set(lane, Cell.TAIL, tail + len(data))
        self.lanes.grown(lane, pack, len(data))

    def _index_to_write(self, lane: int) -> Index:
        """The index, with room for one more key."""
        index = self.index(lane)
        if index is not None and not index.is_full:
            return index
        lanes = self.lanes
        number = lanes.get(lane, Cell.NEXT) + 1
        name = index_name(lane, number)
        self.files.remove(name)
        wanted = {} if index is None else {"places": index.places_wanted()}
        descriptor = Index.make(self._directory, name, self._mode, **wanted)
        try:
            larger = Index(descriptor, number)
        finally:
            os.close(descriptor)
        if index is not None:
            index.copy_to(larger)
        lanes.set(lane, Cell.NEXT, number)
        lanes.set(lane, Cell.INDEX, number)
        self._attach(lane, larger)
        lanes.add(lane, Cell.BYTES, larger.size)
        if index is not None:
            lanes.add(lane, Cell.BYTES, -index.size)
            self.files.remove(index_name(lane, index.number))
        return larger

    def _growth(self, lane: int) -> int:
        """Bytes of the index that a lane needs before one more key has room; 0 if it has."""
        index = self.index(lane)
        if index is None:
            return index_size()
        return index_size(index.places_wanted()) if index.is_full else 0

    def _add_room(
        self, lane: int, size: int, growth: int, room: Callable[[], bool], now: float
    ) -> bool:
        reserved = self.lanes.pack + growth
        self._counts.begin(reserved)
        try:
            if not room():
                return False
            with self._locks.lane(lane):
                self._begin(lane)
                if not self._has_room(lane, size):
                    self._open_pack(lane)
                self._index_to_write(lane)
                self._end(lane)
        finally:
            self._counts.end(reserved, 0, now)
        return True

    def _open_pack(self, lane: int) -> None:
        """Append to a new pack from now on."""
        lanes = self.lanes
        full = lanes.get(lane, Cell.ACTIVE)
        number = lanes.get(lane, Cell.NEXT) + 1
        for _ in range(lanes.slots):
            if not lanes.numbers[lane, lanes.slot(number)]:
                break
            number += 1
        else:
            oldest = lanes.oldest(lane)
            if oldest is None:
                raise OSError(errno.ENOSPC, "there are too many packs")
            self._lose(lane, oldest)
            # The next one with its slot: a number is never used twice.
            number = lanes.get(lane, Cell.NEXT) + 1
            number += oldest - number & lanes.slots - 1
        self.files.make(pack_name(lane, number), self._mode)
        slot = lanes.slot(number)
        lanes.sizes[lane, slot] = lanes.dead[lane, slot] = 0
        lanes.numbers[lane, slot] = number
        lanes.set(lane, Cell.NEXT, number)
        lanes.set(lane, Cell.ACTIVE, 0)  # the full one must never seem to end at 0
        lanes.set(lane, Cell.TAIL, 0)
        lanes.set(lane, Cell.ACTIVE, number)
        if full and lanes.bury(lane, full, 0):
            self._drop(lane, full)

    def _moved(self, lane: int, index: Index, pack: int, places: npt.NDArray[np.intp]) -> int:
        """Move the values at *places*, which lie in *pack*; how many could be."""
        if not len(places):
            return 0
        data = self.files.read(lane, pack, 0, self.lanes.pack)
        try:
            return self._move(
                lane, index, places[self._ends_of(index.spots[places]) <= len(data)], data
            )
        except OSError:
            return 0  # where there is no room to move them to, they go: to make room

    def _move(self, lane: int, index: Index, places: npt.NDArray[np.intp], data: bytes) -> int:
        """Append the values at *places*, which lie in *data*, again; how many there are."""
        if not len(places):
            return 0
        spots = [spot_of(packed) for packed in index.spots[places].tolist()]
        pieces = [data[spot.start : spot.start + spot.length] for spot in spots]
        size = sum(map(len, pieces))
        if not self._has_room(lane, size):
            self._open_pack(lane)
        pack, tail = self.lanes.get(lane, Cell.ACTIVE), self.lanes.get(lane, Cell.TAIL)
        self._put(lane, pack, tail, b"".join(pieces))
        moved = []
        for spot in spots:
            moved.append(Spot(pack, tail, spot.length).packed)
            tail += spot.length
        index.spots[places] = np.array(moved, np.uint64)
        return len(moved)

    @staticmethod
    def _ends_of(spots: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        ends = [spot.start + spot.length for spot in map(spot_of, spots.tolist())]
        return np.array(ends, np.int64)

    def _died(self, lane: int, packed: int) -> None:
        spot = spot_of(packed)
        active = self.lanes.get(lane, Cell.ACTIVE)
        if self.lanes.bury(lane, spot.pack, spot.length) and spot.pack != active:
            self._drop(lane, spot.pack)

    def _lose(self, lane: int, pack: int) -> None:
        """Remove a pack, and forget what is in it still."""
        index = self.index(lane)
        if index is not None:
            index.spots[index.lying_in(pack)] = 0
        self._drop(lane, pack)

    def _drop(self, lane: int, pack: int) -> None:
        lanes, slot = self.lanes, self.lanes.slot(pack)
        # First the file: who is killed in between leaves none that is not known.
        self.files.discard(lane, pack)
        if not lanes.has(lane, pack):
            return  # it had to go for another one, which has its slot
        lanes.numbers[lane, slot] = 0
        lanes.add(lane, Cell.BYTES, -int(lanes.sizes[lane, slot]))
        lanes.sizes[lane, slot] = lanes.dead[lane, slot] = 0

    def _begin(self, lane: int) -> None:
        if self.lanes.get(lane, Cell.BUSY):
            self.settle(lane)
        self.lanes.set(lane, Cell.BUSY, 1)

    def _end(self, lane: int) -> None:
        self.lanes.set(lane, Cell.BUSY, 0)
