"""The exact LRU store.

Two dictionaries: entries by key, and entries by *place*, a serial number, in the
order of their use. Only the first ever hashes or compares a key. Keys may run any
Python code when they are compared, use this very cache, or switch threads; a
``dict`` stands that, an ``OrderedDict`` does not. Moving an entry by its place is
also cheaper than hashing its key again.

Threads. Writes are serialised by a re-entrant lock: re-entrant, because a key's
comparison or a finaliser may call back into the cache in the middle of a write.
The usage always is the weight of what is in the order; the two change together.
A hit takes no lock under the GIL: it is two C calls, and if the entry goes
between them, the second says so. (A lock around these costs more than both, and
makes threads queue: four then run at a fifth of the speed of one.) Without the
GIL :class:`LockedLRUStore` takes the lock. Victims are kept alive until the lock
is released, so their finalisers run outside it.

Rejected: lazily sorted access times make hits cheaper still, but an eviction
must then sort, which is a pause of a second with a million entries.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import Any

from tiered.concurrency import fork
from tiered.entry import ALWAYS, Condition, Entry, admits
from tiered.stores.weighing import EXPIRED, SIZE, Node, announce, weigh
from tiered.typing import HotPath, Key, OnEvict, Weigher

__all__ = ["LRUStore", "LockedLRUStore"]


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
        self._nodes: dict[Key, Node] = {}
        self._order: OrderedDict[int, Node] = OrderedDict()
        self._places = itertools.count()
        self._usage: float = 0
        self._lock = threading.RLock()
        fork.register(self)

    def after_fork(self) -> None:
        """A new lock; and the count again, as a writer may have been between two steps."""
        self._lock = threading.RLock()
        self._usage = sum(node.weight for node in self._order.values())

    @property
    def usage(self) -> float:
        """The weight held."""
        return self._usage

    def __len__(self) -> int:
        return len(self._order)

    def entry(self, key: Key) -> Entry | None:
        """What is held, now the most recently used."""
        node = self._nodes.get(key)
        if node is not None:
            try:
                self._order.move_to_end(node.place)
            except KeyError:
                pass  # replaced or evicted since; it was there when it was asked for
        return node

    def hot_path(self) -> HotPath:
        """The two C calls of :meth:`entry`."""
        return HotPath(self._nodes.get, self._order.move_to_end)

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
            if fits:
                kept = key if old is None else old.key
                node = Node(value, deadline, kept, next(self._places), weight)
                self._nodes[kept] = node
                self._order[node.place] = node
                self._usage += weight
            elif old is not None:
                self._nodes.pop(old.key, None)
            if old is not None:
                self._forget(old)
            while self._usage > self.capacity and len(self._order) > 1:
                victim = next(iter(self._order.values()))
                self._forget(victim)
                self._unlink(victim)
                victims.append(victim)
        announce(self._on_evict, victims, SIZE)
        return fits

    def touch(self, key: Key, deadline: float) -> bool:
        """Move the deadline out; ``False`` if nothing is held or it lives longer already."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None or node.deadline >= deadline:
                return False
            self._replace(node, deadline)
            return True

    def expire(self, key: Key, now: float) -> bool:
        """Move the deadline in to *now*; ``False`` if nothing fresh is held."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None or node.deadline <= now:
                return False
            self._replace(node, now)
            return True

    def remove(self, key: Key) -> bool:
        """Forget *key*; whether it was held."""
        with self._lock:
            node = self._nodes.pop(key, None)
            if node is not None:
                self._forget(node)
        return node is not None

    def sweep(self, before: float) -> int:
        """Forget what has a deadline before *before*; how many."""
        with self._lock:
            victims = [node for node in self._order.values() if node.deadline < before]
            for node in victims:
                self._forget(node)
                self._unlink(node)
        announce(self._on_evict, victims, EXPIRED)
        return len(victims)

    def clear(self) -> int:
        """Forget everything; how much it was."""
        with self._lock:
            # The dictionaries themselves stay: hot_path() has handed out their methods.
            forgotten = list(self._order.values())
            self._nodes.clear()
            self._order.clear()
            self._usage = 0
        return len(forgotten)

    def _replace(self, node: Node, deadline: float) -> None:
        """The same entry in the same place with another deadline; the lock is held."""
        dated = node.until(deadline)
        self._nodes[node.key] = dated
        if node.place in self._order:
            self._order[node.place] = dated
        else:
            self._unlink(dated)  # a key's comparison has removed it just now

    def _forget(self, node: Node) -> None:
        """Take *node* out of the order and the count; the lock is held."""
        if self._order.pop(node.place, None) is not None:
            self._usage -= node.weight

    def _unlink(self, node: Node) -> None:
        """Let readers no longer find *node*, which is not in the order; the lock is held."""
        try:
            if self._nodes.get(node.key) is node:
                self._nodes.pop(node.key, None)
        except BaseException:
            # A key's comparison failed: readers still find it, so it still counts.
            self._forget(node)
            self._order[node.place] = node
            self._usage += node.weight
            raise


class LockedLRUStore(LRUStore):
    """The same for interpreters without a GIL, where a hit takes the lock too."""

    def entry(self, key: Key) -> Entry | None:
        """What is held, now the most recently used."""
        with self._lock:
            return super().entry(key)

    def hot_path(self) -> HotPath:
        """:meth:`entry` as a whole."""
        return HotPath(self.entry)
