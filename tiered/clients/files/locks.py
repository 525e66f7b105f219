"""Locks for the processes of a host, in ranges of one file.

Each ends with the process that holds it, however that ends. A lane (see ``packs.lanes``) has one
byte, which stands for all of its keys: what is done under it takes microseconds, and milliseconds
where a pack goes. Beside these lie the locks for setting up and for purging, and one byte for each
slot (see ``counts``), which its owner holds for life.

The kernel tells open files apart, not threads: those of a process exclude each other before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fcntl import F_OFD_SETLK, fcntl
from typing import Final

from tiered.clients.files.names import LANE_BITS, LANES, Place
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.filelock import is_range_locked, lock_range, range_flags, unlock_range

__all__ = ["Locks"]

_SETUP: Final = 1 << 32
_PURGE: Final = _SETUP + 1
_SLOTS: Final = 1 << 33

_FIRST_PAUSE: Final = 0.0001
_LONGEST_PAUSE: Final = 0.01
_PATIENCE: Final = 10.0
"""Seconds after which a holder must have been stopped: what is locked takes microseconds."""


class Locks:
    """All locks of one directory, as one open file has them.

    Threads: safe; none of these locks can be taken twice by one thread.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lanes = [_LaneLock(self, descriptor, lane) for lane in range(LANES)]
        self._purging = threading.Lock()

    def key(self, place: Place) -> AbstractContextManager[None]:
        """Nobody else writes under this key. Raises ``TimeoutError``."""
        return self.lane(place.shard >> LANE_BITS)

    def lane(self, lane: int) -> AbstractContextManager[None]:
        """Nobody else writes in this lane. Raises ``TimeoutError``."""
        return self._lanes[lane]

    @contextmanager
    def everything(self) -> Iterator[None]:
        """Nobody else writes at all. Raises ``TimeoutError``."""
        with ExitStack() as held:
            for lane in range(LANES):
                held.enter_context(self.lane(lane))
            yield

    @contextmanager
    def setup(self) -> Iterator[None]:
        """Nobody else opens the directory. Raises ``TimeoutError``."""
        with self._range(_SETUP, 1):
            yield

    @contextmanager
    def purging(self, *, wait: bool = True) -> Iterator[bool]:
        """Whether nobody else evicts or scans; with *wait*, raises ``TimeoutError`` if not."""
        if not self._purging.acquire(blocking=wait, timeout=_PATIENCE if wait else -1):
            yield _refused(wait)
            return
        try:
            if not self._take(_PURGE, 1, _PATIENCE if wait else 0.0):
                yield _refused(wait)
                return
            try:
                yield True
            finally:
                unlock_range(self._descriptor, _PURGE)
        finally:
            self._purging.release()

    def take_slot(self, slot: int) -> bool:
        """Lock *slot* until :meth:`drop_slot`, or this open file is closed; whether it was free."""
        return self._take(_SLOTS + slot, 1, 0.0)

    def drop_slot(self, slot: int) -> None:
        """Unlock *slot*."""
        unlock_range(self._descriptor, _SLOTS + slot)

    def has_owner(self, slot: int) -> bool:
        """Whether another open file has *slot*."""
        return is_range_locked(self._descriptor, _SLOTS + slot)

    def wait_for(self, start: int, length: int) -> None:
        """Lock a range. Raises ``TimeoutError``."""
        if not self._take(start, length, _PATIENCE):
            _refused(True)

    @contextmanager
    def _range(self, start: int, length: int) -> Iterator[None]:
        try:
            self.wait_for(start, length)
            yield
        finally:
            # Also if it was not locked: an interrupt may have come between.
            unlock_range(self._descriptor, start, length)

    def _take(self, start: int, length: int, patience: float) -> bool:
        pause, waited = _FIRST_PAUSE, 0.0
        while True:
            try:
                lock_range(self._descriptor, start, length, wait=False)
            except BlockingIOError:
                pass
            else:
                return True
            if waited >= patience:
                return False
            # Real time, whatever clock the client has: another process is waited for. Not in
            # the kernel, which would wait for ever for one that was stopped.
            SYSTEM_CLOCK.sleep(pause)
            waited += pause
            pause = min(pause * 1.5, _LONGEST_PAUSE)


class _LaneLock(AbstractContextManager[None]):
    """The lock of a lane. It is taken for each write: no generator is made, nothing packed."""

    def __init__(self, locks: Locks, descriptor: int, lane: int) -> None:
        self._wait_for = locks.wait_for
        self._descriptor = descriptor
        self._lane = lane
        self._thread = threading.Lock()
        self._locked, self._unlocked = range_flags(lane)

    def __enter__(self) -> None:
        if not self._thread.acquire(timeout=_PATIENCE):
            _refused(True)
        try:
            try:
                fcntl(self._descriptor, F_OFD_SETLK, self._locked)
            except BlockingIOError:
                self._wait_for(self._lane, 1)
        except BaseException:
            self.__exit__(None, None, None)  # an interrupt may have come after it was locked
            raise

    def __exit__(self, *_: object) -> None:
        try:
            fcntl(self._descriptor, F_OFD_SETLK, self._unlocked)
        finally:
            self._thread.release()


def _refused(waited: bool) -> bool:
    if waited:
        raise TimeoutError(f"another process has held a lock for more than {_PATIENCE:g} seconds")
    return False
