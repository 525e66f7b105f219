"""One mutex for many keys, which does not keep its holder from taking more of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tiered.concurrency import fork
from tiered.dogpile.lock import Mutex
from tiered.dogpile.mutexes import BaseMutex

__all__ = ["KeyReentrantMutex"]


class _Holding:
    """Which thread of this process has the one mutex, and for which keys."""

    def __init__(self, mutex: Mutex) -> None:
        self.mutex = mutex
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Held for nothing: what the parent holds is the parent's."""
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.keys: dict[str, KeyReentrantMutex] = {}


class KeyReentrantMutex(BaseMutex):
    """The part of one key in a mutex that is the only one for all keys.

    A thread that holds it for one key may take it for others, as a creator does that asks for
    other values; other threads wait until it is released for each of them. For one key it is
    held once at a time, as any mutex.

    Made by the function that :meth:`factory` returns.

    Threads: safe. It may be released in another thread where the mutex inside may.
    """

    def __init__(self, key: str, holding: _Holding) -> None:
        self.key = key
        self._holding = holding

    @classmethod
    def factory(cls, mutex: Mutex) -> Callable[[str], KeyReentrantMutex]:
        """A function that makes the mutexes of keys, all of them in *mutex*."""
        holding = _Holding(mutex)
        return lambda key: cls(key, holding)

    def acquire(self, wait: bool = True) -> bool:
        holding = self._holding
        me = threading.current_thread()  # its number may be another's when it has ended
        with holding.lock:
            if holding.thread is me and self.key not in holding.keys:
                holding.keys[self.key] = self
                return True
        if holding.mutex.acquire(wait) is False:
            return False
        with holding.lock:
            holding.thread, holding.keys = me, {self.key: self}
        return True

    def release(self) -> bool:
        holding = self._holding
        with holding.lock:
            if holding.keys.get(self.key) is not self:
                return False
            del holding.keys[self.key]
            if holding.keys:
                return True
            holding.thread = None
        holding.mutex.release()
        return True

    def locked(self) -> bool:
        """Whether anybody holds it for this key, or, in another process, for any.

        To find out about other processes it is taken for a moment.
        """
        holding = self._holding
        with holding.lock:
            if holding.thread is not None:
                return self.key in holding.keys
        if not self.acquire(wait=False):
            return True
        self.release()
        return False
