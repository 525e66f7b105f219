"""No resurrection: a value that was read before a write of its key is not copied after it.

Values are read from a far place and copied to a near one. Between the two, a
writer may have changed both, and the copy would bring the old value back. Whoever
reads in order to copy, and whoever writes, *watches* the key meanwhile:

- A writer goes from the far place to the near, and calls :meth:`Watch.passed`
  after each step but the last. A reader who saw what was there before that step
  has an older version, and its :meth:`Watch.publish` refuses. After the last step but
  one that can be left out, where the last one counts itself: what a reader copies between
  the two goes to the near place only, which is written then.
- Two writers of a key at a time may reach the far place in one order and the
  near one in the other. Neither can know, so :meth:`Watch.settle` tells both to
  drop the near copy; the next read fetches what the far place decided.

Only keys that somebody is working on just now are in the table, so its size is
bounded by the number of running operations. The table's lock is held for a few
dictionary operations. A key's own lock is held while the near place is written,
which is quick; never while the far one is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from tiered.acceleration import core
from tiered.concurrency import fork

__all__ = ["Generations", "PythonWatchedKey", "PythonWatchedKeys", "Watch"]

BrokenOff: TypeAlias = Callable[[Any, BaseException], object]
"""Told of a key, and of what was raised while it was written."""


class PythonWatchedKey:
    """What the watchers of one key share.

    ``version`` counts the steps of writers, ``contested`` says that two writers
    met, and ``lock`` guards both; ``watchers`` is guarded by the table's lock.

    A writer who does the same at the nearest place whether another one is about or not,
    which is to drop what is there, does that under ``lock`` and counts ``version`` up itself.
    """

    __slots__ = ("contested", "lock", "version", "watchers", "writers")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 0
        self.watchers = 0
        self.writers = 0
        self.contested = False

    def passed(self) -> None:
        """A place farther than the nearest has been written."""
        with self.lock:
            self.version += 1


class PythonWatchedKeys:
    """The table of keys that are being worked on: who comes, and who goes.

    Attributes:
        states: by key, what its watchers share.

    Threads: safe.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nobody works on anything."""
        self.states: dict[Hashable, PythonWatchedKey] = {}
        self._lock = threading.RLock()
        self._spare: PythonWatchedKey | None = None
        """One that nobody has any more, for the next key: to make one takes longer."""

    def enter(self, key: Hashable, writes: bool) -> PythonWatchedKey:
        """What a :class:`Watch` does first, for who wants none of its own."""
        with self._lock:
            state = self.states.get(key)
            if state is None:
                state, self._spare = self._spare or PythonWatchedKey(), None
                self.states[key] = state
            state.watchers += 1
        if writes:
            with state.lock:
                state.contested |= state.writers > 0
                state.writers += 1
        return state

    def leave(self, key: Hashable, state: PythonWatchedKey, writes: bool) -> None:
        """What a :class:`Watch` does last, with what :meth:`enter` gave."""
        if writes:
            with state.lock:
                state.writers -= 1
                state.contested &= state.writers > 0
        with self._lock:
            state.watchers -= 1
            states = self.states  # others in a child, if a key's code forks
            if not state.watchers and states.get(key) is state:
                del states[key]
                self._spare = state


if TYPE_CHECKING:
    WatchedKeys = PythonWatchedKeys
else:
    WatchedKeys = core.WatchedKeys if core else PythonWatchedKeys


class Watch:
    """One operation's view of one key; a context manager, used by one thread.

    What breaks the operation off is given to *broken_off*, with the key, once it is over.
    """

    __slots__ = ("_broken_off", "_generations", "_key", "_seen", "_state", "_writes")

    def __init__(
        self,
        generations: Generations,
        key: Hashable,
        writes: bool,
        broken_off: BrokenOff | None = None,
    ) -> None:
        self._generations = generations
        self._key = key
        self._writes = writes
        self._broken_off = broken_off

    def __enter__(self) -> Self:
        self._state = state = self._generations.enter(self._key, self._writes)
        with state.lock:
            self._seen = state.version
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._generations.leave(self._key, self._state, self._writes)
        if error is not None and self._broken_off is not None:
            self._broken_off(self._key, error)

    def publish(self, copy: Callable[[], object]) -> bool:
        """For readers: run *copy*, unless a writer has passed since; whether it ran."""
        with self._state.lock:
            if self._state.version != self._seen:
                return False
            copy()
            return True

    def passed(self) -> None:
        """For writers: a place farther than the nearest has been written."""
        self._state.passed()

    def settle(self, write: Callable[[], bool], drop: Callable[[], object]) -> bool:
        """For writers, at the nearest place: *write*, or *drop* if another writer is about."""
        with self._state.lock:
            self._state.version += 1
            if self._state.contested:
                drop()
                return False
            return write()


class Generations(WatchedKeys):
    """The table of keys that are being worked on, and who works on one.

    Threads: safe.
    """

    def __init__(self) -> None:
        fork.register(self)
        super().__init__()

    def after_fork(self) -> None:
        """The other threads' operations do not go on in this process."""
        self.begin()

    def __len__(self) -> int:
        return len(self.states)

    def reading(self, key: Hashable) -> Watch:
        """To be entered before a far place is read."""
        return Watch(self, key, writes=False)

    def writing(self, key: Hashable, broken_off: BrokenOff | None = None) -> Watch:
        """To be entered before any place is written."""
        return Watch(self, key, True, broken_off)

    def passed(self, key: Hashable) -> None:
        """A far place was changed under *key*."""
        state = self.states.get(key)
        if state is not None:
            state.passed()

    def passed_all(self) -> None:
        """A far place was changed under every key."""
        # Copied in one step: others come and go meanwhile.
        for state in self.states.copy().values():
            state.passed()
