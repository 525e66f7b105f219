"""What the workers did, added up; as a table and as data."""

from __future__ import annotations

import platform
from collections import Counter
from typing import Any

from tiered.cli.demo.figures import CoherenceReport
from tiered.cli.demo.units import duration
from tiered.cli.demo.worker import SOURCES, Progress
from tiered.cli.demo.workload import python_version
from tiered.stats.histogram import TimingHistogram

__all__ = ["Report"]


class Report:
    """The latest counts of every worker.

    Args:
        workers: how many there are.
        keys: how many different keys may be asked for.
        shared_tier: what the shared tier is, in words.

    Attributes:
        coherence: how well they were kept in step.
        seconds: since they were started.
    """

    def __init__(self, workers: int, keys: int, shared_tier: str) -> None:
        self._workers = workers
        self._keys = keys
        self._shared_tier = shared_tier
        self._latest: dict[int, Progress] = {}
        self._computed: Counter[str] = Counter()
        self.coherence = CoherenceReport()
        self.seconds = 0.0

    def take(self, progress: Progress) -> None:
        """Take what a worker says."""
        self._latest[progress.number] = progress
        self._computed.update(progress.computed)
        if progress.figures is not None:
            self.coherence.take(progress.number, progress.figures)

    def timings(self) -> dict[str, TimingHistogram]:
        """The latencies of all workers, by where the answer came from."""
        whole = {source: TimingHistogram() for source in SOURCES}
        for progress in self._latest.values():
            for source, (counts, total) in progress.timings.items():
                whole[source].add(counts, total)
        return whole

    def line(self) -> str:
        """One line of progress."""
        timings = self.timings()
        requests = sum(timing.count for timing in timings.values())
        shares = "  ".join(
            f"{source} {timing.count / requests:.1%}"
            for source, timing in timings.items()
            if timing.count
        )
        return f"{self.seconds:5.1f} s  {requests:>9,} requests  {shares}"

    def data(self) -> dict[str, Any]:
        """Everything, for ``--json``. Times are in seconds."""
        timings = self.timings()
        requests = sum(timing.count for timing in timings.values())
        saved = sum(progress.saved for progress in self._latest.values())
        spent = sum(timing.total for timing in timings.values())
        return {
            "workers": self._workers,
            "seconds": round(self.seconds, 3),
            "shared_tier": self._shared_tier,
            "python": python_version(),
            "machine": platform.machine(),
            "requests": requests,
            "keys": {"known": self._keys, "asked": len(self._computed)},
            "computations": {
                "total": self._computed.total(),
                "distinct_keys": len(self._computed),
                "repeated": self._computed.total() - len(self._computed),
            },
            "hits": {source: timings[source].count for source in ("L1", "L2")},
            "answers": {
                source: {
                    "count": timing.count,
                    "share": timing.count / requests if requests else 0.0,
                    "p50": timing.percentile(0.5),
                    "p99": timing.percentile(0.99),
                }
                for source, timing in timings.items()
            },
            "time": {
                "spent": spent,
                "without_cache": spent + saved,
                "saved": saved,
                "factor": (spent + saved) / spent if spent else 0.0,
            },
            "errors": sum(progress.errors for progress in self._latest.values()),
            "coherence": self.coherence.data(),
        }

    def table(self) -> str:
        """Everything, for people."""
        data = self.data()
        lines = [
            f"{data['workers']} workers for {data['seconds']:.1f} s, "
            f"shared tier: {data['shared_tier']}",
            "",
            f"{'answered by':<14}{'requests':>12}{'share':>9}{'p50':>12}{'p99':>12}",
        ]
        for source, answers in data["answers"].items():
            if answers["count"]:
                lines.append(
                    f"{source:<14}{answers['count']:>12,}{answers['share']:>9.2%}"
                    f"{duration(answers['p50']):>12}{duration(answers['p99']):>12}"
                )
        lines.append(f"{'all':<14}{data['requests']:>12,}")
        computations, time = data["computations"], data["time"]
        repeated = computations["repeated"]
        lines += [
            "",
            f"computations   {computations['total']:,} for {computations['distinct_keys']:,} "
            f"different keys"
            + (f" ({repeated:,} made more than once)" if repeated else ", one each"),
            f"time saved     {duration(time['saved'])} of {duration(time['without_cache'])} "
            f"without a cache: {time['factor']:,.0f} times less",
        ]
        if data["errors"]:
            lines.append(f"cache errors   {data['errors']:,} (all answered nevertheless)")
        return "\n".join([*lines, "", *self.coherence.lines()])
