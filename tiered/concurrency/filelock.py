"""Locks on a file, or on one place in it, which end with the process that holds them."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import weakref
from typing import Final

from tiered.concurrency import fork

__all__ = [
    "ByteRangeLock",
    "FileLock",
    "is_range_locked",
    "lock_range",
    "range_flags",
    "unlock_range",
]

_FLOCK: Final = struct.Struct("hhqqi0q")
"""``struct flock``: kind, whence, start, length, process (0)."""
_pack: Final = _FLOCK.pack


class FileLock:
    """``flock`` on an open file of its own, so that it excludes threads as well as processes.

    ``fcntl.lockf`` would not: it belongs to the process, and ends when *any* descriptor of
    the file is closed. A forked child shares the open file, and with it the lock; it closes
    its copy, so that the lock ends when the parent ends.

    Args:
        path: of the file; it is made when the lock is first taken, and never removed.
        mode: who may open the file that is made, less the process's umask.

    Threads: one holder; who shares the object among threads sees to their order.
    """

    def __init__(self, path: str | os.PathLike[str], mode: int = 0o666) -> None:
        self._path = os.fspath(path)
        self._mode = mode
        self._open: set[int] = set()  # the one that is locked, and those being locked
        self._locked: int | None = None
        weakref.finalize(self, _close, self._open)
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Close the copies of the parent's files; unlocking them would unlock the parent's."""
        self._lock = threading.Lock()
        self._locked = None
        _close(self._open)

    def take(self, wait: bool, shared: bool = False) -> bool:
        """Lock the file; ``False`` if somebody else has and we are not to *wait*.

        Args:
            shared: together with others who take it so, but with nobody who does not.

        Raises:
            OSError: the file cannot be opened.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
            self._open.add(descriptor)
            try:
                self._take(descriptor, wait, shared)
                if self._is_current(descriptor):
                    with self._lock:
                        self._locked = descriptor
                    return True
            except BlockingIOError:
                self._give_up(descriptor)
                return False
            except BaseException:
                self._give_up(descriptor)
                raise
            # Somebody has removed the file meanwhile, and others lock another one.
            self._give_up(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def drop(self) -> bool:
        """Unlock; whether it was locked by us."""
        with self._lock:
            descriptor, self._locked = self._locked, None
        if descriptor is None:
            return False
        # Unlocked, not only closed: a child may have a copy that it knows nothing of.
        self._drop(descriptor)
        self._give_up(descriptor)
        return True

    def is_taken(self) -> bool:
        """Whether anybody has it; it is taken for a moment to find out."""
        probe = FileLock(self._path, self._mode)
        return not (probe.take(wait=False) and probe.drop())

    def _give_up(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        os.close(descriptor)

    def _take(self, descriptor: int, wait: bool, shared: bool) -> None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))

    def _drop(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class ByteRangeLock(FileLock):
    """A lock on one byte of a file, which need not be there: any number of them in one file.

    It is of the kind that belongs to the open file, not to the process, and so does the same as
    ``flock``. Neither of the two excludes the other.

    Args:
        place: of the byte; below 2**62.
    """

    def __init__(self, path: str | os.PathLike[str], place: int, mode: int = 0o666) -> None:
        super().__init__(path, mode)
        self._place = place

    def is_taken(self) -> bool:
        """Whether anybody has it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return is_range_locked(descriptor, self._place)
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, wait: bool, shared: bool) -> None:
        lock_range(descriptor, self._place, wait=wait, shared=shared)

    def _drop(self, descriptor: int) -> None:
        unlock_range(descriptor, self._place)


def lock_range(
    descriptor: int, start: int, length: int = 1, *, wait: bool, shared: bool = False
) -> None:
    """Lock *length* bytes for the open file *descriptor*, and whoever has a copy of it.

    Raises:
        BlockingIOError: another open file has one of them locked, and we are not to *wait*.
        OSError: the file system has no such locks.
    """
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    fcntl.fcntl(descriptor, command, _range(shared, start, length))


def unlock_range(descriptor: int, start: int, length: int = 1) -> None:
    """Unlock *length* bytes for the open file *descriptor*."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def range_flags(start: int, length: int = 1) -> tuple[bytes, bytes]:
    """What ``fcntl(descriptor, F_OFD_SETLK, ...)`` takes to lock *length* bytes, or to unlock."""
    return _range(False, start, length), _pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0)


def is_range_locked(descriptor: int, start: int, length: int = 1) -> bool:
    """Whether another open file than *descriptor* has one of *length* bytes locked."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _range(False, start, length))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _range(shared: bool, start: int, length: int) -> bytes:
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    return _pack(kind, os.SEEK_SET, start, length, 0)


def _close(descriptors: set[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
