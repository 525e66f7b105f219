"""Shared memory that tells which packs there are, and what is in use by them.

Keys are divided over *lanes*, each with an index and packs of its own: whoever changes
something in a lane holds its lock, so that nothing here is ever written by two at once. Readers
take no lock. A pack that is full is never written to again, but for deadlines; what lies in it
and is of no key any more is *dead*, and goes with the pack.

::

    page 0      what holds for the whole directory, 64 bits each (see ``_Figure``)
    page 1      a row for each lane (see ``Cell``)
    then        for each lane, in SLOTS entries each: numbers of its packs, bytes in them, and
                those of them that are dead; a pack's slot is its number modulo SLOTS
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from tiered.clients.files.names import LANE_BITS, LANES, LANES_FILE, Place, shard_name
from tiered.clients.files.sharing import replace_file

__all__ = ["PACKED_UP_TO", "Cell", "Lanes", "SeenLanes", "Shape"]

_MAGIC: Final = int.from_bytes(b"tieredL1", "little")
_PAGE: Final = 4096

PACKED_UP_TO: Final = 16 * 1024
"""Bytes that a packed value takes at most, with all that is written around it."""

_PACKED_FROM: Final = 16 << 20
"""Bytes of a directory's size from which values are packed: a pack has to be a small part."""

_PACKS: Final = 256
"""How many make a full directory, if it holds small values only."""

_SMALLEST_PACK, _LARGEST_PACK = 64 << 10, 16 << 20


_MANY: Final = 1 << 40
"""Files, where it is not known how many."""

_MOST: Final = 1 << 56
"""What no cell gets above, nor below the negative of it, whatever is found there."""


class Cell:
    """What is known of a lane: the numbers of its cells. No enumeration, for speed.

    Attributes:
        INDEX: the number of its index's file; 0 if there is none.
        ACTIVE: the number of the pack that is appended to; 0 if there is none.
        TAIL: where in it the next value goes.
        BYTES: of all its packs, and of its index.
        FILES: values of its keys that have files of their own; never too few.
        CLAIMS: claims on its keys; never too few.
        BUSY: not 0 if somebody is changing something, or was killed at it; see ``packs.stock``.
        NEXT: the number that the next pack, or index, gets.
    """

    INDEX: Final = 0
    ACTIVE: Final = 1
    TAIL: Final = 2
    BYTES: Final = 3
    FILES: Final = 4
    CLAIMS: Final = 5
    BUSY: Final = 6
    NEXT: Final = 7


_NUMBERS: Final = 1 << 31
"""Above those of packs and indexes."""

_UNIT: Final = 16
"""Bytes that places in packs are counted in."""

_CELLS: Final = 8
"""Of a lane."""


class _Figure(IntEnum):
    MAGIC = 0
    PACK = 1  # bytes that a pack has at most
    SLOTS = 2  # packs that a lane can have


class Shape:
    """How large the packs of a directory are, and how many of them a lane can have.

    Attributes:
        pack: bytes; 0 if nothing is packed.
        slots: a power of two.
    """

    def __init__(self, size: int) -> None:
        if size < _PACKED_FROM:
            self.pack, self.slots = 0, 1
            return
        wanted = min(max(size // _PACKS, _SMALLEST_PACK), _LARGEST_PACK)
        self.pack = wanted // _PAGE * _PAGE
        each = -(-size // (self.pack * LANES))
        self.slots = 1 << (2 * each - 1).bit_length()


class Lanes:
    """The shared memory of a directory's lanes.

    Args:
        root: the open directory; the setting up is locked by who makes this.
        size: bytes that the directory is to hold; decides the shape of a new one.
        mode: who may open a file that is made.
        forget: is called before one is made: to remove packs that nobody knows any more. Who
            has the former memory still finds by that that it is over.

    Attributes:
        cells: eight for each lane, see :class:`Cell`.
        pack: bytes that a pack has at most; 0 if nothing is packed.
        slots: packs that a lane can have.
        numbers, sizes, dead: of the packs in the slots, shape (lanes, slots).
        descriptor: of the file, for the owner of this object to close.

    Raises:
        OSError: no room, no right.

    Threads: to be changed with the lane's lock held.
    """

    def __init__(
        self, root: int, size: int, mode: int, *, forget: Callable[[], object] = lambda: None
    ) -> None:
        self.descriptor = _opened(root, Shape(size), mode, forget)
        try:
            self._map()
        except BaseException:
            os.close(self.descriptor)
            raise

    def _map(self, access: int = mmap.ACCESS_DEFAULT) -> None:
        size = os.fstat(self.descriptor).st_size
        shared = mmap.mmap(self.descriptor, size, access=access)
        self.cells: memoryview[int] = memoryview(shared).cast("q")[_PAGE // 8 :]
        figures = memoryview(shared).cast("q")
        self.pack, self.slots = figures[_Figure.PACK], figures[_Figure.SLOTS]
        self._rows: npt.NDArray[np.int64] = np.ndarray(
            (LANES, _CELLS), np.int64, buffer=shared, offset=_PAGE
        )
        tables: npt.NDArray[np.int64] = np.ndarray(
            (3, LANES, self.slots), np.int64, buffer=shared, offset=2 * _PAGE
        )
        self.numbers, self.sizes, self.dead = tables
        self._table = LANES * self.slots

    @staticmethod
    def of(place: Place) -> int:
        """The lane of a key."""
        return place.shard >> LANE_BITS

    def get(self, lane: int, cell: int) -> int:
        """What is known of *lane*."""
        return self.cells[lane * _CELLS + cell]

    def set(self, lane: int, cell: int, value: int) -> None:
        """Change it."""
        self.cells[lane * _CELLS + cell] = value

    def add(self, lane: int, cell: int, change: int) -> None:
        """Change it by *change*."""
        self._add(lane * _CELLS + cell, change)

    def _add(self, at: int, change: int) -> int:
        cells = self.cells
        # What is damaged may be any number, and a sum of two be too large for a cell.
        cells[at] = changed = min(max(cells[at] + change, -_MOST), _MOST)
        return changed

    # -- Damage ------------------------------------------------------------------

    def is_sound(self, lane: int) -> bool:
        """Whether a lane's cells can be what was written there."""
        numbers = self.get(lane, Cell.INDEX), self.get(lane, Cell.ACTIVE), self.get(lane, Cell.NEXT)
        tail = self.get(lane, Cell.TAIL)
        return (
            min(numbers) >= 0
            and max(numbers) < _NUMBERS
            and 0 <= tail <= max(self.pack, 0)
            and tail % _UNIT == 0
            and 0 <= self.get(lane, Cell.BYTES) < _MOST
        )

    def mend(self, lane: int) -> None:
        """Take what cannot have been written for nothing; the lane's lock is held."""
        row = self.numbers[lane]
        right = (row & self.slots - 1) == np.arange(self.slots)
        row[(row < 0) | (row >= _NUMBERS) | ~right] = 0
        for cell in (Cell.INDEX, Cell.ACTIVE, Cell.NEXT):
            if not 0 <= self.get(lane, cell) < _NUMBERS:
                self.set(lane, cell, 0)
        tail = self.get(lane, Cell.TAIL)
        if not 0 <= tail <= self.pack or tail % _UNIT:
            self.set(lane, Cell.ACTIVE, 0)
            self.set(lane, Cell.TAIL, 0)
        newest = max(int(row.max()), self.get(lane, Cell.INDEX), self.get(lane, Cell.NEXT))
        self.set(lane, Cell.NEXT, newest)
        for cell in (Cell.FILES, Cell.CLAIMS):
            if self.get(lane, cell) < 0:
                self.set(lane, cell, _MANY)  # never too few

    # -- What is in use ----------------------------------------------------------

    @property
    def used(self) -> int:
        """Bytes of all packs and indexes."""
        return int(self._rows[:, Cell.BYTES].sum())

    @property
    def planned(self) -> int:
        """The same, and what can still be appended."""
        rows = self._rows
        active = rows[:, Cell.ACTIVE] > 0
        return self.used + int((self.pack - rows[active, Cell.TAIL]).sum())

    # -- Packs -------------------------------------------------------------------

    def slot(self, pack: int) -> int:
        """Where the figures of the pack with this number are."""
        return pack & self.slots - 1

    def has(self, lane: int, pack: int) -> bool:
        """Whether there is still a pack of this number."""
        return pack > 0 and self.cells[self._at(lane, pack)] == pack

    def grown(self, lane: int, pack: int, change: int) -> None:
        """A pack has got *change* bytes more."""
        self._add(self._at(lane, pack) + self._table, change)
        self.add(lane, Cell.BYTES, change)

    def bury(self, lane: int, pack: int, size: int) -> bool:
        """*size* bytes of a pack are dead; whether all of it is now."""
        at = self._at(lane, pack)
        cells, table = self.cells, self._table
        if cells[at] != pack:
            return False
        return self._add(at + 2 * table, size) >= cells[at + table]

    def _at(self, lane: int, pack: int) -> int:
        return _PAGE // 8 + lane * self.slots + (pack & self.slots - 1)

    def packs(self, lane: int) -> list[int]:
        """The numbers of a lane's packs, oldest first."""
        numbers = self.numbers[lane]
        return sorted(numbers[numbers > 0].tolist())

    def spared(self) -> tuple[int, int, float] | None:
        """The lane, the number and the dead share of the full pack with the largest one."""
        shares = np.where(self._full(), self.dead / np.maximum(self.sizes, 1), -1.0)
        at = int(shares.argmax())
        share = float(shares.flat[at])
        if share < 0.0:
            return None
        return at // self.slots, int(self.numbers.flat[at]), share

    def oldest(self, lane: int) -> int | None:
        """The number of the oldest full pack of a lane."""
        full = self.numbers[lane][self._full()[lane]]
        return int(full.min()) if len(full) else None

    def _full(self) -> npt.NDArray[np.bool_]:
        active: npt.NDArray[np.int64] = self._rows[:, Cell.ACTIVE, None]
        full: npt.NDArray[np.bool_] = np.logical_and(self.numbers > 0, self.numbers != active)
        return full


class SeenLanes(Lanes):
    """The same, for who only looks: nothing is made, and nothing can be changed.

    Args:
        root: the open directory.

    Raises:
        FileNotFoundError: there is none.
        OSError: no right, or the file is of another format.
    """

    def __init__(self, root: int) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self.descriptor = os.open(LANES_FILE, flags, dir_fd=root)
        try:
            if not _is_sound(self.descriptor):
                raise OSError(f"the file {LANES_FILE!r} is of another format")
            self._map(mmap.ACCESS_READ)
        finally:
            os.close(self.descriptor)


def _has_shards(root: int) -> bool:
    return any(name == shard_name(int(name, 16)) for name in os.listdir(root) if _is_hex(name))


def _is_hex(name: str) -> bool:
    try:
        int(name, 16)
    except ValueError:
        return False
    return True


def _length(slots: int) -> int:
    return 2 * _PAGE + 3 * LANES * slots * 8


def _opened(root: int, shape: Shape, mode: int, forget: Callable[[], object]) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(LANES_FILE, flags, dir_fd=root)
    except FileNotFoundError:
        pass
    else:
        if _is_sound(descriptor):
            return descriptor
        # Not written to: another process may have mapped it, and would be killed by a shorter one.
        os.close(descriptor)
    forget()
    return _made(root, shape, mode)


def _is_sound(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < 2 * _PAGE:
        return False
    magic, pack, slots = struct.unpack("qqq", os.pread(descriptor, 24, 0))
    return (
        magic == _MAGIC
        and (pack == 0 or _SMALLEST_PACK <= pack <= _LARGEST_PACK)
        and slots > 0
        and slots & (slots - 1) == 0
        and status.st_size == _length(slots)
    )


def _made(root: int, shape: Shape, mode: int) -> int:
    head = struct.pack("qqq", _MAGIC, shape.pack, shape.slots)
    if _has_shards(root):
        # There may be any number, and it must not get to 0 before a scan finds out.
        row = [0] * _CELLS
        row[Cell.FILES] = row[Cell.CLAIMS] = _MANY
        head = head.ljust(_PAGE, b"\0") + struct.pack(f"{_CELLS}q", *row) * LANES
    return replace_file(root, LANES_FILE, mode, _length(shape.slots), head)
