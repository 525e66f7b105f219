"""Who in this process holds the right to do something, by key and for how long."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Hashable

from tiered.concurrency import fork

__all__ = ["Holdings"]


class Holdings:
    """Rights with an owner token and an end.

    Threads: safe; the lock is held for a few dictionary operations, or for the
    *action* given to :meth:`use`, which must therefore not call back.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[str, float]] = {}
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Rights held by threads of the parent keep until their end; the lock is new."""
        self._lock = threading.RLock()

    def take(self, key: Hashable, until: float, now: float) -> str | None:
        """A token for *key* until *until*, or ``None`` while somebody holds it."""
        with self._lock:
            held = self._held.get(key)
            if held is not None and held[1] > now:
                return None
            token = secrets.token_hex(8)
            self._held[key] = (token, until)
            return token

    def use(self, key: Hashable, token: str, now: float, action: Callable[[], bool]) -> bool:
        """Run *action* if *token* still holds *key*; its answer, else ``False``."""
        with self._lock:
            held = self._held.get(key)
            return held is not None and held[0] == token and held[1] > now and action()

    def release(self, key: Hashable, token: str) -> bool:
        """Give *key* back; ``False`` if *token* does not hold it (any more)."""
        with self._lock:
            held = self._held.get(key)
            if held is None or held[0] != token:
                return False
            del self._held[key]
            return True

    def revoke(self, key: Hashable) -> None:
        """Take *key* from whoever holds it."""
        if self._held:
            with self._lock:
                self._held.pop(key, None)

    def revoke_all(self) -> None:
        """Take every key from its holder."""
        with self._lock:
            self._held.clear()
