"""Mutexes of three reaches: the threads of a process, the processes of a host, a cluster.

One interface: ``acquire(wait=True)`` tells whether it was taken, ``release()`` whether it was
still held, by this very object; neither raises because others were faster. Whoever took one may
hand it to another thread, which releases it. Each is a context manager.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, NamedTuple, Self

from tiered.clients.base import CacheClient, Claim
from tiered.concurrency import fork
from tiered.concurrency.filelock import ByteRangeLock, FileLock
from tiered.typing import Key
from tiered.validation import check_number

__all__ = ["BaseMutex", "ClaimMutex", "FileMutex", "MemcachedMutex", "ThreadMutex"]

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
"""Seconds between two attempts to get a mutex that another process holds."""

_PROBE: Final = 1.0
"""Seconds for which a question whether a mutex is held could leave it held, at the worst."""


class BaseMutex(ABC):
    """A mutex that blocks use as a context manager."""

    @abstractmethod
    def acquire(self, wait: bool = True) -> bool:
        """Take it; without *wait*, ``False`` if somebody has it."""

    @abstractmethod
    def release(self) -> bool:
        """Give it back; ``False`` if this object does not hold it (any more)."""

    @abstractmethod
    def locked(self) -> bool:
        """Whether anybody holds it just now.

        Where there is no asking, it is taken for a moment to find out, in which the
        ``acquire(wait=False)`` of another is refused.
        """

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class ThreadMutex(BaseMutex):
    """For the threads of this process that share the object.

    Threads: that is what it is for. A child that was forked while it was held finds it free.
    """

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Free: the thread that held it is not in this process."""
        self._lock = threading.Lock()

    def acquire(self, wait: bool = True) -> bool:
        return self._lock.acquire(wait)

    def release(self) -> bool:
        try:
            self._lock.release()
        except RuntimeError:  # nobody holds it
            return False
        return True

    def locked(self) -> bool:
        return self._lock.locked()


class FileMutex(BaseMutex):
    """For the processes of one host, and their threads, by a file that they all know.

    A holder that is killed frees it at once. The file is made on first use and left there:
    who removes it while somebody waits only makes him open another.

    Args:
        path: of the file; its folder must exist, and be on a local file system.
        key: makes it one of many mutexes in the file, each of which keeps out only those of
            the same key, and not a mutex without a key.
        mode: who may open the file that is made, less the process's umask.

    Raises:
        OSError: on use, the file cannot be opened.

    Threads: safe. A child that is forked while it is held does not hold it.
    """

    def __init__(
        self, path: str | os.PathLike[str], key: str | None = None, *, mode: int = 0o666
    ) -> None:
        self.path: Final = os.fspath(path)
        self.key: Final = key
        self._file = FileLock(path, mode) if key is None else ByteRangeLock(path, _place(key), mode)
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Not held by this process, whatever the parent does."""
        self._threads = threading.Lock()

    def acquire(self, wait: bool = True) -> bool:
        # The kernel tells open files apart, not threads: those of this object come first.
        if not self._threads.acquire(wait):
            return False
        try:
            taken = self._file.take(wait)
        except BaseException:
            self._threads.release()
            raise
        if not taken:
            self._threads.release()
        return taken

    def release(self) -> bool:
        if not self._file.drop():
            return False
        self._threads.release()
        return True

    def locked(self) -> bool:
        return self._threads.locked() or self._file.is_taken()


def _place(key: str) -> int:
    """Where the lock of *key* is, the same in each process; two keys hardly ever share one."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


class _Hold(NamedTuple):
    """A claim, the thread that took it, and its end on the client's monotonic clock."""

    claim: Claim
    thread: int
    ends: float


class ClaimMutex(BaseMutex):
    """The claim on a key of a client, as a mutex: whoever has it makes the value of the key.

    It reaches as far as the client's claims do.

    Args:
        client: where the claim is kept.
        key: of the value; who deletes it ends the claim.
        ttl: seconds after which a holder that has not released it is given up.

    While its server cannot be asked, a claim is everybody's: the work goes on. Where that must
    not be, let the client be ``strict``, and it raises.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: safe. A thread releases what it took itself; one that took nothing, what has been
    held the longest. So a late holder does not release the hold of a successor; one who was
    handed the mutex may, if he is late by more than another *ttl*.
    """

    def __init__(self, client: CacheClient, key: Key, ttl: float = 30.0) -> None:
        if not isinstance(client, CacheClient):
            raise TypeError(f"client must be a CacheClient, not {client!r}")
        check_number("ttl", ttl, low=0.0, hint="a finite number of seconds above 0")
        if not ttl or math.isinf(ttl):
            raise ValueError(f"ttl must be a finite number of seconds above 0, not {ttl!r}")
        self.key: Final = key
        self.ttl: Final = ttl
        self._client = client
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Not held by this process; the parent's claim is the parent's."""
        self._own = threading.Lock()
        self._holds: list[_Hold] = []  # the oldest first, those whose time is over among them

    def acquire(self, wait: bool = True) -> bool:
        pause = _FIRST_PAUSE
        while True:
            asked = self._client.clock.monotonic()
            claim = self._client.claim(self._claimed, self.ttl)
            if claim is not None:
                hold = _Hold(claim, threading.get_ident(), asked + self.ttl)
                others = {thread.ident for thread in threading.enumerate()} - {hold.thread}
                with self._own:
                    # What is long over is kept for a thread that may be at it still, or that
                    # one would release ours in its place; it is not kept for ever.
                    self._holds = [
                        old
                        for old in self._holds
                        if old.ends + self.ttl > asked or old.thread in others
                    ]
                    self._holds.append(hold)
                return True
            if not wait:
                return False
            self._client.clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def release(self) -> bool:
        me = threading.get_ident()
        with self._own:
            if not self._holds:
                return False
            mine = [hold for hold in self._holds if hold.thread == me]
            hold = mine[-1] if mine else self._holds[0]
            self._holds.remove(hold)
        return hold.claim.release()

    @property
    def claim(self) -> Claim | None:
        """The claim that was taken last and is held by this object, if there is one.

        For who has something to write under it; it is given back by :meth:`release` all the same.
        """
        with self._own:
            return self._holds[-1].claim if self._holds else None

    def locked(self) -> bool:
        claim = self._client.claim(self._claimed, min(self.ttl, _PROBE))
        if claim is None:
            return True
        claim.release()
        return False

    @property
    def _claimed(self) -> Key:
        return self.key


class MemcachedMutex(ClaimMutex):
    """For all who share a client's servers, by a claim with an owner token and an end.

    A :class:`ClaimMutex` on a key of its own: no value under *key* is touched. Over another
    client than a ``MemcachedClient`` it reaches as far as that one's claims do.
    """

    @property
    def _claimed(self) -> Key:
        return ("tiered.mutex", self.key)
