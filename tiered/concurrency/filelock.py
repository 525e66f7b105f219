"""An exclusive lock on a file, which ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref

from tiered.concurrency import fork

__all__ = ["FileLock"]


class FileLock:
    """``flock`` on an open file of its own, so that it excludes threads as well as processes.

    ``fcntl.lockf`` would not: it belongs to the process, and ends when *any* descriptor of
    the file is closed. A forked child shares the open file, and with it the lock; it closes
    its copy, so that the lock ends when the parent ends.

    Args:
        path: of the file; it is made when the lock is first taken, and never removed.

    Threads: one holder; who shares the object among threads sees to their order.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
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

    def take(self, wait: bool) -> bool:
        """Lock the file; ``False`` if somebody else has and we are not to *wait*.

        Raises:
            OSError: the file cannot be opened.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._open.add(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._give_up(descriptor)
        return True

    def _give_up(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        os.close(descriptor)


def _close(descriptors: set[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
