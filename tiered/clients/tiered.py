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
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

from tiered.clients.base import (
    ALWAYS,
    ANY,
    IF_ABSENT,
    CacheClient,
    Capabilities,
    Claim,
    Condition,
    Entry,
    HotPath,
    Search,
    Versioned,
)
from tiered.clients.claimed import ClaimedKeys
from tiered.clients.explanation import Explanation
from tiered.clients.near import NearReads
from tiered.concurrency.generations import Generations, Watch
from tiered.errors import KeyEncodingError
from tiered.sentinels import MISSING, MissingType
from tiered.stats.counters import ClientStats
from tiered.stats.reports import Reports
from tiered.typing import Following, Key, KeyWatch, OnChange
from tiered.validation import check_number

__all__ = ["TierStats", "TieredInclusiveClient", "TieredStats"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TierStats:
    """What one tier has contributed.

    Attributes:
        client: the tier's ``repr``.
        hits: reads that this tier answered with a fresh value.
        misses: reads that went past it.
        promotions: values copied into it from farther tiers.
        errors: calls of it that raised, and were skipped.
    """

    client: str
    hits: int
    misses: int
    promotions: int
    errors: int


@dataclass(frozen=True, slots=True)
class TieredStats(ClientStats):
    """The counts of the whole, and of each tier, nearest first."""

    tiers: tuple[TierStats, ...] = ()


_AFRESH = Search(afresh=True)
_OURS = object()
"""The lease of a claim among our own threads, given where the farthest tier failed."""


class _Tier:
    """A client in its place. Threads: the counts are as in ``stats.counters``."""

    __slots__ = ("client", "errors", "fraction", "hits", "misses", "promotions")

    def __init__(self, client: CacheClient, fraction: float) -> None:
        self.client = client
        self.fraction = fraction
        self.hits = 0
        self.misses = 0
        self.promotions = 0
        self.errors = 0

    def deadline(self, deadline: float, now: float) -> float:
        """The tier's share of a life until *deadline*; never more than that life."""
        return now + (deadline - now) * self.fraction if deadline > now else deadline

    def snapshot(self) -> TierStats:
        return TierStats(repr(self.client), self.hits, self.misses, self.promotions, self.errors)


class TieredInclusiveClient(CacheClient, NearReads):
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
        _check_tiers(clients)
        fractions = _check_fractions(ttl_fractions, len(clients))
        self.clock = clients[0].clock
        self._tiers = [_Tier(*pair) for pair in zip(clients, fractions, strict=True)]
        # Others may have tiers on the same nearest one: what they delete is not promoted here.
        self._generations: Generations = clients[0].attachments.setdefault(
            Generations, Generations()
        )
        self._claimed = ClaimedKeys()
        self._reports = Reports("tiered.clients", self.clock)
        # A subclass that changes what an entry is must be asked on every path.
        kind = type(self)
        own = (kind.entry, kind.find) == (TieredInclusiveClient.entry, TieredInclusiveClient.find)
        path = self.hot_path() if own else None
        self.read_near(path, self.clock.monotonic, CacheClient.get)

    @property
    def clients(self) -> tuple[CacheClient, ...]:
        """The tiers, nearest first."""
        return tuple(tier.client for tier in self._tiers)

    @property
    def ttl_fractions(self) -> tuple[float, ...]:
        """The share of a life that each tier gets."""
        return tuple(tier.fraction for tier in self._tiers)

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

    def _look(self, tier: _Tier, key: Key, search: Search) -> Versioned:
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

    def _will_do(self, tier: _Tier, found: Entry | None, search: Search) -> bool:
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

    # -- Writing ---------------------------------------------------------------

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        now = self.clock.monotonic()

        def store(tier: _Tier, condition: Condition) -> bool:
            return tier.client.store(
                key, value, tier.deadline(deadline, now), keep=keep, condition=condition
            )

        with self._generations.writing(key) as watch:
            if condition is IF_ABSENT:
                # The farthest tier decides, and the nearer ones follow; but what one of
                # these still holds, after the farthest lost it, is there for readers.
                nearer = self._tiers[:-1]
                if any(self._is_fresh(tier, key, now) for tier in nearer):
                    return False
                farthest = self._tiers[-1]
                if not self._ask(farthest, lambda: store(farthest, IF_ABSENT), False):
                    return False
                return self._write_down(watch, key, lambda tier: store(tier, ALWAYS), farthest=True)
            return self._write_down(watch, key, lambda tier: store(tier, condition))

    def store_versioned(
        self, key: Key, value: Any, deadline: float, *, keep: float = 0.0
    ) -> tuple[bool, object | None]:
        if type(self).store is not TieredInclusiveClient.store:
            return super().store_versioned(key, value, deadline, keep=keep)
        now = self.clock.monotonic()
        farthest = self._tiers[-1]

        def store(tier: _Tier) -> bool:
            return tier.client.store(key, value, tier.deadline(deadline, now), keep=keep)

        with self._generations.writing(key) as watch:
            life = farthest.deadline(deadline, now)
            failed: tuple[bool, object | None] = (False, None)
            stored, version = self._ask(
                farthest,
                lambda: farthest.client.store_versioned(key, value, life, keep=keep),
                failed,
            )
            return self._write_down(watch, key, store, farthest=stored), version

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        now = self.clock.monotonic()
        farthest = self._tiers[-1]

        def store(tier: _Tier) -> bool:
            return tier.client.store(key, value, tier.deadline(deadline, now), keep=keep)

        def fill() -> bool:
            life = farthest.deadline(deadline, now)
            return farthest.client.fill(key, value, life, keep=keep, claim=claim)

        if type(self).store is not TieredInclusiveClient.store:
            return super().fill(key, value, deadline, keep=keep, claim=claim)
        with self._generations.writing(key) as watch:
            # From here on, whoever changes the key meets a writer.
            if claim.lease is None or claim.lease is _OURS:
                if self._claimed.changed(claim, key):
                    claim.lost = True
                    return False
                if claim.lease is None:  # of a tier that judges before it is written
                    return claim.use(lambda: self._write_down(watch, key, store))
                # Who could not be asked for the claim is not filled either.
                return claim.use(lambda: self._fill_near(claim, watch, key, store))
            written = self._ask(farthest, fill, False)
            if claim.lost:
                return False
            if written:
                return self._write_down(watch, key, store, farthest=True)
            # Where the farthest tier failed, the nearer ones serve all the same.
            return self._fill_near(claim, watch, key, store)

    def _fill_near(
        self, claim: Claim, watch: Watch, key: Key, store: Callable[[_Tier], bool]
    ) -> bool:
        """*store* in all tiers but the farthest, which did not say whether that is right."""
        first, done = self._tiers[0], False
        middle = self._tiers[1:-1]
        if not self._claimed.changed(claim, key):
            if first is self._tiers[-1]:
                return False
            for tier in reversed(middle):
                done |= self._ask(tier, partial(store, tier), False)
            kept: list[bool] = []
            if self._claimed.unless_changed(
                claim,
                key,
                lambda: kept.append(self._settle(watch, first, key, partial(store, first))),
            ):
                return kept[0] or done
            # Whoever changed it may have come past before it was there.
            for tier in middle:
                self._ask(tier, partial(tier.client.discard, key), False)
        claim.lost = True
        return False

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        now = self.clock.monotonic()
        written = dict.fromkeys(items, False)
        with contextlib.ExitStack() as watching:
            watches = {key: watching.enter_context(self._generations.writing(key)) for key in items}
            for tier in reversed(self._tiers[1:]):
                stored = self._ask(
                    tier,
                    partial(tier.client.store_many, items, tier.deadline(deadline, now), keep=keep),
                    dict[Key, bool](),
                )
                for key, watch in watches.items():
                    written[key] |= stored.get(key, False)
                    watch.passed()
            first = self._tiers[0]
            life = first.deadline(deadline, now)
            for key, watch in watches.items():
                written[key] |= self._settle(
                    watch,
                    first,
                    key,
                    partial(first.client.store, key, items[key], life, keep=keep),
                )
        return written

    def touch(self, key: Key, deadline: float) -> bool:
        now = self.clock.monotonic()
        with self._generations.writing(key) as watch:
            farthest = self._tiers[-1]
            if not self._ask(farthest, lambda: farthest.client.touch(key, deadline), False):
                # A nearer copy that the farthest tier does not back must not outlive it.
                return False
            if farthest.client.capabilities.shared:
                # Others may have replaced there what the nearer tiers have copies of.
                return self._write_down(
                    watch, key, lambda tier: tier.client.discard(key), farthest=True
                )
            return self._write_down(
                watch,
                key,
                lambda tier: tier.client.touch(key, tier.deadline(deadline, now)),
                farthest=True,
            )

    def outdate(self, key: Key) -> bool:
        with self._generations.writing(key) as watch:
            return self._write_down(watch, key, lambda tier: tier.client.outdate(key))

    def discard(self, key: Key) -> bool:
        # As _write_down does it, with as few calls as possible: others serve what they hold
        # until this is done, and they are told of it.
        first, found = self._tiers[0], False
        state = self._generations.enter(key, True)
        try:
            for tier in self._farther:
                if tier is not self._farther[0]:
                    state.passed()
                try:
                    found |= tier.client.discard(key)
                except Exception as error:
                    self._pass_over(tier, error)
            try:
                with state.lock:
                    state.version += 1
                    found |= first.client.discard(key)
            except Exception as error:
                self._drop_again(first, key, error)
            return found
        finally:
            self._generations.leave(key, state, True)

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wanted = list(dict.fromkeys(keys))
        found = dict.fromkeys(wanted, False)
        with contextlib.ExitStack() as watching:
            watches = {
                key: watching.enter_context(self._generations.writing(key)) for key in wanted
            }
            for tier in reversed(self._tiers):
                gone = self._ask(tier, partial(tier.client.discard_many, wanted), dict[Key, bool]())
                for key, watch in watches.items():
                    found[key] |= gone.get(key, False)
                    watch.passed()
        return found

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        farthest = self._tiers[-1]
        return self._ask(farthest, lambda: farthest.client.follow(key, changed), None)

    def when_late(self, told: Callable[[], object]) -> None:
        for tier in self._tiers:
            tier.client.when_late(told)

    def drop_near(self, key: Key) -> None:
        # As a writer who came as far as the farthest tier in another process.
        first, farthest = self._tiers[0], self._tiers[-1]
        state = self._generations.enter(key, True)
        try:
            try:
                farthest.client.drop_near(key)
            except Exception as error:
                self._pass_over(farthest, error)
            for tier in self._farther[1:]:
                state.passed()
                try:
                    tier.client.discard(key)
                except Exception as error:
                    self._pass_over(tier, error)
            if first is not farthest:
                try:
                    with state.lock:
                        state.version += 1
                        first.client.discard(key)
                except Exception as error:
                    self._drop_again(first, key, error)
        finally:
            self._generations.leave(key, state, True)

    def sweep(self, before: float | None) -> int:
        swept = 0
        for tier in reversed(self._tiers):
            if before is None:
                # The claims on what the tiers hold are theirs.
                self._ask(tier, tier.client.clear, None)
            else:
                swept += self._ask(tier, partial(tier.client.sweep, before), 0)
            self._generations.passed_all()
        return swept

    def _write_down(
        self,
        watch: Watch,
        key: Key,
        write: Callable[[_Tier], bool],
        *,
        farthest: bool | None = None,
    ) -> bool:
        """*write* each tier from far to near; whether any said that it did something.

        *farthest* is what the farthest tier said, where that was written already.
        """
        done = farthest is True
        if farthest is not None:
            watch.passed()
        for tier in reversed(self._tiers[1 : None if farthest is None else -1]):
            done |= self._ask(tier, partial(write, tier), False)
            watch.passed()
        first = self._tiers[0]
        if farthest is not None and len(self._tiers) == 1:
            return done
        return self._settle(watch, first, key, partial(write, first)) or done

    def _settle(self, watch: Watch, tier: _Tier, key: Key, write: Callable[[], bool]) -> bool:
        """Write the nearest tier; what cannot be written there must not stay as it was."""
        drop = partial(self._ask, tier, partial(tier.client.discard, key), False)
        errors = tier.errors
        written = watch.settle(partial(self._ask, tier, write, False), drop)
        if tier.errors > errors:
            drop()
        return written

    def _drop_again(self, tier: _Tier, key: Key, error: Exception) -> None:
        """To drop *key* from the nearest *tier* has failed with *error*; it must not stay there."""
        self._pass_over(tier, error)
        self._ask(tier, partial(tier.client.discard, key), False)

    @cached_property
    def _farther(self) -> tuple[_Tier, ...]:
        """All but the nearest, the farthest first."""
        return tuple(reversed(self._tiers[1:]))

    def _is_fresh(self, tier: _Tier, key: Key, now: float) -> bool:
        entry = self._ask(tier, partial(tier.client.entry, key), None)
        return entry is not None and entry.deadline > now

    def _ask(self, tier: _Tier, call: Callable[[], T], fallback: T) -> T:
        """*call*'s answer, or *fallback* if the tier fails."""
        try:
            return call()
        except Exception as error:
            self._pass_over(tier, error)
            return fallback

    def _pass_over(self, tier: _Tier, error: Exception) -> None:
        """*tier* has failed with *error*, which is being handled."""
        if isinstance(error, KeyEncodingError):
            raise error  # the caller's mistake, not the tier's failure
        tier.errors += 1
        self.counters.errors += 1
        self._reports.warn(
            (id(tier), type(error)), "tier %r failed and is passed over: %r", tier.client, error
        )

    # -- What it is ------------------------------------------------------------

    def first_tiers(self, count: int) -> CacheClient:
        if count >= len(self._tiers):
            return self
        view = TieredInclusiveClient.__new__(TieredInclusiveClient)
        view.clock = self.clock
        view.counters = self.counters
        view._tiers = self._tiers[:count]
        view._generations = self._generations
        view._claimed = self._claimed
        view._reports = self._reports
        view.read_near(None, self.clock.monotonic, CacheClient.get)
        return view

    @property
    def authority(self) -> CacheClient:
        return self._tiers[-1].client.authority

    @cached_property
    def capabilities(self) -> Capabilities:
        tiers = [tier.client.capabilities for tier in self._tiers]
        return Capabilities(
            shared=any(tier.shared for tier in tiers),
            near=tiers[0].near,
            blocking=any(tier.blocking for tier in tiers),
            clearable=all(tier.clearable for tier in tiers),
            fenced=tiers[-1].fenced,
            bytes_only=any(tier.bytes_only for tier in tiers),
            authentic=all(tier.authentic for tier in tiers),
        )

    @property
    def concurrency(self) -> float:
        return min(tier.client.concurrency for tier in self._tiers)

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
                    claim.lease = _OURS
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

    def wait(self, key: Key, timeout: float | None = None) -> bool:
        ends = math.inf if timeout is None else self.clock.monotonic() + timeout
        for tier in self._tiers:
            left = None if timeout is None else max(0.0, ends - self.clock.monotonic())
            if not tier.client.wait(key, left):
                return False
        return True

    @property
    def is_async(self) -> bool:
        return any(tier.client.is_async for tier in self._tiers)

    @property
    def capacity(self) -> float:
        return max(tier.client.capacity for tier in self._tiers)

    @property
    def usage(self) -> float:
        return max(tier.client.usage for tier in self._tiers)

    @property
    def stats(self) -> TieredStats:
        near = self.near_hits
        tiers = tuple(tier.snapshot() for tier in self._tiers)
        tiers = (replace(tiers[0], hits=tiers[0].hits + near), *tiers[1:])
        whole = self.counters.snapshot(near)
        return TieredStats(
            hits=whole.hits,
            misses=whole.misses,
            puts=whole.puts,
            drops=whole.drops,
            deletes=whole.deletes,
            errors=whole.errors,
            tiers=tiers,
        )

    def explain(self, key: Key) -> Explanation:
        tiers = tuple(tier.client.explain(key) for tier in self._tiers)
        fullest = max(tiers, key=lambda tier: -math.inf if tier.ttl is None else tier.ttl)
        return Explanation(
            repr(self), key, any(tier.found for tier in tiers), fullest.ttl, tiers=tiers
        )

    def close(self) -> None:
        with contextlib.ExitStack() as closing:
            for tier in self._tiers:
                closing.callback(tier.client.close)

    def __repr__(self) -> str:
        return f"<TieredInclusiveClient [{' | '.join(repr(t.client) for t in self._tiers)}]>"


def _many(tier: _Tier, keys: list[Key], search: Search) -> Callable[[], dict[Key, Entry]]:
    if search.afresh:
        return partial(tier.client.find_many, list(keys), _AFRESH)  # it may be tiers itself
    return partial(tier.client.entries, keys)


def _check_tiers(clients: Sequence[Any]) -> None:
    if not clients:
        raise ValueError("clients must name at least one tier, not none")
    for index, client in enumerate(clients):
        if not isinstance(client, CacheClient):
            raise TypeError(f"clients[{index}] must be a CacheClient, not {client!r}")
        if any(client is other for other in clients[:index]):
            raise ValueError(
                f"clients[{index}] is {client!r} again; each tier must be a client of its own"
            )
        if client.clock is not clients[0].clock:
            raise ValueError(
                f"clients[{index}] has the clock {client.clock!r} and clients[0] has "
                f"{clients[0].clock!r}; deadlines can be compared on one clock only"
            )


def _check_fractions(fractions: Any, tiers: int) -> Sequence[float]:
    if fractions is None:
        return (1.0,) * tiers
    if isinstance(fractions, str) or not isinstance(fractions, Sequence):
        raise TypeError(f"ttl_fractions must be a sequence of numbers, not {fractions!r}")
    if len(fractions) != tiers:
        raise ValueError(f"ttl_fractions must hold {tiers} numbers, one a tier, not {fractions!r}")
    for index, fraction in enumerate(fractions):
        name = f"ttl_fractions[{index}]"
        check_number(name, fraction, low=0.0, hint="above 0 and at most 1")
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"{name} must be above 0 and at most 1, not {fraction!r}")
    return tuple(fractions)
