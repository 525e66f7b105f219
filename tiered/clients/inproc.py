"""The client in the memory of this process."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from tiered.clients.base import ALWAYS, CacheClient, Condition, Entry, HotPath
from tiered.clients.near import NearAccess
from tiered.clock import SYSTEM_CLOCK
from tiered.stats.counters import ClientStats
from tiered.stores.choose import choose_store
from tiered.typing import Clock, Key, OnEvict, Weigher

__all__ = ["InprocCacheClient"]


class InprocCacheClient(CacheClient, NearAccess):
    """Keeps the objects themselves, up to *size* of them.

    A value is not copied: who changes what ``get`` returned changes it for all.
    Stale entries stay readable through ``get_ttl`` until they are evicted or purged.

    Args:
        size: how many entries fit (with a *weigher*, how many of its units);
            ``inf`` for no bound, 0 to hold nothing.
        policy: what leaves when it is full: ``"lru"`` (exact; the default), ``"s3fifo"``
            (resists scans: more hits on most loads, at no more cost), ``"lfu"``,
            ``"fifo"`` or ``"rr"`` (at random).
        store: a mutable mapping to keep the entries in, or the class of one to be
            called with *size*; replaces *policy*.
        weigher: ``weigher(key, value)`` gives an entry's share of *size*. A value
            that outweighs *size* is dropped, and what it replaced with it.
        on_evict: ``on_evict(key, value, cause)`` is called, outside all locks, for
            what the cache itself removes: *cause* is ``"size"`` or ``"expired"``
            (by ``purge``). Deletes and overwrites are the caller's own doing.
        clock: the source of time.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: safe. A hit with policy ``"lru"`` or ``"s3fifo"`` takes no lock under the GIL.
    """

    def __init__(
        self,
        size: float,
        *,
        policy: str = "lru",
        store: MutableMapping[Any, Any] | type[MutableMapping[Any, Any]] | None = None,
        weigher: Weigher | None = None,
        on_evict: OnEvict | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self._store = choose_store(size, policy, store, weigher, on_evict)
        # A subclass that changes what an entry is must be asked on every path.
        own = type(self).entry is InprocCacheClient.entry
        self._path = self._store.hot_path() if own else HotPath(self.entry)
        self.read_near(self._path, clock.monotonic, CacheClient.get)
        own = type(self).store is InprocCacheClient.store
        self.write_near(self._store if own else None, CacheClient.put)

    def entry(self, key: Key) -> Entry | None:
        return self._store.entry(key)

    def near(self, key: Key) -> Entry | None:
        return self.entry(key)

    get = NearAccess.get
    put = NearAccess.put

    def hot_path(self) -> HotPath:
        return self._path

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        lookup = self._store.entry
        found = ((key, lookup(key)) for key in keys)
        return {key: entry for key, entry in found if entry is not None}

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        # keep is a lower bound, and met without doing anything: see the class.
        return self._store.put(key, value, deadline, self.clock.monotonic(), condition)

    def touch(self, key: Key, deadline: float) -> bool:
        return self._store.touch(key, deadline)

    def outdate(self, key: Key) -> bool:
        return self._store.expire(key, self.clock.monotonic())

    def discard(self, key: Key) -> bool:
        return self._store.remove(key)

    def sweep(self, before: float | None) -> int:
        return self._store.clear() if before is None else self._store.sweep(before)

    @property
    def stats(self) -> ClientStats:
        return self.counters.snapshot(self.near_hits, self.near_puts)

    @property
    def capacity(self) -> float:
        return self._store.capacity

    @property
    def usage(self) -> float:
        return self._store.usage

    def __repr__(self) -> str:
        return f"<InprocCacheClient {self._store.usage:g}/{self._store.capacity:g}>"
