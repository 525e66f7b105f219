"""Clients stacked as tiers: read from the nearest, written through to the farthest.

::

            get(key)                                put(key, value, ttl)
    tier 0  near, small, fast     found? -> done    3. written, ttl x fraction 0
              ^ copied up           | no
    tier 1  shared, larger        found? -> copy    2. written, ttl x fraction 1
              ^ copied up           | no
    tier 2  far, slow             found? -> copy    1. written first: it decides

Inclusive: what a tier holds, the farther ones (should) hold too. Writes and
deletes go from far to near, reads from near to far, and copies upwards are
checked against the writes that happened meanwhile (:mod:`tiered.concurrency.generations`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tiered.clients.base import ANY, CacheClient, Claim, Entry, HotPath, Search, Versioned
from tiered.clients.claimed import OURS
from tiered.clients.near import NearReads
from tiered.clients.tier import Tier, TieredStats, TierStats
from tiered.clients.writethrough import WriteThrough
from tiered.concurrency.generations import Watch
from tiered.sentinels import MISSING, MissingType
from tiered.typing import Key, KeyWatch

__all__ = ["TierStats", "TieredInclusiveClient", "TieredStats"]

_AFRESH = Search(afresh=True)


class TieredInclusiveClient(WriteThrough):
    """Several clients as one.

    A tier that raises is passed over and counted; the others answer. An
    unencodable key is the caller's mistake and raises whichever tier finds it.

    Args:
        clients: the tiers, nearest first.
        ttl_fractions: for each tier the share of a value's life that it gets, above
            0 and up to 1; also when a value is copied up. All 1 by default.

    Raises:
        TypeError: a tier is no client.
        ValueError: no tiers, the same client twice, fractions that do not fit, or
            clients with different clocks.

    Threads: safe. Two writers of one key at a time leave it out of the nearer tiers,
    so that the farthest decides who came last.
    """

    def __init__(self, *clients: CacheClient, ttl_fractions: Sequence[float] | None = None) -> None:
        super().__init__(*clients, ttl_fractions=ttl_fractions)
        # A subclass that changes what an entry is must be asked on every path.
        kind = type(self)
        own = (kind.entry, kind.find) == (TieredInclusiveClient.entry, TieredInclusiveClient.find)
        path = self.hot_path() if own else None
        self.read_near(path, self.clock.monotonic, CacheClient.get)

    # -- Reading ---------------------------------------------------------------

    get = NearReads.get

    def entry(self, key: Key) -> Entry | None:
        # A hit in the first tier is what tiers are for: no closure, no guard call.
        first = self._tiers[0]
        try:
            found = first.client.entry(key)
        except Exception:
            return self.find(key, ANY)
        if found is not None and found.deadline > self.clock.monotonic():
            first.hits += 1
            return found
        first.misses += 1
        return self._find_beyond(key, found, ANY)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self.find_many(keys, ANY)

    def near(self, key: Key) -> Entry | None:
        return self._tiers[0].client.near(key)

    def hot_path(self) -> HotPath | None:
        return self._tiers[0].client.hot_path()

    def find(self, key: Key, search: Search) -> Entry | None:
        if search.afresh:
            return self._find_beyond(key, None, search)
        first = self._tiers[0]
        found = self._ask(first, lambda: first.client.entry(key), None)
        if self._will_do(first, found, search):
            return found
        return self._find_beyond(key, found, search)

    def versioned(self, key: Key) -> Versioned:
        """What the farthest tier holds, whose copies the others have."""
        farthest = self._tiers[-1]
        return self._ask(farthest, lambda: farthest.client.versioned(key), Versioned(None))

    def version(self, key: Key) -> object | None:
        """Of what the farthest tier holds."""
        farthest = self._tiers[-1]
        return self._ask(farthest, lambda: farthest.client.version(key), None)

    def _find_beyond(self, key: Key, nearest: Entry | None, search: Search) -> Entry | None:
        """Look past the first tier, which held *nearest*; the best of all that is found."""
        with self._generations.reading(key) as watch:
            best, depth, version = nearest, 0, None
            for index, tier in enumerate(self._tiers[1:], start=1):
                if search.afresh and tier is not self._tiers[-1]:
                    continue
                found, which = self._look(tier, key, search)
                if found is not None and (
                    best is None or search.farthest or found.deadline > best.deadline
                ):
                    best, depth, version = found, index, which
                if self._will_do(tier, found, search):
                    break
            note = None if search.on_copy is None else partial(search.on_copy, version)
            promoted = depth and self._promote(key, best, depth, watch, note)
        if promoted and best is not None:
            self._announce(search, key, best)
        return best

    def _look(self, tier: Tier, key: Key, search: Search) -> Versioned:
        if search.on_copy is None or tier is not self._tiers[-1]:
            read = partial(tier.client.find, key, _AFRESH) if search.afresh else None
            return Versioned(self._ask(tier, read or partial(tier.client.entry, key), None))
        return self._ask(tier, partial(tier.client.versioned, key), Versioned(None))

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        missing = list(dict.fromkeys(keys))
        best: dict[Key, tuple[Entry, int]] = {}
        promoted: list[Key] = []
        with contextlib.ExitStack() as watching:
            watches: dict[Key, Watch] = {}
            for index, tier in enumerate(self._tiers):
                if index == 1:
                    watches = {
                        key: watching.enter_context(self._generations.reading(key))
                        for key in missing
                    }
                if search.afresh and tier is not self._tiers[-1]:
                    continue
                found = self._ask(tier, _many(tier, missing, search), dict[Key, Entry]())
                still: list[Key] = []
                for key in missing:
                    entry = found.get(key)
                    if entry is not None and (
                        key not in best or search.farthest or entry.deadline > best[key][0].deadline
                    ):
                        best[key] = (entry, index)
                    if not self._will_do(tier, entry, search):
                        still.append(key)
                missing = still
                if not missing:
                    break
            for key, watch in watches.items():
                entry, depth = best.get(key, (None, 0))
                note = None if search.on_copies is None else partial(search.on_copies, key, None)
                if depth and self._promote(key, entry, depth, watch, note):
                    promoted.append(key)
        for key in promoted:
            self._announce(search, key, best[key][0])
        return {key: entry for key, (entry, _) in best.items()}

    def _will_do(self, tier: Tier, found: Entry | None, search: Search) -> bool:
        """Whether there is no reason to look farther; counts the tier's hit or miss."""
        margin = search.ttl_skip
        if margin is None or margin < 0:
            margin = 0.0
        if found is not None and found.deadline > self.clock.monotonic() + margin:
            tier.hits += 1
            return True
        tier.misses += 1
        return False

    def _promote(
        self,
        key: Key,
        found: Entry | None,
        depth: int,
        watch: Watch,
        note: Callable[[], object] | None = None,
    ) -> bool:
        """Copy a fresh *found* from the tier at *depth* to all nearer ones, and call *note*."""
        now = self.clock.monotonic()
        if found is None or found.deadline <= now:
            return False
        value, deadline = found.value, found.deadline

        def copy() -> None:
            for tier in reversed(self._tiers[:depth]):
                stored = self._ask(
                    tier,
                    partial(tier.client.store, key, value, tier.deadline(deadline, now)),
                    False,
                )
                tier.promotions += stored
            if note is not None:
                note()

        return watch.publish(copy)

    def copy_near(self, key: Key, confirm: Callable[[], Entry | None]) -> Entry | None:
        """Hold what *confirm* gives in the nearest tier as it is; what it gave.

        Not held if *key* is written, or dropped, from the call on.
        """
        nearest = self._tiers[0]
        with self._generations.reading(key) as watch:
            entry = confirm()
            if entry is not None:
                value, deadline = entry
                store = partial(nearest.client.store, key, value, deadline)
                watch.publish(lambda: self._ask(nearest, store, False))
        return entry

    # -- Claims ----------------------------------------------------------------

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        farthest = self._tiers[-1]
        now = self.clock.monotonic()
        with contextlib.ExitStack() as watching:
            watch = watching.enter_context(self._generations.reading(key))
            claim: Claim | MissingType | None = self._ask(
                farthest,
                lambda: farthest.client.claim(key, ttl),
                # What cannot reach the others can still keep the threads here apart.
                MISSING,
            )
            if claim is MISSING:
                claim = super().claim(key, ttl)
                if claim is not None:
                    claim.lease = OURS
            if claim is None:
                return None
            watching.pop_all()
        return self._claimed.add(claim.through(self, key), watch, now + ttl, now)

    def revoke(self, key: Key) -> None:
        farthest = self._tiers[-1]
        if self._claims.used:
            self._claims.revoke(key)
        try:
            farthest.client.revoke(key)
        except Exception as error:
            self._pass_over(farthest, error)

    def watching(self, key: Key) -> KeyWatch:
        return self._generations.reading(key)

    # -- Fewer tiers -----------------------------------------------------------

    def first_tiers(self, count: int) -> CacheClient:
        if count >= len(self._tiers):
            return self
        view = TieredInclusiveClient.__new__(TieredInclusiveClient)
        view.clock = self.clock
        view.counters = self.counters
        view._tiers = self._tiers[:count]
        view._generations = self._generations
        view._claimed = self._claimed
        view._kept = self._kept
        view._reports = self._reports
        view.read_near(None, self.clock.monotonic, CacheClient.get)
        return view


def _many(tier: Tier, keys: list[Key], search: Search) -> Callable[[], dict[Key, Entry]]:
    if search.afresh:
        return partial(tier.client.find_many, list(keys), _AFRESH)  # it may be tiers itself
    return partial(tier.client.entries, keys)
