"""The packs and the index of each lane as a whole: opened, filled, moved, dropped, mended."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt

from tiered.clients.files.counts import Counts
from tiered.clients.files.names import LANES, index_name, pack_name, pack_of
from tiered.clients.files.packs.fast import pack_access
from tiered.clients.files.packs.files import PackFiles
from tiered.clients.files.packs.index import (
    DamagedIndex,
    Index,
    Spot,
    ends_of,
    index_size,
    lengths_of,
    packs_of,
    spot_of,
)
from tiered.clients.files.packs.lanes import Cell, Lanes

__all__ = ["Stock"]

_CHANGING: Final = 1
_MOVING: Final = 2
"""What the cell ``BUSY`` of a lane can be, but 0: see :class:`Stock`."""
_ATTEMPTS: Final = 4
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_PASSING: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR))
"""What is wrong with this process just now, not with the file."""


class Stock:
    """The packs and indexes of a directory.

    What changes something needs the lock of the lane, and is told in the lane's ``BUSY`` cell:
    who finds that set, and has the lock, comes after somebody who was killed in the middle of it,
    and puts the lane's figures right.

    Args:
        directory: open, with the packs in it.
        lanes: shared memory that tells which there are.
        counts: for the clock of accesses.
        mode: who may open files that are made.

    Attributes:
        files: the packs themselves.
        fast: reads and writes values in the usual case, if the compiled core is in use.

    Threads: as said.
    """

    def __init__(self, directory: int, lanes: Lanes, counts: Counts, *, mode: int) -> None:
        self.lanes: Final = lanes
        self.fast: Final = pack_access(lanes, counts)
        self.files = PackFiles(directory, lanes, {} if self.fast is None else self.fast.files)
        self._directory = directory
        self._mode = mode
        self._indexes: list[Index | None] = [None] * LANES
        self._changing = set[int]()

    # -- What there is -----------------------------------------------------------

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

    def count(self, lane: int) -> int:
        """How many values a lane holds."""
        index = self._index(lane)
        return 0 if index is None else len(index.living())

    def spots(self, lane: int) -> list[int]:
        """Where a lane's values lie, each as one number (see :attr:`Spot.packed`)."""
        index = self._index(lane)
        return [] if index is None else index.spots[index.living()].tolist()

    def measured(self, lane: int) -> int:
        """Bytes that a lane takes, whatever was counted."""
        lanes, index = self.lanes, self._index(lane)
        active, total = lanes.get(lane, Cell.ACTIVE), 0 if index is None else index.size
        for pack in lanes.packs(lane):
            size = self.files.size(lane, pack)
            total += min(size, lanes.get(lane, Cell.TAIL)) if pack == active else size
        return total

    def is_lost(self, lane: int) -> bool:
        """Whether a lane's index is damaged or gone."""
        try:
            return self._index(lane) is None and self.lanes.get(lane, Cell.INDEX) > 0
        except DamagedIndex:
            return True

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

    def is_moving(self, lane: int) -> bool:
        """Whether a value may be in neither of its places just now: see :meth:`moving`."""
        return self.lanes.get(lane, Cell.BUSY) == _MOVING

    def look_again(self) -> None:
        """Take files for what they are now, as a process does that comes just now."""
        self._indexes[:] = [None] * LANES
        self.files.forget_all()

    # -- Changes, with the lane's lock held --------------------------------------

    @contextmanager
    def changing(self, lane: int, *, settles: bool = True) -> Iterator[None]:
        """In here a lane is not as it should be; a change in another one is a part of that.

        Who is killed, or fails, in here leaves it to others to put right. *settles*: put right
        what somebody else has left, first.
        """
        if lane in self._changing:
            yield
            return
        lanes = self.lanes
        left = lanes.get(lane, Cell.BUSY) or not lanes.is_sound(lane)
        try:
            self._changing.add(lane)
            lanes.set(lane, Cell.BUSY, _CHANGING)
            if left and settles:
                self._settle(lane)
            yield
            lanes.set(lane, Cell.BUSY, 0)
        finally:
            self._changing.discard(lane)

    @contextmanager
    def moving(self, lane: int) -> Iterator[None]:
        """A change in which a value goes from its pack to a file of its own, or back.

        It must never be in both, or the older would be there when the newer goes. So it is in
        neither for a moment, and readers are told that it is.
        """
        with self.changing(lane):
            self.lanes.set(lane, Cell.BUSY, _MOVING)
            try:
                yield
            finally:
                self.lanes.set(lane, Cell.BUSY, _CHANGING)

    def keep(self, lane: int, pack: int, places: npt.NDArray[np.intp]) -> int:
        """Remove a full pack, but for the values of *places* in the index; how many are gone.

        Those are moved. *places* may be all of them, or have some that lie elsewhere by now.
        """
        with self.changing(lane):
            index, lanes = self.index(lane), self.lanes
            if not lanes.has(lane, pack) or lanes.get(lane, Cell.ACTIVE) == pack:
                return 0
            lost = 0
            if index is not None:
                inside = index.lying_in(pack)
                lost = len(inside) - self._moved(lane, index, pack, np.intersect1d(inside, places))
            self._lose(lane, pack)
            return lost

    def close(self, lane: int) -> int | None:
        """Append no more to the pack that was appended to; its number, ``None`` if none was."""
        with self.changing(lane):
            pack = self.lanes.get(lane, Cell.ACTIVE)
            self.lanes.set(lane, Cell.ACTIVE, 0)
        return pack or None

    def clear(self, lane: int) -> int:
        """Forget everything in a lane; how many values there were."""
        with self.changing(lane):
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
        return count

    def forget(self, lane: int, spots: list[int]) -> int:
        """Forget what lies at *spots* still; how many there were."""
        index = self._index(lane)
        if index is None or not spots:
            return 0
        with self.changing(lane):
            places = np.flatnonzero(np.isin(index.spots, np.array(spots, np.uint64)))
            gone = index.spots[places].tolist()
            index.spots[places] = 0
            for packed in gone:
                self._died(lane, packed)
        return len(gone)

    def settle(self, lane: int) -> int:
        """Put right what is known of a lane, whose lock is held; bytes that it takes."""
        with self.changing(lane, settles=False):
            self._settle(lane)
        return self.lanes.get(lane, Cell.BYTES)

    def _settle(self, lane: int) -> None:
        lanes = self.lanes
        lanes.mend(lane)
        index = self.index(lane)
        active, tail = lanes.get(lane, Cell.ACTIVE), lanes.get(lane, Cell.TAIL)
        for pack in lanes.packs(lane):
            try:
                size = self.files.trim(lane, pack, tail if pack == active else None)
            except OSError as error:
                if error.errno in _PASSING:
                    raise
                size = None  # of no use to us
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

    # -- Indexes -----------------------------------------------------------------

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

    def _index_to_write(self, lane: int) -> Index:
        """The index, with room for one more key."""
        index = self.index(lane)
        if index is not None and not index.is_full:
            return index
        lanes = self.lanes
        number = lanes.get(lane, Cell.NEXT) + 1
        name = index_name(lane, number)
        lanes.set(lane, Cell.NEXT, number)
        self.files.remove(name)
        wanted = {} if index is None else {"places": index.places_wanted()}
        descriptor = Index.make(self._directory, name, self._mode, **wanted)
        try:
            larger = Index(descriptor, number)
        finally:
            os.close(descriptor)
        if index is not None:
            index.copy_to(larger)
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

    # -- Packs -------------------------------------------------------------------

    def _has_room(self, lane: int, size: int) -> bool:
        lanes = self.lanes
        return lanes.get(lane, Cell.ACTIVE) > 0 and lanes.get(lane, Cell.TAIL) + size <= lanes.pack

    def _put(self, lane: int, pack: int, tail: int, data: bytes) -> None:
        try:
            self.files.write(lane, pack, tail, data)
        except OSError as error:
            if error.errno in _FULL:
                self.files.trim(lane, pack, tail)  # a part may have been written
            elif error.errno not in _PASSING:
                # It is gone, or of no use to us: the next write goes to another one.
                self.lanes.set(lane, Cell.ACTIVE, 0)
            raise OSError(error.errno, f"a pack cannot be written: {error}") from error
        self.lanes.set(lane, Cell.TAIL, tail + len(data))
        self.lanes.grown(lane, pack, len(data))

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
        lanes.set(lane, Cell.NEXT, number)  # first: where this one cannot be made, the next can
        self.files.make(pack_name(lane, number), self._mode)
        slot = lanes.slot(number)
        lanes.sizes[lane, slot] = lanes.dead[lane, slot] = 0
        lanes.numbers[lane, slot] = number
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
            whole = places[ends_of(index.spots[places]) <= len(data)]
            return self._move(lane, index, whole, data)
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
