"""Deletes that a server could not be told of, until it can."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tiered.concurrency import fork

__all__ = ["Journal"]


class Journal:
    """The keys of items that a server may hold and must not serve again.

    Bounded: past *limit* keys it remembers only that there were more. Then nothing
    that was on the server at that time can be trusted.

    Attributes:
        notes: how often something was noted.
        overflowed: whether there were more keys than *limit*.

    Threads: safe. :meth:`note` and :meth:`settle` are each one step: whether a server may
    be asked changes inside them only, so that no delete falls between the two. The
    same goes for :meth:`conclude`, which takes as long as the server does.
    """

    LIMIT: Final = 100_000
    """Keys; about 20 MB of them at most."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._keys: dict[bytes, int] = {}
        self.notes = 0
        self._ended = 0
        self.overflowed = False
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock; what the parent could not tell the child cannot either."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, key: bytes, unless: Callable[[], bool]) -> bool:
        """The server is to be told to delete *key*; ``False`` if it can be told now."""
        with self._lock:
            if unless():
                return False
            if key in self._keys or len(self._keys) < self._limit:
                self.notes += 1
                self._keys[key] = self.notes
            else:
                self.overflowed = True
            return True

    def ended(self, notes: int) -> None:
        """Nobody is where the server was, seen after so many *notes*: see :meth:`forget`."""
        with self._lock:
            self._ended = max(self._ended, notes)

    def forget(self) -> None:
        """The server was restarted: drop what was noted before it was last seen to be gone.

        What was noted later may be about what others have filled it with since.
        """
        with self._lock:
            for key, note in list(self._keys.items()):
                if note <= self._ended:
                    del self._keys[key]

    def due(self) -> dict[bytes, int]:
        """What the server is to be told, the oldest first; to be given to :meth:`told`."""
        with self._lock:
            return dict(self._keys)

    def told(self, keys: dict[bytes, int]) -> None:
        """The server has deleted *keys*; what was noted again since is due again."""
        with self._lock:
            for key, note in keys.items():
                if self._keys.get(key) == note:
                    del self._keys[key]

    def settle(self, action: Callable[[], None]) -> bool:
        """Perform *action* if nothing is due; whether it did."""
        with self._lock:
            if self._keys:
                return False
            action()
            self.overflowed = False
            return True

    def conclude(
        self, tell: Callable[[dict[bytes, int]], None], action: Callable[[], None]
    ) -> None:
        """Have *tell* tell what is due, and perform *action*; who notes meanwhile waits.

        For when others note faster than can be told, or there would be no end of it.
        """
        with self._lock:
            if self._keys:
                tell(dict(self._keys))
                self._keys.clear()
            action()
            self.overflowed = False
