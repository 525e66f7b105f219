"""Any mutable mapping as a store: cachetools' policies, a plain dict, a stranger's.

Threads. Foreign mappings are not safe to share (an unlocked cachetools cache
corrupts itself for good), and their reads write too, so every operation takes
the lock. Evictions are announced, and values freed, after it is released.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import cachetools

from tiered.concurrency import fork
from tiered.entry import ALWAYS, Condition, Entry, admits
from tiered.sentinels import MISSING
from tiered.stores.weighing import EXPIRED, SIZE, Node, announce, weigh
from tiered.typing import HotPath, Key, OnEvict, Weigher

__all__ = ["POLICIES", "MappingStore", "policy_store"]

Mapping = MutableMapping[Any, Any]

POLICIES: Final[dict[str, type[cachetools.Cache[Any, Any]]]] = {
    "lfu": cachetools.LFUCache,
    "fifo": cachetools.FIFOCache,
    "rr": cachetools.RRCache,
}
"""The policies that cachetools implements, by the name that users give."""


class MappingStore:
    """Holds entries in a *mapping*, up to *capacity*.

    The mapping may evict by its own rule. One that does not is kept within
    *capacity* by removing what its iteration names first (for a dict: the oldest).
    Values that it held before are entries that never expire.

    Args:
        mapping: what to keep the entries in.
        capacity, weigher, on_evict: as for the LRU store. What a foreign mapping
            evicts by its own rule passes *on_evict* by: it does not tell.
        rebuild: makes an empty mapping for a child process that was forked while
            another thread was changing this one.
    """

    def __init__(
        self,
        mapping: Mapping,
        capacity: float,
        weigher: Weigher | None = None,
        on_evict: OnEvict | None = None,
        rebuild: Callable[[], Mapping] | None = None,
    ) -> None:
        self.capacity = capacity
        self._mapping = mapping
        self._weigher = weigher
        self._on_evict = on_evict
        self._rebuild = rebuild
        self._lock = threading.RLock()
        fork.register(self)

    def after_fork(self) -> None:
        """A new lock, and a new mapping if a thread of the parent was changing the old."""
        if not self._lock.acquire(blocking=False) and self._rebuild is not None:
            self._mapping = self._rebuild()
        self._lock = threading.RLock()

    @property
    def usage(self) -> float:
        """The weight held."""
        with self._lock:
            if self._weigher is None:
                return len(self._mapping)
            return sum(node.weight for node in map(self._read, list(self._mapping)) if node)

    def __len__(self) -> int:
        with self._lock:
            return len(self._mapping)

    def entry(self, key: Key) -> Entry | None:
        """What is held; a use, as far as the mapping counts uses."""
        with self._lock:
            return self._read(key)

    def hot_path(self) -> HotPath:
        """:meth:`entry` as a whole."""
        return HotPath(self.entry)

    def put(
        self, key: Key, value: Any, deadline: float, now: float, condition: Condition = ALWAYS
    ) -> bool:
        """Hold *value*; ``False`` if *condition* forbids, or it outweighs the capacity."""
        node = Node(value, deadline, key, 0, weigh(self._weigher, key, value))
        victims: list[Node] = []
        with self._lock:
            old = self._read(key)
            if not admits(condition, old, deadline, now):
                return False
            if old is not None:
                node.key = key = old.key
            fits = node.weight <= self.capacity
            if fits:
                fits = self._insert(key, node, victims)
            elif old is not None:
                self._mapping.pop(key, None)
        # What was replaced is no eviction, even if the mapping went about it that way.
        announce(self._on_evict, [victim for victim in victims if victim.key != key], SIZE)
        return fits

    def touch(self, key: Key, deadline: float) -> bool:
        """Move the deadline out; ``False`` if nothing is held or it lives longer already."""
        with self._lock:
            node = self._read(key)
            if node is None or node.deadline >= deadline:
                return False
            return self._insert(node.key, node.until(deadline), [])

    def expire(self, key: Key, now: float) -> bool:
        """Move the deadline in to *now*; ``False`` if nothing fresh is held."""
        with self._lock:
            node = self._read(key)
            if node is None or node.deadline <= now:
                return False
            return self._insert(node.key, node.until(now), [])

    def remove(self, key: Key) -> bool:
        """Forget *key*; whether it was held."""
        with self._lock:
            found = self._mapping.pop(key, MISSING)
        return found is not MISSING

    def sweep(self, before: float) -> int:
        """Forget what has a deadline before *before*; how many."""
        with self._lock:
            held = [self._read(key) for key in list(self._mapping)]
            victims = [node for node in held if node is not None and node.deadline < before]
            for node in victims:
                self._mapping.pop(node.key, None)
        announce(self._on_evict, victims, EXPIRED)
        return len(victims)

    def clear(self) -> int:
        """Forget everything; how much it was."""
        with self._lock:
            forgotten = [self._mapping.pop(key, None) for key in list(self._mapping)]
        return len(forgotten)

    def _read(self, key: Key) -> Node | None:
        try:
            found = self._mapping[key]
        except KeyError:
            return None
        if type(found) is Node:
            return found
        return Node(found, math.inf, key, 0, weigh(self._weigher, key, found))

    def _insert(self, key: Key, node: Node, victims: list[Node]) -> bool:
        try:
            self._mapping[key] = node
        except ValueError:
            return False  # how cachetools refuses what is too large for it
        if isinstance(self._mapping, _Telling):
            victims += self._mapping.take_evicted()
        else:
            self._make_room(key, victims)
        return True

    def _make_room(self, newest: Key, victims: list[Node]) -> None:
        if self._weigher is None and len(self._mapping) <= self.capacity:
            return
        excess = self.usage - self.capacity
        for key in list(self._mapping):
            if excess <= 0:
                return
            victim = self._read(key) if key != newest else None
            if victim is not None:
                self._mapping.pop(key, None)
                victims.append(victim)
                excess -= victim.weight


class _Telling:
    """Mixed into a cachetools cache: remembers what its ``popitem`` evicted."""

    evicted: list[Node]

    def take_evicted(self) -> list[Node]:
        """What was evicted since the last time."""
        evicted, self.evicted = self.evicted, []
        return evicted


def policy_store(
    policy: str,
    capacity: float,
    weigher: Weigher | None = None,
    on_evict: OnEvict | None = None,
) -> MappingStore:
    """A store on the cachetools cache that implements *policy*."""
    base = POLICIES[policy]

    class Telling(_Telling, base):  # type: ignore[valid-type, misc]  # a base known at run time
        def popitem(self) -> tuple[Any, Any]:
            key, node = super().popitem()
            self.evicted.append(node)
            return key, node

    def build() -> Mapping:
        cache = Telling(maxsize=capacity, getsizeof=lambda node: node.weight)
        cache.evicted = []
        return cache

    return MappingStore(build(), capacity, weigher, on_evict, rebuild=build)
