"""The dogpile lock: one creates, the others wait for the first value or use the old one.

::

    value            who gets the mutex         everybody else
    ---------------  -------------------------  ---------------------------------
    not there        re-reads, then creates     waits for the mutex, then re-reads
    expired          re-reads, then creates     gets the old value at once
    fresh            nobody asks for it         gets the value

The mutex may be of any kind (threads, processes of a host, of a cluster). It is held while the
creator runs, and released on every exit.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from tiered.clock import SYSTEM_CLOCK
from tiered.sentinels import MISSING
from tiered.typing import Clock

__all__ = ["Lock", "Mutex", "NeedRegenerationException"]

T = TypeVar("T")


class NeedRegenerationException(Exception):
    """Raised by the function that reads the value: there is none."""


class Mutex(Protocol):
    """What a dogpile lock locks with; ``threading.Lock`` is one."""

    def acquire(self, wait: bool = True, /) -> Any:
        """Take it: with *wait*, however long it takes. ``False`` if it was not taken."""
        ...

    def release(self) -> Any:
        """Give it back."""
        ...


_NOTHING: Final = (MISSING, -1.0)
"""In place of a value and its creation time, where there is none."""


class Lock(Generic[T]):
    """A context manager that yields a value, which at most one creates at a time.

    Args:
        mutex: shared by all who would create the value.
        creator: makes and stores the value; returns ``(value, creation time)``.
        value_and_created_fn: reads ``(value, creation time)``; raises
            :class:`NeedRegenerationException` if there is none. A creation time that is
            not above 0 means the same.
        expiretime: seconds after which a value is created anew; ``None`` for never.
        async_creator: called with the mutex, in place of *creator* where there is an old
            value; it sees to a new one, some time, and then releases the mutex. The old
            value is used until then.
        clock: tells the time.

    Creation times are seconds since 1970, as ``time.time()`` has them.

    Threads: safe, and usable many times.
    """

    def __init__(
        self,
        mutex: Mutex,
        creator: Callable[[], tuple[T, float]],
        value_and_created_fn: Callable[[], tuple[T, float]],
        expiretime: float | None,
        async_creator: Callable[[Any], object] | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.mutex = mutex
        self.creator = creator
        self.value_and_created_fn = value_and_created_fn
        self.expiretime = expiretime
        self.async_creator = async_creator
        self._clock = clock

    def __enter__(self) -> T:
        value: T
        value, created = self._read()
        if not self._is_due(created):
            return value
        if created <= 0:
            return self._renewed(self.mutex.acquire(True) is not False)
        return self._renewed(True) if self.mutex.acquire(False) else value

    def _renewed(self, acquired: bool) -> T:
        """What is there by now, or is created; *acquired* tells whether we have the mutex."""
        value: T
        try:
            # Whoever had the mutex until now may just have made a new one.
            value, created = self._read()
            if not self._is_due(created) or (created > 0 and not acquired):
                return value
            if self.async_creator is None or created <= 0:
                # A mutex that gives up waiting leaves each waiter to himself: better than none.
                return self.creator()[0]
            self.async_creator(self.mutex)
            acquired = False  # handed over
            return value
        finally:
            if acquired:
                self.mutex.release()

    def _read(self) -> tuple[Any, float]:
        try:
            return self.value_and_created_fn()
        except NeedRegenerationException:
            return _NOTHING

    def _is_due(self, created: float) -> bool:
        if created <= 0:
            return True
        return self.expiretime is not None and self._clock.wall() - created > self.expiretime

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held in the block."""
