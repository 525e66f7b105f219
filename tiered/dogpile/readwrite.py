"""dogpile's read-write mutex: many readers together, or one writer alone."""

from __future__ import annotations

import threading

from tiered.concurrency import fork

__all__ = ["ReadWriteMutex"]


class ReadWriteMutex:
    """Taken and given back by name, not by block, and in any thread.

    For use by block, and by threads that may take it twice, there is
    :class:`tiered.concurrency.rwlock.ReadWriteLock`. A writer who waits stops new readers.

    Threads: safe. After a fork it is free in the child: whoever held it is not there.
    """

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """All free."""
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    def acquire_read_lock(self, wait: bool = True) -> bool:
        """Read; without *wait*, ``False`` if that is not possible at once."""
        with self._changed:
            if not wait and (self._writing or self._writers_waiting):
                return False
            self._changed.wait_for(lambda: not self._writing and not self._writers_waiting)
            self._readers += 1
            return True

    def release_read_lock(self) -> None:
        """Read no more. Raises ``RuntimeError`` if nobody reads."""
        with self._changed:
            if not self._readers:
                raise RuntimeError("release_read_lock() of a mutex that nobody reads under")
            self._readers -= 1
            self._changed.notify_all()

    def acquire_write_lock(self, wait: bool = True) -> bool:
        """Write, alone; without *wait*, ``False`` if that is not possible at once."""
        with self._changed:
            if not wait and (self._writing or self._readers):
                return False
            self._writers_waiting += 1
            try:
                self._changed.wait_for(lambda: not self._writing and not self._readers)
                self._writing = True
            finally:
                self._writers_waiting -= 1
                if not self._writing:  # interrupted: the readers who waited for us go on
                    self._changed.notify_all()
            return True

    def release_write_lock(self) -> None:
        """Write no more. Raises ``RuntimeError`` if nobody writes."""
        with self._changed:
            if not self._writing:
                raise RuntimeError("release_write_lock() of a mutex that nobody writes under")
            self._writing = False
            self._changed.notify_all()
