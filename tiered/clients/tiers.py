"""What clients stacked as tiers are together, and what becomes of one that fails."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from tiered.clients.base import CacheClient, Capabilities
from tiered.clients.claimed import ClaimedKeys
from tiered.clients.explanation import Explanation
from tiered.clients.near import NearReads
from tiered.clients.tier import Tier, TieredStats, tiers_of
from tiered.concurrency.generations import Generations
from tiered.errors import KeyEncodingError
from tiered.stats.reports import Reports
from tiered.typing import Following, Key, OnChange

__all__ = ["Tiers"]

T = TypeVar("T")


class Tiers(CacheClient, NearReads):
    """Several clients as one; how they are read and written is a subclass's.

    Threads: safe.
    """

    def __init__(self, *clients: CacheClient, ttl_fractions: Sequence[float] | None = None) -> None:
        self._tiers = tiers_of(clients, ttl_fractions)
        self.clock = clients[0].clock
        # Others may have tiers on the same nearest one: what they delete is not promoted here.
        self._generations: Generations = clients[0].attachments.setdefault(
            Generations, Generations()
        )
        self._claimed = ClaimedKeys()
        self._kept: list[Callable[[], object]] = []
        self._reports = Reports("tiered.clients", self.clock)

    @property
    def clients(self) -> tuple[CacheClient, ...]:
        """The tiers, nearest first."""
        return tuple(tier.client for tier in self._tiers)

    @property
    def ttl_fractions(self) -> tuple[float, ...]:
        """The share of a life that each tier gets."""
        return tuple(tier.fraction for tier in self._tiers)

    def _ask(self, tier: Tier, call: Callable[[], T], fallback: T) -> T:
        """*call*'s answer, or *fallback* if the tier fails."""
        try:
            return call()
        except Exception as error:
            self._pass_over(tier, error)
            return fallback

    def _pass_over(self, tier: Tier, error: Exception) -> None:
        """*tier* has failed with *error*, which is being handled."""
        if isinstance(error, KeyEncodingError):
            raise error  # the caller's mistake, not the tier's failure
        tier.errors += 1
        self.counters.errors += 1
        self._reports.warn(
            (id(tier), type(error)), "tier %r failed and is passed over: %r", tier.client, error
        )

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

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        farthest = self._tiers[-1]
        return self._ask(farthest, lambda: farthest.client.follow(key, changed), None)

    def when_late(self, told: Callable[[], object]) -> None:
        for tier in self._tiers:
            tier.client.when_late(told)

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
