"""How long things took: a histogram of fixed, small size that can be added to another."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final, Self

__all__ = ["TimingHistogram"]


class TimingHistogram:
    """Counts durations in buckets that grow by a twelfth of an octave.

    A percentile read from it is at most 6 % above the true one, from nanoseconds to
    hours, with no more than a few hundred counts kept.

    Threads: as of :class:`tiered.stats.counters.Counters`.
    """

    STEPS: Final = 12
    """Buckets for each doubling."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration."""
        nanoseconds = max(seconds * 1e9, 1.0)
        bucket = int(math.log2(nanoseconds) * self.STEPS)
        self._counts[bucket] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self._counts.values())

    def percentile(self, share: float) -> float:
        """The duration, in seconds, that *share* (0 to 1) of them do not exceed; 0 if none."""
        wanted = share * self.count
        seen = 0
        for bound, count in self.bounds():
            seen += count
            if seen >= wanted:
                return bound
        return 0.0

    def bounds(self) -> list[tuple[float, int]]:
        """The upper bound, in seconds, and the count of each bucket, in rising order."""
        return [
            (float(2.0 ** ((bucket + 1) / self.STEPS)) * 1e-9, self._counts[bucket])
            for bucket in sorted(self._counts)
        ]

    def counts(self) -> dict[int, int]:
        """Bucket to count, for sending to another process."""
        return dict(self._counts)

    def add(self, counts: dict[int, int], total: float) -> Self:
        """Add the counts of another histogram."""
        for bucket, count in counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.total += total
        return self
