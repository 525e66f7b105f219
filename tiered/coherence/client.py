"""The client that a process reads and writes through, so that its private copies do not lie."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Self, TypeVar, cast

from tiered.clients.base import (
    ALWAYS,
    ANY,
    CacheClient,
    Capabilities,
    Claim,
    Condition,
    Entry,
    HotPath,
    Search,
)
from tiered.clients.explanation import Explanation
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.near import NearReads
from tiered.clients.wrapper import Wrapper
from tiered.coherence.authority import announced
from tiered.coherence.claims import GivenClaims, bus_claim
from tiered.coherence.ledger import Held
from tiered.coherence.limited import FirstTiers
from tiered.coherence.manager import CoherenceManager
from tiered.coherence.messages import Kind
from tiered.coherence.names import name_of
from tiered.coherence.stats import CoherenceStats
from tiered.coherence.tiers import near_of
from tiered.errors import UnsupportedOperation
from tiered.stats.counters import ClientStats
from tiered.typing import Following, Key, OnChange

__all__ = ["CoherentWrapperClient"]

T = TypeVar("T")


class CoherentWrapperClient(Wrapper, NearReads):
    """*client*, whose private copies are kept in step by *manager*.

    Changes are told to everybody after they were written. A copy is served unasked only
    while the bus has been heard of within its detection time; else, and after events may have
    been missed, it is confirmed with the shared tier first.

    Args:
        client: usually ``TieredInclusiveClient(private, shared)``; in wrappers, if you like.
        manager: of the same private client.

    Raises:
        TypeError, ValueError: they do not belong together.

    Threads: safe.
    """

    def __new__(cls, client: CacheClient, manager: CoherenceManager) -> Self:
        if cls is CoherentWrapperClient and isinstance(client, NamespaceWrapper):
            from tiered.coherence.namespaced import CoherentNamespaceClient

            return cast(Self, super().__new__(CoherentNamespaceClient))
        return super().__new__(cls)

    def __init__(self, client: CacheClient, manager: CoherenceManager) -> None:
        super().__init__(client)
        if not isinstance(manager, CoherenceManager):
            raise TypeError(f"manager must be a CoherenceManager, not {manager!r}")
        self.manager = manager
        self._near, self._way = near_of(client, manager.private)
        self._given = GivenClaims(manager.copies.ledger)
        manager.copies.attach(self._near)
        self._near.when_kept(partial(_kept, weakref.ref(manager)))
        # A subclass that changes what an entry is must be asked on every path.
        kind, own = type(self), CoherentWrapperClient
        plain = not self._way and (kind.entry, kind.find) == (own.entry, own.find)
        path = self.hot_path() if plain else None
        self.read_near(path, self.clock.monotonic, CacheClient.get)

    def around(self, client: CacheClient) -> Wrapper:
        return FirstTiers(client, self.manager, self._private_key)

    # -- Reading -------------------------------------------------------------------

    get = NearReads.get

    def entry(self, key: Key) -> Entry | None:
        if self.manager.verified:
            inner = self._private_key(key)
            try:
                found = self.manager.private.entry(inner)
                if self._way:
                    found = self._shown(found)
            except Exception:
                found = None  # what is wrong, the general way finds, and passes over
            if found is not None and found.deadline > self.clock.monotonic():
                return found
        return self._found(key, ANY)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self._found_many(keys, ANY)

    def find(self, key: Key, search: Search) -> Entry | None:
        return self.entry(key) if search is ANY else self._found(key, search)

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        return self._found_many(keys, search)

    def near(self, key: Key) -> Entry | None:
        if not self.manager.verified:
            return None
        entry = self._shown(self.manager.private.near(self._private_key(key)))
        # What is stale may be suspect instead.
        return entry if entry is not None and entry.deadline > self.clock.monotonic() else None

    def hot_path(self) -> HotPath | None:
        path = self.client.hot_path()
        if path is None or self._way:
            return super().hot_path()
        return path._replace(lease=self.manager.lease)

    def _shown(self, entry: Entry | None) -> Entry | None:
        """What the private client holds, as the wrappers on the way there show it."""
        for wrapper in reversed(self._way):
            entry = wrapper._outer(entry)
        return entry

    def _private_key(self, key: Key) -> Key:
        for wrapper in self._way:
            key = wrapper.inner_key(key)
        return key

    def _found(self, key: Key, search: Search) -> Entry | None:
        manager = self.manager
        manager.start()
        inner = self._private_key(key)
        held = manager.copies.ledger.enter(name_of(inner), inner)
        try:
            search = search._replace(on_copy=held.copied)
            if manager.verified and not held.suspect:
                return self.client.find(key, search)
            found = self._confirmed(inner, held)
            if found is not None and not search.farthest:
                margin = max(search.ttl_skip or 0.0, 0.0)
                if found.deadline > self.clock.monotonic() + margin:
                    manager.confirmed += 1
                    return found
            manager.refetched += 1
            if not self._near.shares:
                return None
            return self.client.find(key, search._replace(afresh=True))
        finally:
            manager.copies.ledger.leave(held)

    def _confirmed(self, inner: Key, held: Held) -> Entry | None:
        """The copy, if the shared tier holds the same."""
        # In this order: a copy is made first, and its version noted then.
        version = held.version
        if version is None:
            return None
        try:
            near = self.manager.copies.peek(inner)
        except Exception:
            return None  # it is passed over, as by all tiers
        deadline = held.deadline
        if near is None or held.version is not version:
            return None
        entry = near if deadline is None else Entry(near.value, deadline)
        if entry.deadline <= self.clock.monotonic():
            return None
        confirmed = self._near.confirm(inner, held, entry)
        if confirmed is not None and held.version is version:
            held.deadline = None
        return self._shown(confirmed)

    def _found_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        manager = self.manager
        manager.start()
        wanted = list(dict.fromkeys(keys))
        inner = list(map(self._private_key, wanted))
        with manager.copies.ledger.using(map(name_of, inner), inner) as held:
            records = dict(zip(wanted, held, strict=True))
            verified = manager.verified
            sure = [key for key in wanted if verified and not records[key].suspect]
            doubtful = [key for key in wanted if not verified or records[key].suspect]
            search = search._replace(on_copies=lambda key, version: records[key].copied(version))
            found = self.client.find_many(sure, search) if sure else {}
            if doubtful and self._near.shares:
                manager.refetched += len(doubtful)
                found |= self.client.find_many(doubtful, search._replace(afresh=True))
            return {key: found[key] for key in wanted if key in found}

    # -- Writing -------------------------------------------------------------------

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        def store(held: Held) -> bool:
            if condition is not ALWAYS:
                return self.client.store(key, value, deadline, keep=keep, condition=condition)
            stored, held.version = self.client.store_versioned(key, value, deadline, keep=keep)
            return stored

        return self._changed(key, store, Kind.STORED, always=condition is ALWAYS, notes=True)

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        def store() -> dict[Key, bool]:
            return self.client.store_many(items, deadline, keep=keep)

        return self._changed_many(list(items), store, Kind.STORED)

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        def fill(held: Held) -> bool:
            filled = self.client.fill(key, value, deadline, keep=keep, claim=claim)
            held.version = claim.version
            return filled

        # Without a shared tier each process computes its own: if that took the others' copies,
        # none of them would ever be used.
        replaces = self.manager.quick_refresh and self._near.shares
        kind = Kind.STORED if replaces or claim.refreshes else None
        filled = self._changed(key, fill, kind, always=False, notes=True)
        if filled:
            self._given.filled(claim)
            self._tell(Kind.DONE, key)
        return filled

    def touch(self, key: Key, deadline: float) -> bool:
        if not self._near.shares and self._doubted(key):
            return False  # what cannot be believed is not to live longer
        return self._changed(key, lambda key: self.client.touch(key, deadline), None)

    def _doubted(self, key: Key) -> bool:
        held = self.manager.copies.ledger.get(name_of(self._private_key(key)))
        return not self.manager.verified or (held is not None and held.suspect)

    def outdate(self, key: Key) -> bool:
        return self._changed(key, self.client.outdate, Kind.EXPIRE)

    def discard(self, key: Key) -> bool:
        return self._changed(key, self.client.discard, Kind.DELETE)

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wanted = list(dict.fromkeys(keys))
        return self._changed_many(wanted, lambda: self.client.discard_many(wanted), Kind.DELETE)

    def sweep(self, before: float | None) -> int:
        if before is not None:
            return self.client.sweep(before)
        return self._cleared(lambda: self.client.sweep(None))

    def clear(self) -> None:
        self._cleared(self.client.clear)

    def _cleared(self, clear: Callable[[], T]) -> T:
        """Do *clear*, which empties the tiers, and tell of it."""
        done = True
        try:
            return clear()
        except UnsupportedOperation:
            done = False
            raise
        finally:
            if done:  # or broken off, nobody knows how far
                self.manager.publish(Kind.CLEAR, (b"",), settle=True)

    def _changed(
        self,
        key: Key,
        change: Callable[[Any], bool],
        kind: Kind | None,
        *,
        always: bool = True,
        notes: bool = False,
    ) -> bool:
        """Do *change* of *key*, and tell of it; *always*, or if it did anything.

        *change* is called with *key*; with its record, if it *notes* the version that it writes.
        """
        manager = self.manager
        if not manager.started:
            manager.start()
        inner = self._private_key(key) if self._way else key
        name = name_of(inner)
        done = always
        held = manager.copies.ledger.enter(name, inner)
        if held.suspect:
            manager.copies.renounce(held)
        held.version = None  # and no deadline: a call less for most changes
        try:
            changed = change(held if notes else key)
            done = done or changed
        except BaseException:
            done = True  # nobody knows how far it came
            raise
        finally:
            try:
                if kind is not None and done:
                    manager.publish(kind, (name,), settle=kind is not Kind.STORED)
            finally:
                manager.copies.ledger.leave(held)
        return changed

    def _changed_many(
        self, keys: list[Key], change: Callable[[], dict[Key, bool]], kind: Kind
    ) -> dict[Key, bool]:
        manager = self.manager
        manager.start()
        inner = [self._private_key(key) for key in keys]
        names = [name_of(key) for key in inner]
        with manager.copies.ledger.using(names, inner) as records:
            try:
                for held in records:
                    manager.copies.renounce(held)
                return change()
            finally:
                if names:
                    manager.publish(kind, names, settle=kind is not Kind.STORED)

    def _tell(self, kind: Kind, key: Key) -> None:
        self.manager.publish(kind, (name_of(self._private_key(key)),))

    # -- Claims --------------------------------------------------------------------

    def revoke(self, key: Key) -> None:
        self.client.revoke(key)

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        manager = self.manager
        manager.start()
        inner = self._private_key(key)
        held = manager.copies.ledger.enter(name_of(inner), inner)
        claim = None
        try:
            own = self.client.claim(key, ttl)
            if own is not None and manager.claims_on_bus:
                own = bus_claim(manager, own, name_of(inner), ttl)
            claim = own
        finally:
            if claim is None:
                manager.copies.ledger.leave(held)
        if claim is None:
            return None
        token, now = claim.token, self.clock.monotonic()
        self._given.add(token, held, now + ttl, now)

        def ended() -> None:
            if not self._given.ended(token):
                self._tell(Kind.ABORT, key)

        return claim.ending(ended).through(self, key)

    # -- What it is ----------------------------------------------------------------

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        return self.manager.follow(name_of(self._private_key(key)), changed)

    @property
    def authority(self) -> CacheClient:
        return announced(self.manager, self.client.authority)

    @cached_property
    def capabilities(self) -> Capabilities:
        # Claims and invalidations reach other processes, wherever the values lie, and may have to
        # wait for these.
        return self.client.capabilities._replace(shared=True, blocking=True)

    @property
    def stats(self) -> ClientStats:
        return self.counters.snapshot(self.near_hits)

    @property
    def coherence(self) -> CoherenceStats:
        """How the private tier is kept in step: a frozen snapshot."""
        return self.manager.stats

    def explain(self, key: Key) -> Explanation:
        inner = self._private_key(key)
        known = super().explain(key)
        held = self.manager.copies.ledger.get(name_of(inner))
        facts: list[tuple[str, object]] = [("verified", self.manager.verified)]
        if held is not None:
            facts.append(("suspect", held.suspect))
            facts.append(("version", held.version))
            if held.heard is not None:
                facts.append(("invalidated_ago", self.clock.monotonic() - held.heard))
        return replace(known, detail=(*known.detail, *facts))

    def __repr__(self) -> str:
        return f"<CoherentWrapperClient {self.manager.namespace!r} {self.client!r}>"


def _kept(manager: weakref.ref[CoherenceManager]) -> None:
    """The private client has failed, and may hold what was to go."""
    there = manager()
    if there is not None:
        there.distrust("a copy could not be dropped")
