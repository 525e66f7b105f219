"""What a decorated function counts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CallCounters", "CallStats"]


@dataclass(frozen=True, slots=True)
class CallStats:
    """What a decorated function has done since it was decorated.

    Attributes:
        hits: calls answered with a fresh value, without computing or waiting.
        near_hits: those of them that the nearest tier answered on the fast path.
        stale: calls answered with a stale value while a refresh was on its way.
        misses: calls that found no fresh value.
        computations: how often the function itself ran.
        shared: calls that got the answer of a computation that was running already.
        failures: computations that raised.
        errors: failures of the cache (client, codec, key) that the callers did not see.
    """

    hits: int
    near_hits: int
    stale: int
    misses: int
    computations: int
    shared: int
    failures: int
    errors: int

    @property
    def hit_ratio(self) -> float:
        """Share of the calls that were hits, 0 to 1; 0 before the first call."""
        calls = self.hits + self.stale + self.misses
        return self.hits / calls if calls else 0.0


class CallCounters:
    """The live side. Threads: as in :class:`tiered.stats.counters.Counters`."""

    __slots__ = ("computations", "errors", "failures", "far_hits", "misses", "shared", "stale")

    def __init__(self) -> None:
        self.far_hits = 0
        self.stale = 0
        self.misses = 0
        self.computations = 0
        self.shared = 0
        self.failures = 0
        self.errors = 0

    def snapshot(self, near_hits: int) -> CallStats:
        """The counts as of now, with those of the fast path."""
        return CallStats(
            hits=near_hits + self.far_hits,
            near_hits=near_hits,
            stale=self.stale,
            misses=self.misses,
            computations=self.computations,
            shared=self.shared,
            failures=self.failures,
            errors=self.errors,
        )
