"""Shared memory of the processes that use a directory: what is in use, and when it was used.

Each process adds to numbers of its own, in its *slot*, so that nobody waits for anybody; what
is in use is the sum over all slots. A slot belongs to who holds its lock, and passes on, with
its numbers, when that one ends. Between the beginning and the end of a write the numbers of
these two differ: so it is known of a process that was killed whether its numbers are right, and
only then the files need to be counted again.

Beside the slots lies a table of the times of last access, by the clock of accesses that all
processes advance. Several keys may share an entry of it: eviction is no exact science.

::

    page 0      figures of the whole (see ``_Figure``), 64 bits each
    page 1 ...  rows of slots, one for each of ``_Row``
    then        the table of accesses

All are native numbers: the file is of use to one host, and made anew by another kind of machine.
"""

from __future__ import annotations

import mmap
import os
import random
import secrets
import stat
import struct
import threading
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from tiered.clients.files.locks import Locks
from tiered.clients.files.names import COUNTS
from tiered.clients.files.sharing import replace_file
from tiered.clients.files.times import run_of
from tiered.typing import Clock

__all__ = ["Counts", "SeenCounts"]

_MAGIC: Final = int.from_bytes(b"tieredF1", "little")
_SLOTS: Final = 1024
"""Processes that can use a directory at a time."""
_PAGE: Final = 4096
_FEWEST_STAMPS, _MOST_STAMPS = 1 << 10, 1 << 17
_BYTES_A_STAMP: Final = 4096
_NUMBER: Final = struct.Struct("d")
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class _Figure(IntEnum):
    MAGIC = 0
    STAMPS = 1  # how many the table of accesses has
    DOUBT = 2  # whether a process ended in the middle of a write
    DRIFT = 3  # what a scan found beside what the slots say, in bytes
    TICK = 4  # the clock of accesses
    RUN = 5  # of the clock by which BASE was set
    BASE = 6  # wall clock less monotonic clock, a float
    LATEST = 7  # the time of the last write, a float
    CAPACITY = 8  # bytes, as of who last made room


class _Row(IntEnum):
    OWNER = 0  # a random number, new for each owner of a slot
    BYTES = 1  # in use, of what this slot's owners wrote and removed
    RESERVED = 2  # for what is being written
    BEGAN = 3  # writes
    ENDED = 4  # writes


class Counts:
    """The shared memory of a directory, and this process's slot in it.

    Args:
        root: the open directory.
        locks: of the directory; the setting up is locked by who makes this.
        size: bytes that the directory is to hold; decides how large a new table is.
        mode: who may open a file that is made.
        clock: of the client.

    Attributes:
        owner: who we are to the other processes.
        slot: ours.
        base: to be added to a time of *clock*'s monotonic one, to tell it in a file.
        descriptor: of the file, for the owner of this object to close.

    Raises:
        OSError: no room, no right, no free slot.

    Threads: safe.
    """

    def __init__(self, root: int, locks: Locks, size: int, mode: int, clock: Clock) -> None:
        self._locks = locks
        self._guard = threading.Lock()
        self.descriptor, fresh = _opened(root, _stamps_for(size), mode)
        try:
            self._map(fresh, clock)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _map(self, fresh: bool, clock: Clock) -> None:
        shared = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        self._cells: memoryview[int] = memoryview(shared).cast("q")
        self._times = memoryview(shared).cast("d")
        self._rows: npt.NDArray[np.int64] = np.ndarray(
            (len(_Row), _SLOTS), np.int64, buffer=shared, offset=_PAGE
        )
        self._plans = self._rows[_Row.BYTES : _Row.RESERVED + 1].reshape(-1)
        stamps = self._cells[_Figure.STAMPS]
        self._first_stamp = (_PAGE + len(_Row) * _SLOTS * 8) // 8
        self._stamps: npt.NDArray[np.int64] = np.ndarray(
            stamps, np.int64, buffer=shared, offset=self._first_stamp * 8
        )
        self._mask = stamps - 1
        self.base = self._settled_base(clock)
        self.slot = self._taken_slot()
        self.owner = secrets.randbits(62) | 1
        self._set(_Row.OWNER, self.owner)
        if fresh:
            self.doubt()

    # -- What is in use ----------------------------------------------------------

    @property
    def used(self) -> int:
        """Bytes of all files, as far as is known."""
        return _in_64_bits(int(self._rows[_Row.BYTES].sum()) + self._cells[_Figure.DRIFT])

    @property
    def planned(self) -> int:
        """The same, and what is being written."""
        return _in_64_bits(int(self._plans.sum()) + self._cells[_Figure.DRIFT])

    def begin(self, reserved: int) -> None:
        """A write begins, of *reserved* bytes or of none."""
        with self._guard:
            self._add(_Row.BEGAN, 1)
            self._add(_Row.RESERVED, reserved)

    def end(self, reserved: int, change: int, now: float) -> None:
        """It has ended, and has changed what is in use by *change* bytes."""
        with self._guard:
            self._add(_Row.BYTES, change)
            self._add(_Row.RESERVED, -reserved)
            self._add(_Row.ENDED, 1)
        self._times[_LATEST] = max(self._times[_LATEST], now)

    def correct(self, drift: int) -> None:
        """Files take *drift* bytes more than was counted."""
        self._cells[_Figure.DRIFT] = _in_64_bits(self._cells[_Figure.DRIFT] + drift)

    def bound(self, capacity: int) -> None:
        """The files are kept within *capacity* bytes; for who looks at them."""
        self._cells[_CAPACITY] = capacity

    # -- Doubts ------------------------------------------------------------------

    @property
    def doubtful(self) -> bool:
        """Whether the files need to be counted."""
        return self._cells[_Figure.DOUBT] != 0

    def doubt(self) -> None:
        """The files need to be counted."""
        self._cells[_Figure.DOUBT] = 1

    def trust(self) -> None:
        """They have been."""
        self._cells[_Figure.DOUBT] = 0

    def bury(self) -> None:
        """Take over what was reserved by processes that ended in the middle of a write."""
        rows = self._rows
        # What nobody writes must not be reserved either, however that came about.
        unsettled = (rows[_Row.BEGAN] != rows[_Row.ENDED]) | (rows[_Row.RESERVED] != 0)
        for slot in np.flatnonzero(unsettled).tolist():
            if slot != self.slot and self._locks.take_slot(slot):
                try:
                    self._settle(slot)
                finally:
                    self._locks.drop_slot(slot)

    def is_alive(self, owner: int, slot: int | None = None) -> bool:
        """Whether the process that is, or was, *owner* of a slot still runs."""
        if owner == self.owner:
            return True
        if slot is None:
            found = np.flatnonzero(self._rows[_Row.OWNER] == owner)
            if not len(found):
                return False
            slot = int(found[0])
        if not 0 <= slot < _SLOTS or int(self._rows[_Row.OWNER, slot]) != owner:
            return False
        return self._locks.has_owner(slot)

    # -- Accesses ----------------------------------------------------------------

    def touch(self, stamp: int) -> None:
        """What has *stamp* is used now."""
        self._cells[self._first_stamp + (stamp & self._mask)] = self.tick()

    @property
    def clock_of_accesses(self) -> tuple[memoryview[int], int]:
        """Shared memory, and where in it the last tick is."""
        return self._cells, _TICK

    def tick(self) -> int:
        """The time of an access; each is later than those before it."""
        cells = self._cells
        # Two processes may get the same one: then they were there at the same time.
        cells[_TICK] = tick = (cells[_TICK] + 1) & _LATEST_TICK
        return tick

    def last_used(self, stamp: int) -> int:
        """When what has *stamp* was last used."""
        return self._cells[self._first_stamp + (stamp & self._mask)]

    # -- Parts -------------------------------------------------------------------

    def _settled_base(self, clock: Clock) -> float:
        cells, times = self._cells, self._times
        own = clock.wall() - clock.monotonic()
        run = run_of(clock)
        if run and cells[_Figure.RUN] == run:
            return times[_Figure.BASE]
        owners = np.flatnonzero(self._rows[_Row.OWNER]).tolist()
        if any(self._locks.has_owner(slot) for slot in owners):
            return own  # processes with another clock are at work, and go by that
        # The first one since the machine started. Time does not go back.
        base = max(own, times[_Figure.LATEST] - clock.monotonic())
        cells[_Figure.RUN] = run
        times[_Figure.BASE] = base
        return base

    def _taken_slot(self) -> int:
        start = random.randrange(_SLOTS)  # noqa: S311
        for number in range(_SLOTS):
            slot = (start + number) % _SLOTS
            if self._locks.take_slot(slot):
                self._settle(slot)
                return slot
        raise OSError(f"{_SLOTS} processes use the directory, which are as many as can")

    def _settle(self, slot: int) -> None:
        rows = self._rows
        if rows[_Row.BEGAN, slot] != rows[_Row.ENDED, slot]:
            # It may be in place or not; too much is on the safe side until files are counted.
            rows[_Row.BYTES, slot] += rows[_Row.RESERVED, slot]
            rows[_Row.ENDED, slot] = rows[_Row.BEGAN, slot]
            self.doubt()
        rows[_Row.RESERVED, slot] = 0
        rows[_Row.OWNER, slot] = 0

    def _set(self, row: _Row, value: int) -> None:
        self._rows[row, self.slot] = value

    def _add(self, row: int, value: int) -> None:
        cells, at = self._cells, _PAGE // 8 + row * _SLOTS + self.slot
        cells[at] = _in_64_bits(cells[at] + value)


def _in_64_bits(value: int) -> int:
    """What is damaged may be any number, and a sum of two be too large: it begins anew, then."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


_LATEST_TICK: Final = (1 << 62) - 1
_TICK: Final = int(_Figure.TICK)
_LATEST: Final = int(_Figure.LATEST)
_CAPACITY: Final = int(_Figure.CAPACITY)


class SeenCounts:
    """What the shared memory said when it was looked at: no slot is taken for that, nor a lock.

    Args:
        root: the open directory.
        clock: for times of this process.

    Attributes:
        used: bytes of all values that have files of their own.
        capacity: bytes, as of the process that last made room; 0 if none has.
        base: as of :class:`Counts`.

    Raises:
        OSError: no right, or the file is of another format.
    """

    def __init__(self, root: int, clock: Clock) -> None:
        descriptor = os.open(COUNTS, _LOOK, dir_fd=root)
        try:
            if not _is_sound(descriptor):
                raise OSError(f"the file {COUNTS!r} is of another format")
            data = memoryview(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        finally:
            os.close(descriptor)
        cells, times = data.cast("q"), data.cast("d")
        start = (_PAGE // 8) + _Row.BYTES * _SLOTS
        self.used: Final[int] = sum(cells[start : start + _SLOTS]) + cells[_Figure.DRIFT]
        self.capacity: Final[int] = cells[_CAPACITY]
        self._stamps: Final = cells[(_PAGE + len(_Row) * _SLOTS * 8) // 8 :]
        own = max(clock.wall(), times[_LATEST]) - clock.monotonic()
        run = run_of(clock)
        known = run != 0 and cells[_Figure.RUN] == run
        self.base: Final[float] = times[_Figure.BASE] if known else own

    def last_used(self, stamp: int) -> int:
        """When what has *stamp* was last used, by the clock of accesses."""
        return self._stamps[stamp & len(self._stamps) - 1]


def _stamps_for(size: int) -> int:
    wanted = min(max(size // _BYTES_A_STAMP, _FEWEST_STAMPS), _MOST_STAMPS)
    return 1 << (wanted - 1).bit_length()


def _length(stamps: int) -> int:
    return _PAGE + (len(_Row) * _SLOTS + stamps) * 8


def _opened(root: int, stamps: int, mode: int) -> tuple[int, bool]:
    """The file, and whether it is a new one."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(COUNTS, flags, dir_fd=root)
    except FileNotFoundError:
        return _made(root, stamps, mode), True
    if _is_sound(descriptor):
        return descriptor, False
    # Not written to: another process may have mapped it, and would be killed by a shorter one.
    os.close(descriptor)
    return _made(root, stamps, mode), True


def _is_sound(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < _PAGE:
        return False
    magic, stamps = struct.unpack("qq", os.pread(descriptor, 16, 0))
    return (
        magic == _MAGIC
        and _FEWEST_STAMPS <= stamps <= _MOST_STAMPS
        and stamps & (stamps - 1) == 0
        and status.st_size == _length(stamps)
    )


def _made(root: int, stamps: int, mode: int) -> int:
    head = struct.pack("qq", _MAGIC, stamps)
    return replace_file(root, COUNTS, mode, _length(stamps), head)
