"""What is true, in memory that all processes share, and what each has seen of it."""

from __future__ import annotations

import fcntl
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final

__all__ = ["Kind", "Log", "Truth"]

CAPACITY: Final = 2_000_000
"""Records of one log; the file is sparse, so what is not written costs nothing."""

_PACKED: Final = struct.Struct("=qqqdd")
"""One record of a log: kind, key, version, and when it began and ended (``CLOCK_MONOTONIC``,
which is the same in all processes)."""


class Kind(IntEnum):
    """What a record tells of."""

    END = 0  # what the rest of the file holds
    READ = 1  # this version was the answer
    DELETED = 2  # the delete that belongs to this version has returned
    UNSURE = 3  # so it has, and said that it failed, or the shared tier failed meanwhile
    WRONG = 4  # an exception, or the value of another key


class Truth:
    """The version of each key; the source that is cached.

    Threads: one thread of a process for each key. Processes exclude each other with
    :meth:`held`; a lock ends with its process.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), 0)
        self._versions = memoryview(self._memory).cast("q")
        self.keys = len(self._versions)

    @classmethod
    def made(cls, path: Path, keys: int) -> Truth:
        """A new one: all keys have version 1."""
        path.write_bytes(struct.pack("=q", 1) * keys)
        return cls(path)

    def close(self) -> None:
        """No more of it."""
        self._versions.release()
        self._memory.close()
        self._file.close()

    def version(self, key: int) -> int:
        """The present one."""
        return self._versions[key]

    def raised(self, key: int) -> int:
        """The next version, which is the present one from now on; for who holds *key*."""
        self._versions[key] += 1
        return self._versions[key]

    @contextmanager
    def held(self, key: int) -> Iterator[bool]:
        """Nobody else changes *key*; ``False`` if somebody else is at it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, key)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, key)


class Log:
    """Records in a file that is complete however its process ends.

    Threads: one writes.
    """

    def __init__(self, path: Path) -> None:
        with path.open("x+b") as file:
            file.truncate(CAPACITY * _PACKED.size)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._place = 0

    def add(self, kind: Kind, key: int, version: int, began: float, ended: float) -> None:
        """One more record."""
        _PACKED.pack_into(self._memory, self._place, kind, key, version, began, ended)
        self._place += _PACKED.size
