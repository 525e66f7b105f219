"""Read-write locks for the file backend, and what those that users bring must look like."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from tiered.concurrency import filelock, fork
from tiered.dogpile.readwrite import ReadWriteMutex

__all__ = ["AbstractFileLock", "FileLock", "ThreadLock"]


class AbstractFileLock:
    """A lock that many readers or one writer hold; to be subclassed by who brings his own.

    The four methods that take it and give it back must be written. :meth:`acquire` and
    :meth:`release`, which make a mutex of it, are the writer's.

    Args:
        filename: where a lock on a file would have its file.

    Threads: a subclass must exclude threads as well as processes.
    """

    def __init__(self, filename: str) -> None:
        self._missing("__init__(filename)")

    @property
    def is_open(self) -> bool:
        """Whether it is held through this object. Nothing here asks for it."""
        self._missing("is_open")

    def acquire_read_lock(self, wait: bool) -> Any:
        """Read; ``False`` if not, which with *wait* does not happen."""
        self._missing("acquire_read_lock(wait)")

    def acquire_write_lock(self, wait: bool) -> Any:
        """Write, alone; ``False`` if not, which with *wait* does not happen."""
        self._missing("acquire_write_lock(wait)")

    def release_read_lock(self) -> Any:
        """Read no more."""
        self._missing("release_read_lock()")

    def release_write_lock(self) -> Any:
        """Write no more."""
        self._missing("release_write_lock()")

    def acquire(self, wait: bool = True) -> Any:
        """The writer's lock, as of a mutex."""
        return self.acquire_write_lock(wait)

    def release(self) -> Any:
        """Give it back."""
        return self.release_write_lock()

    @contextmanager
    def read(self) -> Iterator[None]:
        """A context in which others may read, and nobody writes."""
        self.acquire_read_lock(True)
        try:
            yield
        finally:
            self.release_read_lock()

    @contextmanager
    def write(self) -> Iterator[None]:
        """A context in which nobody else reads or writes."""
        self.acquire_write_lock(True)
        try:
            yield
        finally:
            self.release_write_lock()

    def _missing(self, what: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} must define {what}")


class FileLock(AbstractFileLock):
    """By ``flock``, on a file that is made on first use and left there, for its owner only.

    What a process holds ends with it. It is the lock that dogpile.cache uses, and excludes it.

    Threads: safe; what one thread took, another may give back. A child that is forked while it
    is held does not hold it.
    """

    def __init__(self, filename: str) -> None:
        self.filename = os.fspath(filename)
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Held by nobody here; the parent's locks close themselves."""
        self._guard = threading.Lock()
        self._readers: list[filelock.FileLock] = []
        self._writers: list[filelock.FileLock] = []  # one at most

    @property
    def is_open(self) -> bool:
        return bool(self._readers or self._writers)

    def acquire_read_lock(self, wait: bool = True) -> bool:
        return self._take(self._readers, wait, shared=True)

    def acquire_write_lock(self, wait: bool = True) -> bool:
        return self._take(self._writers, wait, shared=False)

    def release_read_lock(self) -> None:
        self._drop(self._readers, "reads")

    def release_write_lock(self) -> None:
        self._drop(self._writers, "writes")

    def _take(self, holders: list[filelock.FileLock], wait: bool, shared: bool) -> bool:
        # Each holder opens the file for himself, which is what ``flock`` tells apart.
        lock = filelock.FileLock(self.filename, mode=0o600)
        if not lock.take(wait, shared):
            return False
        with self._guard:
            holders.append(lock)
        return True

    def _drop(self, holders: list[filelock.FileLock], what: str) -> None:
        with self._guard:
            if not holders:
                raise RuntimeError(f"{self.filename!r}: nobody {what} under this lock")
            lock = holders.pop()  # all readers are alike
        lock.drop()


class ThreadLock(ReadWriteMutex, AbstractFileLock):
    """For the threads that share the object, without any file."""

    def __init__(self, filename: str) -> None:
        super().__init__()
