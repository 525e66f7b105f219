"""The older interface of dogpile.core: an object that remembers when its resource was made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.rwlock import ReadWriteLock
from tiered.dogpile.lock import Lock, Mutex
from tiered.typing import Clock

__all__ = ["Dogpile", "SyncReaderDogpile"]


class Dogpile:
    """One resource, made when it is first asked for and again when it has expired.

    Args:
        expiretime: seconds; ``None`` for never.
        init: the resource exists already, as of now.
        lock: the mutex; by default one for the threads of this process.
        clock: tells the time.

    Attributes:
        createdtime: when it was made, in seconds since 1970; -1 before.

    Threads: safe.
    """

    def __init__(
        self,
        expiretime: float | None,
        init: bool = False,
        lock: Mutex | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.expiretime = expiretime
        self.dogpilelock: Mutex = threading.Lock() if lock is None else lock
        self.createdtime = clock.wall() if init else -1.0
        self._clock = clock

    @property
    def has_value(self) -> bool:
        """Whether the resource was made at least once."""
        return self.createdtime > 0

    @property
    def is_expired(self) -> bool:
        """Whether it is to be made (again)."""
        if not self.has_value:
            return True
        if self.expiretime is None:
            return False
        return self._clock.wall() - self.createdtime > self.expiretime

    def acquire(
        self,
        creator: Callable[[], Any],
        value_fn: Callable[[], Any] | None = None,
        value_and_created_fn: Callable[[], tuple[Any, float]] | None = None,
    ) -> AbstractContextManager[Any]:
        """A context in which the resource exists.

        Args:
            creator: makes the resource; with *value_and_created_fn*, returns
                ``(value, creation time)``.
            value_fn: reads the value, for the ``as`` of the block; raises
                :class:`NeedRegenerationException` if it is gone.
            value_and_created_fn: reads ``(value, creation time)``, where others make the
                resource too.
        """
        return self._lock(creator, value_fn, value_and_created_fn)

    def _lock(
        self,
        creator: Callable[[], Any],
        value_fn: Callable[[], Any] | None,
        value_and_created_fn: Callable[[], tuple[Any, float]] | None,
    ) -> Lock[Any]:
        def read() -> tuple[Any, float]:
            if value_and_created_fn is not None:
                value, created = value_and_created_fn()
                self.createdtime = created
                return value, created
            # The time first: a value that is made in between may be taken for an older one,
            # and is read again, but no old value for a new one.
            created = self.createdtime
            return None if value_fn is None else value_fn(), created

        def create() -> tuple[Any, float]:
            made = creator()
            value, created = (made, self._clock.wall()) if value_and_created_fn is None else made
            self.createdtime = created
            return value, created

        return Lock(self.dogpilelock, create, read, self.expiretime, clock=self._clock)


class SyncReaderDogpile(Dogpile):
    """A :class:`Dogpile` whose creator can wait until nobody uses the old resource.

    The blocks of :meth:`acquire` hold a read lock; a creator that wraps the change in
    ``with dogpile.acquire_write_lock():`` is alone for it, and readers wait for that only.

    Threads: safe. Blocks may be nested. A block must not take the write lock, nor enter another
    one whose creator does: it would wait for itself, and gets a ``RuntimeError`` instead.
    """

    def __init__(
        self,
        expiretime: float | None,
        init: bool = False,
        lock: Mutex | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(expiretime, init, lock, clock=clock)
        self._users = ReadWriteLock()

    def acquire_write_lock(self) -> AbstractContextManager[None]:
        """A context that waits until no block is in use, and keeps new ones out.

        Raises:
            RuntimeError: on entering it, this thread is in a block itself.
        """
        return self._users.writing()

    @contextmanager
    def acquire(
        self,
        creator: Callable[[], Any],
        value_fn: Callable[[], Any] | None = None,
        value_and_created_fn: Callable[[], tuple[Any, float]] | None = None,
    ) -> Iterator[Any]:
        """As of a :class:`Dogpile`; the block holds the read lock, the creator does not."""
        with self._lock(creator, value_fn, value_and_created_fn) as value, self._users.reading():
            yield value
