"""What a private tier holds, by the names that keys have on the bus.

Events carry names, and the private tier is asked by keys: the ledger leads from one to the
other, for everything that is held there and for everything that somebody is about to put
there. It also knows what is needed to confirm a copy: its version in the shared tier, and
its deadline, should it have been made stale to keep it off the hot path.

The private tier evicts without telling. So the ledger looks, each time it has grown to twice
its size, which of its keys are held still: it is never larger than twice the tier, and a
constant.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tiered.concurrency import fork
from tiered.typing import Key

__all__ = ["Held", "Ledger"]

_SMALL: Final = 1024


class Held:
    """One key that the private tier holds, or is about to.

    Attributes:
        key: as the private tier knows it.
        version: of the copy, in the shared tier; ``None`` if it is not known.
        deadline: of the copy, where that was made stale; else ``None``. Such a copy is
            *suspect*: it counts once the shared tier has confirmed it.
        uses: how many are reading or writing it just now.
        entered: how often somebody began to.
        heard: when (monotonic) somebody else changed it last, or ``None``.
    """

    __slots__ = ("deadline", "entered", "heard", "key", "uses", "version")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.version: object | None = None
        self.deadline: float | None = None
        self.uses = 0
        self.entered = 0
        self.heard: float | None = None

    @property
    def suspect(self) -> bool:
        """Whether the copy must be confirmed before it is used."""
        return self.deadline is not None

    def copied(self, version: object | None) -> None:
        """There is a new copy, of *version*."""
        self.version = version
        self.deadline = None


class Ledger:
    """The names of what is held.

    Args:
        holds: whether the private tier has something under a key, without that being a use.

    Attributes:
        get: gives what is known of a name, or ``None``.

    Threads: safe.
    """

    def __init__(self, holds: Callable[[Key], bool]) -> None:
        self._holds = holds
        self._held: dict[bytes, Held] = {}
        self.get: Callable[[bytes], Held | None] = self._held.get
        self._limit = _SMALL
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Nobody else is using anything in this process."""
        self._lock = threading.Lock()
        for held in self._held.values():
            held.uses = 0

    def enter(self, name: bytes, key: Key) -> Held:
        """The record of *key*, which is about to be read from farther away, or written.

        It stays until it is left.
        """
        with self._lock:
            held = self._held.get(name)
            if held is None:
                held = self._held[name] = Held(key)
            held.uses += 1
            held.entered += 1
            crowded = len(self._held) > self._limit
        if crowded:
            self._clean()
        return held

    def leave(self, held: Held) -> None:
        """*held* is no longer used."""
        with self._lock:
            held.uses -= 1

    def all(self) -> list[tuple[bytes, Held]]:
        """Everything, as it is now."""
        with self._lock:
            return list(self._held.items())

    def _clean(self) -> None:
        """Forget what is not held any more."""
        # Without the lock: comparing keys runs their own code. Who has been there meanwhile
        # may have put something there.
        idle = [
            (name, one, one.entered)
            for name, one in self.all()
            if not one.uses and not self._holds(one.key)
        ]
        with self._lock:
            for name, one, entered in idle:
                if not one.uses and one.entered == entered and self._held.get(name) is one:
                    del self._held[name]
            self._limit = max(_SMALL, 2 * len(self._held))

    def __len__(self) -> int:
        return len(self._held)
