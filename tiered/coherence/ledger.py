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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from tiered.acceleration import core
from tiered.concurrency import fork
from tiered.typing import Key

__all__ = ["Held", "Ledger", "PythonHeld", "PythonRecords"]

_SMALL: Final = 1024


class PythonHeld:
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


class PythonRecords:
    """Records by name.

    Attributes:
        get: gives what is known of a name, or ``None``.
        limit: of records; where there are more, :meth:`crowded` is called.

    Threads: safe.
    """

    limit = 0

    def __init__(self) -> None:
        self._held: dict[bytes, PythonHeld] = {}
        self.get: Callable[[bytes], PythonHeld | None] = self._held.get
        # Taken again where a signal's handler, or what the garbage collector calls, is here, too.
        self._lock = threading.RLock()

    def enter(self, name: bytes, key: Key) -> PythonHeld:
        """The record of *key*, which is about to be read from farther away, or written.

        It stays until it is left.
        """
        with self._lock:
            held = self._held.get(name)
            if held is None:
                held = self._held.setdefault(name, PythonHeld(key))
            held.uses += 1
            held.entered += 1
            crowded = len(self._held) > self.limit
        if crowded:
            self.crowded()
        return held

    def crowded(self) -> None:
        """There are more than the limit."""

    def leave(self, held: PythonHeld) -> None:
        """*held* is no longer used."""
        with self._lock:
            held.uses -= 1

    def forget(self, idle: list[_Idle]) -> None:
        """Drop those of *idle* that nobody has used since."""
        with self._lock:
            for name, one, entered in idle:
                if not one.uses and one.entered == entered and self._held.get(name) is one:
                    self._held.pop(name, None)
                    if one.entered != entered:  # by such a one, between the two lines
                        self._held.setdefault(name, one)

    def all(self) -> list[tuple[bytes, PythonHeld]]:
        """Everything, as it is now."""
        with self._lock:
            return list(self._held.items())

    def abandon(self) -> None:
        """Nobody uses anything: after a fork, where no other thread holds the lock any more."""
        self._lock = threading.RLock()
        for held in self._held.values():
            held.uses = 0

    def __len__(self) -> int:
        return len(self._held)


_Idle: TypeAlias = tuple[bytes, PythonHeld, int]
"""A name, its record, and how often that had been entered when nobody used it."""

if TYPE_CHECKING:
    Held = PythonHeld
    Records = PythonRecords
else:
    Held = core.Held if core else PythonHeld
    Records = core.Records if core else PythonRecords


class Ledger(Records):
    """The names of what is held.

    Args:
        holds: whether the private tier has something under a key, without that being a use.

    Threads: safe.
    """

    def __init__(self, holds: Callable[[Key], bool]) -> None:
        super().__init__()
        self._holds = holds
        self.limit = _SMALL
        fork.register(self)

    def after_fork(self) -> None:
        """Nobody else is using anything in this process."""
        self.abandon()

    @contextmanager
    def using(self, names: Iterable[bytes], keys: Iterable[Key]) -> Iterator[list[Held]]:
        """The records of *keys*, with these *names*, which are about to be read or written."""
        records: list[Held] = []
        try:
            for name, key in zip(names, keys, strict=True):
                records.append(self.enter(name, key))
            yield records
        finally:
            for held in records:
                self.leave(held)

    def crowded(self) -> None:
        """Forget what is not held any more."""
        # Comparing keys runs their own code. Who has been there meanwhile may have put something
        # there.
        self.forget(
            [
                (name, one, one.entered)
                for name, one in self.all()
                if not one.uses and not self._is_held(one.key)
            ]
        )
        self.limit = max(_SMALL, 2 * len(self))

    def _is_held(self, key: Key) -> bool:
        try:
            return self._holds(key)
        except Exception:  # of a client, or a key, of the user's
            return True
