"""Locks around a client that has none of its own.

The package's own clients need no such help; these are for a stranger's client
that is not safe to share between threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from tiered.clients.base import (
    ALWAYS,
    ANY,
    CacheClient,
    Claim,
    Condition,
    Entry,
    Search,
    Versioned,
)
from tiered.clients.wrapper import Wrapper
from tiered.concurrency import fork
from tiered.concurrency.rwlock import ReadWriteLock
from tiered.typing import Key

__all__ = ["ReadWriteSyncAdapter", "SyncAdapter"]


class SyncAdapter(Wrapper):
    """One operation at a time.

    Results are complete before the lock is released; none is a generator that
    would read the client later.

    Args:
        client: the client to protect.

    Threads: safe, whatever the client is.
    """

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self._lock = threading.RLock()
        fork.register(self)

    def after_fork(self) -> None:
        """A new lock: whoever held it is not in this process."""
        self._lock = threading.RLock()

    def reading(self) -> AbstractContextManager[Any]:
        """What is held while the client is read."""
        return self._lock

    def writing(self) -> AbstractContextManager[Any]:
        """What is held while the client is changed."""
        return self._lock

    def around(self, client: CacheClient) -> Wrapper:
        twin = super().around(client)
        assert isinstance(twin, SyncAdapter)
        twin._lock = self._lock  # the same client underneath, so the same lock
        return twin

    def entry(self, key: Key) -> Entry | None:
        with self.reading():
            return super().entry(key)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        with self.reading():
            return super().entries(keys)

    def find(self, key: Key, search: Search) -> Entry | None:
        if search is ANY:
            return self.entry(key)
        # A search through tiers may promote, which writes.
        with self.writing():
            return super().find(key, search)

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        if search is ANY:
            return self.entries(keys)
        with self.writing():
            return super().find_many(keys, search)

    def versioned(self, key: Key) -> Versioned:
        with self.reading():
            return super().versioned(key)

    def version(self, key: Key) -> object | None:
        with self.reading():
            return super().version(key)

    def near(self, key: Key) -> Entry | None:
        if self.capabilities.blocking:
            return None  # whoever holds the lock may be waiting for a server
        with self.reading():
            return super().near(key)

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        with self.writing():
            return super().store(key, value, deadline, keep=keep, condition=condition)

    def store_versioned(
        self, key: Key, value: Any, deadline: float, *, keep: float = 0.0
    ) -> tuple[bool, object | None]:
        with self.writing():
            return self.client.store_versioned(key, value, deadline, keep=keep)

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        with self.writing():
            return super().store_many(items, deadline, keep=keep)

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        with self.writing():
            return self.client.fill(key, value, deadline, keep=keep, claim=claim)

    def touch(self, key: Key, deadline: float) -> bool:
        with self.writing():
            return super().touch(key, deadline)

    def outdate(self, key: Key) -> bool:
        with self.writing():
            return super().outdate(key)

    def discard(self, key: Key) -> bool:
        with self.writing():
            return super().discard(key)

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        with self.writing():
            return super().discard_many(keys)

    def drop_near(self, key: Key) -> None:
        with self.writing():
            super().drop_near(key)

    def sweep(self, before: float | None) -> int:
        with self.writing():
            return super().sweep(before)

    def clear(self) -> None:
        with self.writing():
            super().clear()

    def revoke(self, key: Key) -> None:
        with self.writing():
            super().revoke(key)

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        # The claim fills through this adapter, which locks; releasing is the table's affair.
        with self.writing():
            return super().claim(key, ttl)


class ReadWriteSyncAdapter(SyncAdapter):
    """Reads together, writes alone.

    For clients whose reads change nothing. A client that orders its entries by
    use writes when it is read: give that a :class:`SyncAdapter`.

    Threads: safe, if the client's reads are safe together.
    """

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self._shared = ReadWriteLock()

    def around(self, client: CacheClient) -> Wrapper:
        twin = super().around(client)
        assert isinstance(twin, ReadWriteSyncAdapter)
        twin._shared = self._shared
        return twin

    def reading(self) -> AbstractContextManager[Any]:
        return self._shared.reading()

    def writing(self) -> AbstractContextManager[Any]:
        return self._shared.writing()
