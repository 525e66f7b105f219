"""A client around another client: each primitive delegated once, with keys and values mapped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tiered.clients.base import (
    ALWAYS,
    ANY,
    CacheClient,
    Capabilities,
    Claim,
    Condition,
    Entry,
    Search,
    Versioned,
)
from tiered.clients.explanation import Explanation
from tiered.sentinels import MISSING
from tiered.typing import Following, Key, KeyWatch, OnChange

__all__ = ["Wrapper"]


class Wrapper(CacheClient):
    """Delegates everything to *client*.

    Subclasses map keys and values by overriding the hooks :meth:`inner_key`,
    :meth:`inner_value` and :meth:`outer_value` (and :meth:`around`, if their
    constructor takes more than a client); they override a primitive only to
    change what it does.

    Args:
        client: the client to wrap; closed together with this one.

    Raises:
        TypeError: it is not a client.

    Threads: as safe as the client and the hooks.
    """

    def __init__(self, client: CacheClient) -> None:
        if not isinstance(client, CacheClient):
            raise TypeError(f"client must be a CacheClient, not {client!r}")
        self.client = client
        self.clock = client.clock

    # -- Hooks -----------------------------------------------------------------

    def inner_key(self, key: Key) -> Key:
        """The wrapped client's key for *key*; equal keys must stay equal."""
        return key

    def inner_value(self, value: Any) -> Any:
        """What the wrapped client is given to store for *value*."""
        return value

    def outer_value(self, value: Any) -> Any:
        """The inverse of :meth:`inner_value`; ``MISSING`` makes it a miss."""
        return value

    def around(self, client: CacheClient) -> Wrapper:
        """A wrapper like this one around another *client*."""
        return type(self)(client)

    # -- Delegation ------------------------------------------------------------

    def entry(self, key: Key) -> Entry | None:
        return self._outer(self.client.entry(self.inner_key(key)))

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        inner = {key: self.inner_key(key) for key in keys}
        return self._outer_many(inner, self.client.entries(inner.values()))

    def find(self, key: Key, search: Search) -> Entry | None:
        if search is ANY:
            return self.entry(key)  # ours, which a subclass may have changed
        inner = {key: self.inner_key(key)}
        return self._outer(self.client.find(inner[key], self._inner_search(inner, search)))

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        if search is ANY:
            return self.entries(keys)
        inner = {key: self.inner_key(key) for key in keys}
        search = self._inner_search(inner, search)
        return self._outer_many(inner, self.client.find_many(inner.values(), search))

    def find_beside(
        self, keys: Collection[Key], search: Search, beside: Collection[Key]
    ) -> tuple[dict[Key, Entry], dict[Key, Entry]]:
        kind = type(self)
        own = (kind.entries, kind.find_many) != (Wrapper.entries, Wrapper.find_many)
        if own or self.authority is self:
            return super().find_beside(keys, search, beside)
        inner = {key: self.inner_key(key) for key in keys}
        search = self._inner_search(inner, search)
        found, others = self.client.find_beside(inner.values(), search, beside)
        return self._outer_many(inner, found), others

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        return self.client.store(
            self.inner_key(key), self.inner_value(value), deadline, keep=keep, condition=condition
        )

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        inner = {key: self.inner_key(key) for key in items}
        written = self.client.store_many(
            {inner[key]: self.inner_value(value) for key, value in items.items()},
            deadline,
            keep=keep,
        )
        return {key: written[inner_key] for key, inner_key in inner.items()}

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        if type(self).store is not Wrapper.store:
            return super().fill(key, value, deadline, keep=keep, claim=claim)
        return self.client.fill(
            self.inner_key(key), self.inner_value(value), deadline, keep=keep, claim=claim
        )

    def touch(self, key: Key, deadline: float) -> bool:
        return self.client.touch(self.inner_key(key), deadline)

    def outdate(self, key: Key) -> bool:
        return self.client.outdate(self.inner_key(key))

    def discard(self, key: Key) -> bool:
        return self.client.discard(self.inner_key(key))

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        inner = {key: self.inner_key(key) for key in keys}
        found = self.client.discard_many(inner.values())
        return {key: found[inner_key] for key, inner_key in inner.items()}

    def sweep(self, before: float | None) -> int:
        return self.client.sweep(before)

    def versioned(self, key: Key) -> Versioned:
        return self._outer_versioned(self.client.versioned(self.inner_key(key)))

    def version(self, key: Key) -> object | None:
        return self.client.version(self.inner_key(key))

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        return self.client.follow(self.inner_key(key), changed)

    def drop_near(self, key: Key) -> None:
        self.client.drop_near(self.inner_key(key))

    def store_versioned(
        self, key: Key, value: Any, deadline: float, *, keep: float = 0.0
    ) -> tuple[bool, object | None]:
        if type(self).store is not Wrapper.store:
            return super().store_versioned(key, value, deadline, keep=keep)
        return self.client.store_versioned(
            self.inner_key(key), self.inner_value(value), deadline, keep=keep
        )

    def when_late(self, told: Callable[[], object]) -> None:
        self.client.when_late(told)

    def near(self, key: Key) -> Entry | None:
        if not self.client.capabilities.blocking:
            # Through our own entry(), so that a subclass that changes it is asked here too.
            return self.entry(key)
        return self._outer(self.client.near(self.inner_key(key)))

    def first_tiers(self, count: int) -> CacheClient:
        limited = self.client.first_tiers(count)
        return self if limited is self.client else self.around(limited)

    @property
    def authority(self) -> CacheClient:
        return self.client.authority

    @property
    def capabilities(self) -> Capabilities:
        return self.client.capabilities

    @property
    def concurrency(self) -> float:
        return self.client.concurrency

    def wait(self, key: Key, timeout: float | None = None) -> bool:
        return self.client.wait(self.inner_key(key), timeout)

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        inner = self.client.claim(self.inner_key(key), ttl)
        return None if inner is None else inner.through(self, key)

    def revoke(self, key: Key) -> None:
        self.client.revoke(self.inner_key(key))

    def watching(self, key: Key) -> KeyWatch:
        return self.client.watching(self.inner_key(key))

    def clear(self) -> None:
        self.client.clear()

    @property
    def is_async(self) -> bool:
        return self.client.is_async

    @property
    def capacity(self) -> float:
        return self.client.capacity

    @property
    def usage(self) -> float:
        return self.client.usage

    @property
    def coherence(self) -> Any:
        return self.client.coherence

    def explain(self, key: Key) -> Explanation:
        inner = self.client.explain(self.inner_key(key))
        return replace(inner, client=repr(self), detail=(), tiers=(inner,))

    def close(self) -> None:
        self.client.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client!r}>"

    # -- Mapping of results ----------------------------------------------------

    def _outer(self, entry: Entry | None) -> Entry | None:
        if entry is None:
            return None
        value = self.outer_value(entry.value)
        if value is entry.value:
            return entry
        return None if value is MISSING else Entry(value, entry.deadline)

    def _outer_versioned(self, found: Versioned) -> Versioned:
        entry = self._outer(found.entry)
        return Versioned(entry, None if entry is None else found.version)

    def _outer_many(self, inner: dict[Key, Key], found: Mapping[Key, Entry]) -> dict[Key, Entry]:
        mapped = ((key, self._outer(found.get(inner_key))) for key, inner_key in inner.items())
        return {key: entry for key, entry in mapped if entry is not None}

    def _inner_search(self, inner: Mapping[Key, Key], search: Search) -> Search:
        """*search* with callbacks that are told the outer keys and values."""
        callback, copies = search.on_promote, search.on_copies
        if callback is None and copies is None:
            return search
        outer_keys = {inner_key: key for key, inner_key in inner.items()}
        if copies is not None:
            noted = copies

            def note(inner_key: Key, version: object | None) -> None:
                if inner_key in outer_keys:
                    noted(outer_keys[inner_key], version)

            search = search._replace(on_copies=note)
        if callback is not None:
            called = callback

            def announce(inner_key: Key, inner_value: Any, ttl: float) -> None:
                value = self.outer_value(inner_value)
                if inner_key in outer_keys and value is not MISSING:
                    called(outer_keys[inner_key], value, ttl)

            search = search._replace(on_promote=announce)
        return search
