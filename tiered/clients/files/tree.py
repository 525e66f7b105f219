"""An open directory: its shards, locks and counts."""

from __future__ import annotations

import os
import stat
import threading
import weakref
from typing import Final

from tiered.clients.files.counts import Counts
from tiered.clients.files.locks import Locks
from tiered.clients.files.names import LANES_FILE, LOCKS, PACKS, SHARDS, pack_of, shard_name
from tiered.clients.files.packs.lanes import Lanes
from tiered.clients.files.packs.store import Packs
from tiered.clients.files.sharing import make_file, share, share_again
from tiered.clock import SYSTEM_CLOCK
from tiered.errors import StorageError
from tiered.typing import Clock

__all__ = ["Tree"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FILE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ATTEMPTS: Final = 5

_GRAIN: Final = 5e7
"""Nanoseconds after which two changes of a directory have different times."""


class Tree:
    """A directory of values, opened, and made where it is missing.

    All files are found from the directories that were opened here, and no symbolic link is
    followed on the way: nothing outside is ever reached. The files that are held open are
    closed when the last user drops the object, not before: another thread may be reading.

    Args:
        path: of the directory.
        size: bytes that it is to hold.
        private: refuse a directory that others can write.
        clock: of the client.

    Attributes:
        mode: who may open files that are made, as others may open the directory.
        locks, counts, lanes: of the directory.
        packs: small values.

    Raises:
        OSError: it cannot be opened.
        StorageError: others can write it, and must not be able to.

    Threads: safe.
    """

    def __init__(self, path: str, size: int, *, private: bool, clock: Clock) -> None:
        self._shards: list[int | None] = [None] * SHARDS
        self._guard = threading.Lock()
        opened: list[int] = []
        self._opened = opened
        self._unchanged = -1
        self._forgotten = 0
        # Not at exit: threads may still be at work there, and the kernel closes files anyway.
        self.close = weakref.finalize(self, _close, opened)
        self.close.atexit = False
        for _ in range(_ATTEMPTS):
            if self._open(path, size, private, clock):
                return
        raise OSError(f"{path!r} is removed while it is opened, again and again")

    def _open(self, path: str, size: int, private: bool, clock: Clock) -> bool:
        """Whether it was there to the end."""
        os.makedirs(path, 0o700, exist_ok=True)
        self.root = root = self._kept(os.open(path, _DIRECTORY & ~os.O_NOFOLLOW))
        status = os.fstat(root)
        if private and (status.st_mode & _OTHERS_WRITE or status.st_uid != os.geteuid()):
            raise StorageError(
                f"{path!r} belongs to user {status.st_uid} and has mode "
                f"{stat.S_IMODE(status.st_mode):04o}; what others can write is not unpickled "
                f"without a checksum_key: let it be yours, with mode 0700, or give a checksum_key"
            )
        self.mode = stat.S_IMODE(status.st_mode) & 0o666
        self._inherited = status.st_mode & stat.S_ISGID
        try:
            self._lock_file = self._kept(_lock_file(root, self.mode))
            share_again(self._lock_file, self.mode)
            self.locks = Locks(self._lock_file)
            with self.locks.setup():
                self.counts = Counts(root, self.locks, size, self.mode, clock)
                self._kept(self.counts.descriptor)
                self._open_packs(size)
        except FileNotFoundError:
            return False
        self.counts.bury()
        return self.is_current

    def _open_packs(self, size: int) -> None:
        """Packs and what is known of them belong together: one is of no use without the other."""
        try:
            os.mkdir(PACKS, self._directory_mode, dir_fd=self.root)
        except FileExistsError:
            made = False
        else:
            made = True
            _unlink(LANES_FILE, self.root)
        self._packs = packs = self._kept(os.open(PACKS, _DIRECTORY, dir_fd=self.root))
        (share if made else share_again)(packs, self._directory_mode)

        def forget() -> None:
            for name in os.listdir(packs):
                if pack_of(name) is not None:
                    _unlink(name, packs)

        self.lanes = Lanes(self.root, size, self.mode, forget=forget)
        self._kept(self.lanes.descriptor)
        self.packs = Packs(
            self._packs, self.lanes, self.counts, self.locks, mode=self.mode, size=size
        )

    def _kept(self, descriptor: int) -> int:
        self._opened.append(descriptor)
        return descriptor

    @property
    def is_current(self) -> bool:
        """Whether others would find the same directory; shards that were removed are forgotten.

        It is not what it was either once that were too many of them.
        """
        # Whatever is removed from it changes its time; but its time has grains.
        changed = os.fstat(self.root).st_mtime_ns
        if changed == self._unchanged:
            return True
        grown_old = changed < SYSTEM_CLOCK.wall() * 1e9 - _GRAIN
        kept = self._lock_file, self.counts.descriptor, self.lanes.descriptor, self._packs
        if any(os.fstat(descriptor).st_nlink == 0 for descriptor in kept):
            return False
        for number in range(SHARDS):
            if self.is_gone(number):
                self.forget_shard(number)
        if self._forgotten > SHARDS:
            return False  # they are open still, for who may be reading: they are to be closed
        if grown_old:  # what is removed from now on gives it another time
            self._unchanged = changed
        return True

    @property
    def used(self) -> int:
        """Bytes of all values, as far as is known."""
        return self.counts.used + self.lanes.used

    @property
    def planned(self) -> int:
        """The same, and what is being written."""
        return self.counts.planned + self.lanes.planned

    def shard(self, number: int) -> int:
        """A shard's directory. Raises ``FileNotFoundError`` if there is none."""
        shard = self._shards[number]
        return self._opened_shard(number, False) if shard is None else shard

    def shard_to_write(self, number: int) -> int:
        """The same; it is made if there is none."""
        shard = self._shards[number]
        return self._opened_shard(number, True) if shard is None else shard

    def forget_shard(self, number: int) -> None:
        """It was removed: open another one on the next use."""
        with self._guard:
            if self._shards[number] is not None:
                self._shards[number] = None  # closed with all others
                self._forgotten += 1

    def is_gone(self, number: int) -> bool:
        """Whether a shard that was opened has been removed since."""
        shard = self._shards[number]
        return shard is not None and os.fstat(shard).st_nlink == 0

    def _opened_shard(self, number: int, make: bool) -> int:
        name = shard_name(number)
        with self._guard:
            shard = self._shards[number]
            if shard is not None:
                return shard
            if make:
                try:
                    os.mkdir(name, self._directory_mode, dir_fd=self.root)
                except FileExistsError:
                    make = False
            shard = self._kept(os.open(name, _DIRECTORY, dir_fd=self.root))
            (share if make else share_again)(shard, self._directory_mode)
            self._shards[number] = shard
            return shard

    @property
    def _directory_mode(self) -> int:
        # Who may read files may look for them, and what is made there is of the same group.
        return self._inherited | self.mode | (self.mode & 0o444) >> 2


def _lock_file(root: int, mode: int) -> int:
    try:
        return make_file(root, LOCKS, mode)
    except FileExistsError:
        return os.open(LOCKS, _LOCK_FILE, dir_fd=root)


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
