"""The exact LRU store.

Threads. Writes are serialised by a re-entrant lock: re-entrant, because the
cyclic garbage collector may run a finaliser that calls back into the cache in
the middle of a write. A hit takes no lock under the GIL: ``OrderedDict.get`` and
``move_to_end`` are single C calls, and if the entry goes between the two,
``move_to_end`` says so. (A lock around these two costs more than both, and makes
threads queue: four then run at a fifth of the speed of one.) Without the GIL
:class:`LockedLRUStore` takes the lock. Victims are kept alive until the lock is
released, so their finalisers run outside it.

Rejected: lazily sorted access times make hits cheaper still, but an eviction
must then sort, which is a pause of a second with a million entries.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from tiered.concurrency import fork
from tiered.entry import ALWAYS, Condition, Entry, admits
from tiered.stores.weighing import EXPIRED, SIZE, Node, announce, weigh
from tiered.typing import Key, OnEvict, Weigher

__all__ = ["LRUStore", "LockedLRUStore", "gil_enabled", "lru_store"]


class LRUStore:
    """Holds up to *capacity* of weight; makes room at the least recently used end.

    Args:
        capacity: entries, or units of *weigher*; ``inf`` for no bound.
        weigher: gives an entry's weight; one each without it.
        on_evict: called outside the lock for what was evicted.
    """

    def __init__(
        self,
        capacity: float,
        weigher: Weigher | None = None,
        on_evict: OnEvict | None = None,
    ) -> None:
        self.capacity = capacity
        self._weigher = weigher
        self._on_evict = on_evict
        self._nodes: OrderedDict[Key, Node] = OrderedDict()
        self._usage: float = 0
        self._lock = threading.RLock()
        fork.register(self)

    def after_fork(self) -> None:
        """A new lock; and the count again, as a writer may have been between two steps."""
        self._lock = threading.RLock()
        self._usage = sum(node.weight for node in self._nodes.values())

    @property
    def usage(self) -> float:
        """The weight held."""
        return self._usage

    def __len__(self) -> int:
        return len(self._nodes)

    def entry(self, key: Key) -> Entry | None:
        """What is held, now the most recently used."""
        node = self._nodes.get(key)
        if node is not None:
            try:
                self._nodes.move_to_end(node.key)
            except KeyError:
                pass  # evicted since; it was there when it was asked for
        return node

    def hot_path(self) -> tuple[Callable[[Any], Entry | None], Callable[[Any], None] | None]:
        """The two C calls of :meth:`entry`."""
        return self._nodes.get, self._nodes.move_to_end

    def put(
        self, key: Key, value: Any, deadline: float, now: float, condition: Condition = ALWAYS
    ) -> bool:
        """Hold *value*; ``False`` if *condition* forbids, or it outweighs the capacity.

        A value that is too heavy still displaces the one before it, which would
        otherwise live on although the writer has replaced it.
        """
        weight = weigh(self._weigher, key, value)
        victims: list[Node] = []
        with self._lock:
            old = self._nodes.get(key)
            if not admits(condition, old, deadline, now):
                return False
            fits = weight <= self.capacity
            if old is not None:
                self._usage -= old.weight
                key = old.key
                if not fits:
                    del self._nodes[key]
            if fits:
                self._nodes[key] = Node(value, deadline, key, weight)
                self._usage += weight
                if old is not None:
                    self._nodes.move_to_end(key)
                while self._usage > self.capacity and len(self._nodes) > 1:
                    _, victim = self._nodes.popitem(last=False)
                    self._usage -= victim.weight
                    victims.append(victim)
        announce(self._on_evict, victims, SIZE)
        return fits

    def touch(self, key: Key, deadline: float) -> bool:
        """Move the deadline out; ``False`` if nothing is held or it lives longer already."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None or node.deadline >= deadline:
                return False
            self._nodes[node.key] = node.until(deadline)
            return True

    def expire(self, key: Key, now: float) -> bool:
        """Move the deadline in to *now*; ``False`` if nothing fresh is held."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None or node.deadline <= now:
                return False
            self._nodes[node.key] = node.until(now)
            return True

    def remove(self, key: Key) -> bool:
        """Forget *key*; whether it was held."""
        with self._lock:
            node = self._nodes.pop(key, None)
            if node is not None:
                self._usage -= node.weight
        return node is not None

    def sweep(self, before: float) -> int:
        """Forget what has a deadline before *before*; how many."""
        with self._lock:
            victims = [node for node in self._nodes.values() if node.deadline < before]
            for node in victims:
                del self._nodes[node.key]
                self._usage -= node.weight
        announce(self._on_evict, victims, EXPIRED)
        return len(victims)

    def clear(self) -> int:
        """Forget everything; how much it was."""
        with self._lock:
            # The dictionary itself stays: hot_path() has handed out its methods.
            forgotten = list(self._nodes.values())
            self._nodes.clear()
            self._usage = 0
        return len(forgotten)


class LockedLRUStore(LRUStore):
    """The same for interpreters without a GIL, where a hit takes the lock too."""

    def entry(self, key: Key) -> Entry | None:
        """What is held, now the most recently used."""
        with self._lock:
            return super().entry(key)

    def hot_path(self) -> tuple[Callable[[Any], Entry | None], Callable[[Any], None] | None]:
        """:meth:`entry` as a whole."""
        return self.entry, None


def gil_enabled() -> bool:
    """Whether this interpreter runs one thread at a time."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def lru_store(
    capacity: float, weigher: Weigher | None = None, on_evict: OnEvict | None = None
) -> LRUStore:
    """The LRU store for this interpreter."""
    kind = LRUStore if gil_enabled() else LockedLRUStore
    return kind(capacity, weigher, on_evict)
