"""What is counted of the calls of a cached function, or of a region."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from tiered.concurrency import fork
from tiered.stats.histogram import TimingHistogram

__all__ = ["CallCounters", "CallStats", "MissTimes"]


@dataclass(frozen=True, slots=True)
class MissTimes:
    """How long the function took when it was computed, failures included. All in seconds.

    Attributes:
        count: computations that have ended.
        total: of their times.
        shortest, longest: of their times; 0 before the first.
        buckets: pairs of an upper bound and the number of times below it and above the
            one before, in rising order; a bound is at most 6 % from the next.
    """

    count: int = 0
    total: float = 0.0
    shortest: float = 0.0
    longest: float = 0.0
    buckets: tuple[tuple[float, int], ...] = field(default=(), repr=False)

    @property
    def mean(self) -> float:
        """The average time; 0 before the first."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """The time that *share* (0 to 1) of the computations did not exceed; 0 if none."""
        seen = 0
        for bound, count in self.buckets:
            seen += count
            if seen >= share * self.count:
                return bound
        return 0.0


@dataclass(frozen=True, slots=True)
class CallStats:
    """What a decorated function, or a region, has done so far.

    Attributes:
        hits: calls answered with a fresh value, without computing or waiting.
        near_hits: those of them that the nearest tier answered on the fast path.
        stale: calls answered with a stale value or a placeholder, by a mode or an option
            that says so.
        misses: calls that found no fresh value.
        computations: how often the function itself ran.
        shared: calls that got the answer of a computation that was running already.
        failures: computations that raised.
        rescued: those of them that were answered with a stale value (``stale_if_error``).
        timeouts: calls that gave up waiting (``hard_timeout``).
        errors: failures of the cache (client, codec, key) that the callers did not see.
        miss_times: how long the computations took.
    """

    hits: int
    near_hits: int
    stale: int
    misses: int
    computations: int
    shared: int
    failures: int
    errors: int
    rescued: int = 0
    timeouts: int = 0
    miss_times: MissTimes = MissTimes()

    @property
    def hit_ratio(self) -> float:
        """Share of the calls that were hits, 0 to 1; 0 before the first call."""
        calls = self.hits + self.stale + self.misses
        return self.hits / calls if calls else 0.0


class CallCounters:
    """The live side. Threads: as in :class:`tiered.stats.counters.Counters`."""

    __slots__ = (
        "__weakref__",
        "_lock",
        "_longest",
        "_shortest",
        "_times",
        "computations",
        "errors",
        "failures",
        "far_hits",
        "misses",
        "rescued",
        "shared",
        "stale",
        "timeouts",
    )

    def __init__(self) -> None:
        self.far_hits = 0
        self.stale = 0
        self.misses = 0
        self.computations = 0
        self.shared = 0
        self.failures = 0
        self.rescued = 0
        self.timeouts = 0
        self.errors = 0
        self._times = TimingHistogram()
        self._shortest = float("inf")
        self._longest = 0.0
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock: whoever held it is not in this process."""
        self._lock = threading.Lock()

    def computed(self, seconds: float) -> None:
        """A computation took *seconds*."""
        with self._lock:
            self._times.record(seconds)
            self._shortest = min(self._shortest, seconds)
            self._longest = max(self._longest, seconds)

    def snapshot(self, near_hits: int) -> CallStats:
        """The counts as of now, with those of the fast path."""
        with self._lock:
            buckets = tuple(self._times.bounds())
            total, longest = self._times.total, self._longest
        count = sum(counted for _, counted in buckets)
        shortest = self._shortest if count else 0.0
        return CallStats(
            hits=near_hits + self.far_hits,
            near_hits=near_hits,
            stale=self.stale,
            misses=self.misses,
            computations=self.computations,
            shared=self.shared,
            failures=self.failures,
            errors=self.errors,
            rescued=self.rescued,
            timeouts=self.timeouts,
            miss_times=MissTimes(count, total, shortest, longest, buckets),
        )
