"""A lock that many readers or one writer may hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tiered.concurrency import fork

__all__ = ["ReadWriteLock"]


class ReadWriteLock:
    """Readers together, or one writer alone; a waiting writer stops new readers.

    Threads: a writer may read and write again inside its own section, a reader
    may read again. A reader that asks to write is refused with ``RuntimeError``
    (two of them would wait for each other).
    """

    def __init__(self) -> None:
        self._readers: dict[int, int] = {}
        self._writer: int | None = None
        self._depth = 0
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Held by the thread that forked alone, if it was: it is the only one in this process."""
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._readers = {me: self._readers[me]} if me in self._readers else {}
        if self._writer != me:
            self._writer, self._depth = None, 0
        self._writers_waiting = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock together with other readers."""
        me = threading.get_ident()
        with self._changed:
            if self._writer != me and me not in self._readers:
                self._changed.wait_for(lambda: self._writer is None and not self._writers_waiting)
            self._readers[me] = self._readers.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone.

        Raises:
            RuntimeError: this thread is reading.
        """
        me = threading.get_ident()
        with self._changed:
            if self._writer != me:
                if me in self._readers:
                    raise RuntimeError("a reader cannot become a writer; release first")
                self._writers_waiting += 1
                try:
                    self._changed.wait_for(lambda: self._writer is None and not self._readers)
                finally:
                    self._writers_waiting -= 1
                self._writer = me
            self._depth += 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._writer = None
                    self._changed.notify_all()
