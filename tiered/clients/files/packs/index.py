"""Where the newest value of each key of a lane lies: a hash table in a mapped file.

It has open addressing, linear probing, and no more than three of four places taken. A place has
three numbers of 64 bits, each written in one step, so that readers need no lock:

- the *tag*, 63 bits of the digest of the key's name, and a 1;
- the *spot* (see :class:`Spot`), 0 for a key that was removed;
- the tick of the last access (see ``counts``).

A reader may meet a place in the middle of a change. So what he finds is a hint only: the value
there tells the whole name of its key. Places are not freed; a full table is replaced by a new
one, which readers learn from the lane's cells.

::

    offset  size  field
         0     8  magic
         8     8  places, a power of two
        16     8  places taken
        64    24  of each place: tag, spot, tick
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tiered.clients.files.sharing import make_file

__all__ = [
    "DamagedIndex",
    "Index",
    "Spot",
    "ends_of",
    "index_size",
    "lengths_of",
    "packs_of",
    "spot_of",
]

_MAGIC: Final = int.from_bytes(b"tieredI1", "little")
_HEAD: Final = 8
"""Numbers before the first place."""

_TAKEN: Final = 2
_FEWEST: Final = 128
_UNIT: Final = 16
"""Bytes that places of values, and their lengths, are counted in."""

_LENGTH_BITS, _START_BITS = 12, 20


class Spot(NamedTuple):
    """Where a value lies.

    Attributes:
        pack: number of the pack, from 1.
        start, length: bytes, multiples of 16.
    """

    pack: int
    start: int
    length: int

    @property
    def packed(self) -> int:
        """As one number, which is never 0."""
        start = self.start // _UNIT << _LENGTH_BITS
        return self.pack << _LENGTH_BITS + _START_BITS | start | self.length // _UNIT


def spot_of(packed: int) -> Spot:
    """What :attr:`Spot.packed` was made from."""
    length = packed & (1 << _LENGTH_BITS) - 1
    start = packed >> _LENGTH_BITS & (1 << _START_BITS) - 1
    return Spot(packed >> _LENGTH_BITS + _START_BITS, start * _UNIT, length * _UNIT)


class DamagedIndex(OSError):
    """A file is no index, or not all of one."""


class Index:
    """The index of a lane, mapped.

    Args:
        descriptor: of the open file; it can be closed afterwards.
        number: of the file.
        access: how it is mapped; ``mmap.ACCESS_READ`` for who only looks.

    Raises:
        DamagedIndex: the file is none.
        OSError: it cannot be mapped.

    Threads: reading is safe at any time; all else needs the lane's lock.
    """

    def __init__(self, descriptor: int, number: int, *, access: int = mmap.ACCESS_DEFAULT) -> None:
        self.number = number
        status = os.fstat(descriptor)
        head = os.pread(descriptor, 24, 0)
        places: int
        if not stat.S_ISREG(status.st_mode) or len(head) < 24:
            raise DamagedIndex("an index is of another format")
        magic, places, _ = struct.unpack("QQQ", head)
        self.size = index_size(places) if 0 < places < 1 << 40 else 0
        if magic != _MAGIC or places & (places - 1) or status.st_size != self.size:
            raise DamagedIndex("an index is of another format")
        shared = mmap.mmap(descriptor, self.size, access=access)
        self.cells = memoryview(shared).cast("Q")
        self.mask: Final[int] = places - 1
        self._places: npt.NDArray[np.uint64] = np.ndarray(
            (places, 3), np.uint64, buffer=shared, offset=_HEAD * 8
        )

    @staticmethod
    def make(directory: int, name: str, mode: int, *, places: int = _FEWEST) -> int:
        """A new file that is an empty index, open. Raises ``OSError``."""
        head = struct.pack("QQQ", _MAGIC, places, 0)
        return make_file(directory, name, mode, index_size(places), head)

    @property
    def is_full(self) -> bool:
        """Whether a key that is not there has to wait for a larger index."""
        return self.cells[_TAKEN] * 4 >= (self.mask + 1) * 3

    def find(self, tag: int) -> int:
        """Where in :attr:`cells` the key's place begins; -1 if it has none."""
        cells, mask = self.cells, self.mask
        at = tag >> 1
        for _ in range(mask + 1):
            here = _HEAD + (at & mask) * 3
            found = cells[here]
            if found == tag:
                return here
            if not found:
                return -1
            at += 1
        return -1

    def point(self, tag: int, spot: int, tick: int) -> int:
        """Let the key's place be *spot*; which was there before, or 0.

        A key that is new must have room: see :attr:`is_full`. Raises ``OSError`` if it has not.
        """
        cells, mask = self.cells, self.mask
        here = self.find(tag)
        if here >= 0:
            before = cells[here + 1]
            cells[here + 1] = spot
            cells[here + 2] = tick
            return before
        for at in range(tag >> 1, (tag >> 1) + mask + 1):
            here = _HEAD + (at & mask) * 3
            if not cells[here]:
                break
        else:
            raise OSError(errno.ENOSPC, "an index is full, and says that it is not")
        cells[here + 1] = spot
        cells[here + 2] = tick
        cells[here] = tag  # last: from now on it is found
        cells[_TAKEN] += 1
        return 0

    # -- Many at a time ----------------------------------------------------------

    @property
    def spots(self) -> npt.NDArray[np.uint64]:
        """Of all places, as they are in the file: writing changes them."""
        return self._places[:, 1]

    @property
    def ticks(self) -> npt.NDArray[np.uint64]:
        """Of all places, as they are in the file."""
        return self._places[:, 2]

    def living(self) -> npt.NDArray[np.intp]:
        """The places that have a spot."""
        return np.flatnonzero(self.spots)

    def lying_in(self, pack: int) -> npt.NDArray[np.intp]:
        """The places of keys whose value lies in the pack with this number."""
        return np.flatnonzero(packs_of(self.spots) == pack)

    def copy_to(self, other: Index) -> None:
        """Fill *other*, which is empty and has room, with all that has a spot."""
        places = self._places
        # What has no tag was not finished by somebody who was killed.
        other.fill(places[np.logical_and(places[:, 0] != 0, places[:, 1] != 0)])

    def fill(self, living: npt.NDArray[np.uint64]) -> None:
        """Take in places of another index; this one is empty and has room."""
        home = (living[:, 0] >> np.uint64(1) & np.uint64(self.mask)).astype(np.int64)
        order = np.argsort(home, kind="stable")
        living, home = living[order], home[order]
        steps = np.arange(len(home))
        # Each goes where it belongs, or behind the one before it.
        at = np.maximum.accumulate(home - steps) + steps
        inside = at <= self.mask
        self._places[at[inside]] = living[inside]
        self.cells[_TAKEN] = int(inside.sum())
        for tag, spot, tick in living[~inside].tolist():  # past the end: from the beginning on
            self.point(tag, spot, tick)

    def mend(self) -> None:
        """Put right what is left by somebody who was killed at a change."""
        tags = self._places[:, 0]
        self.spots[tags == 0] = 0
        self.cells[_TAKEN] = int(np.count_nonzero(tags))

    def places_wanted(self) -> int:
        """How many places an index needs that takes the place of this one."""
        return max(_FEWEST, 1 << (int(np.count_nonzero(self.spots)) * 2).bit_length())


def packs_of(spots: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The numbers of the packs that *spots* lie in."""
    return (spots >> np.uint64(_LENGTH_BITS + _START_BITS)).astype(np.int64)


def lengths_of(spots: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The bytes that lie at *spots*."""
    return (spots & np.uint64((1 << _LENGTH_BITS) - 1)).astype(np.int64) * _UNIT


def ends_of(spots: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where in their packs the bytes that lie at *spots* end."""
    starts = spots >> np.uint64(_LENGTH_BITS) & np.uint64((1 << _START_BITS) - 1)
    return starts.astype(np.int64) * _UNIT + lengths_of(spots)


def index_size(places: int = _FEWEST) -> int:
    """The bytes of an index with so many places."""
    return (_HEAD + 3 * places) * 8
