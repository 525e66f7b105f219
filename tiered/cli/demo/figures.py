"""How well the workers were kept in step; as lines and as data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tiered.cli.demo.coherent import Figures
from tiered.cli.demo.units import duration
from tiered.stats.histogram import TimingHistogram

__all__ = ["CoherenceReport"]


class CoherenceReport:
    """The latest of what every worker has seen.

    Attributes:
        killed_at: when (monotonic) the broker was killed, if it was.
    """

    def __init__(self) -> None:
        self._latest: dict[int, Figures] = {}
        self._latencies = TimingHistogram()
        self._longest = 0.0
        self.killed_at: float | None = None

    def take(self, number: int, figures: Figures) -> None:
        """Take what the worker with *number* has seen."""
        self._latest[number] = figures
        for seconds in figures.latencies:
            self._latencies.record(seconds)
            self._longest = max(self._longest, seconds)

    @property
    def stale(self) -> int:
        """Answers that were older than what everybody had been told of."""
        return sum(one.stale for one in self._latest.values())

    @property
    def takeover(self) -> float | None:
        """Seconds from the broker's death until all workers believed the next one."""
        if self.killed_at is None or not self._latest:
            return None
        return max(_believed_after(one, self.killed_at) for one in self._latest.values())

    def data(self) -> dict[str, Any]:
        """Everything, for ``--json``. Times are in seconds."""
        seen, takeover = self._latest.values(), self.takeover
        return {
            "changes": sum(one.changes for one in seen),
            "unsettled": sum(one.unsettled for one in seen),
            "latency": {
                "count": self._latencies.count,
                "p50": min(self._latencies.percentile(0.5), self._longest),
                "p99": min(self._latencies.percentile(0.99), self._longest),
                "max": self._longest,
            },
            "broker_killed": self.killed_at is not None,
            # Nobody may have taken over yet.
            "takeover": takeover if takeover is not None and takeover < math.inf else None,
            "confirmed": sum(one.confirmed for one in seen),
            "checked": sum(one.checked for one in seen),
            "stale": self.stale,
        }

    def lines(self) -> Iterator[str]:
        """Everything, for people."""
        data = self.data()
        latency = data["latency"]
        if latency["count"]:
            yield (
                f"invalidations  {data['changes']:,}, gone from the other workers after: "
                f"p50 {duration(latency['p50'])}, p99 {duration(latency['p99'])}, "
                f"max {duration(latency['max'])}"
            )
        if data["broker_killed"]:
            taken = data["takeover"]
            yield "broker         killed once, " + (
                "nobody had taken over at the end"
                if taken is None
                else f"and replaced by a worker: all in step again after {duration(taken)}"
            )
        yield f"unverified     {data['confirmed']:,} reads, confirmed or made anew"
        stale = f"{data['stale']:,}" if data["stale"] else "none"
        yield f"stale reads    {stale} of {data['checked']:,} that were checked"


def _believed_after(figures: Figures, moment: float) -> float:
    """Seconds from *moment* until the bus was believed again; ``inf`` if it was not."""
    later = [at - moment for at in figures.believed.values() if at > moment]
    return min(later, default=math.inf)
