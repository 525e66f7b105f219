"""How much of a trace each policy answers from the cache, beside the optimum that knows the future.

    python bench/hit_ratio.py [DIRECTORY] [--json] [--assert] [--sizes 1,5,20] [--png FILE]

DIRECTORY holds traces: NAME.u32.xz, xz-compressed little-endian uint32, one for each access.
Without it, two made-up traces show that it works. The goal is for real traces: the mean share of
Belady's hits over traces and sizes. The figures are exact: ``--rounds`` changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.belady import belady_hits, next_uses
from bench.decorated import POLICIES
from bench.goals import Verdict
from bench.kinds import kinds
from bench.peers import announce_missing, environment
from bench.traces import Trace, read_traces, synthetic_traces

GOAL = 0.785
JUDGED = "tiered s3fifo"
BELADY = "Belady's optimum"
CONTENDERS = (
    *(f"tiered {policy}" for policy in POLICIES),
    "cachetools LRUCache",
    "cachetools LFUCache",
    "cachebox LRUCache",
    "cachebox VTTLCache",
    "theine",
)


@dataclass(frozen=True)
class Ratios:
    """Hit ratios on one trace with room for some percent of its keys, by contender."""

    percent: float
    entries: int
    ratios: dict[str, float]

    def share(self, name: str) -> float:
        """The hits of *name*, of those that are possible at this size."""
        return self.ratios[name] / self.ratios[BELADY]


@dataclass(frozen=True)
class Replayed:
    """A trace, and what was measured on it."""

    name: str
    accesses: int
    unique: int
    real: bool
    sizes: list[Ratios]

    def table(self) -> str:
        """Hit ratios as lines of text, a column for each size."""
        names = list(self.sizes[0].ratios)
        width = max(map(len, names))
        head = "".join(f"{f'{one.percent:g} %':>9}" for one in self.sizes)
        lines = [
            f"{self.name}: {self.accesses:,} accesses of {self.unique:,} keys",
            f"  {'room for':<{width}}{head}",
        ]
        for name in names:
            row = "".join(f"{one.ratios[name]:>9.3f}" for one in self.sizes)
            lines.append(f"  {name:<{width}}{row}")
        return "\n".join(lines)


def replay(trace: Trace, percents: Sequence[float]) -> Replayed:
    """Every contender on *trace*, at every size."""
    following = next_uses(trace.keys)
    unique = trace.unique
    sizes = []
    for percent in percents:
        entries = max(1, round(unique * percent / 100))
        hits = {BELADY: belady_hits(trace.keys, entries, following)}
        hits.update({name: replayed_hits(name, trace.keys, entries) for name in contenders()})
        ratios = {name: count / len(trace.keys) for name, count in hits.items()}
        sizes.append(Ratios(percent, entries, ratios))
    return Replayed(trace.name, len(trace.keys), unique, trace.real, sizes)


def contenders() -> list[str]:
    """Those that are installed."""
    installed = kinds()
    return [name for name in CONTENDERS if name in installed]


def replayed_hits(name: str, keys: Sequence[int], entries: int) -> int:
    """Hits of a new cache of the kind *name*, asked for *keys* in order."""
    kind = kinds()[name]
    assert kind.fetching is not None
    hits: int = kind.fetching(kind.pair(kind.make(entries)), keys)
    return hits


def shares(found: Sequence[Replayed]) -> dict[str, float]:
    """The mean share of Belady's hits over traces and sizes, by contender."""
    sizes = [size for trace in found for size in trace.sizes]
    return {name: mean(size.share(name) for size in sizes) for name in sizes[0].ratios}


def share_table(means: dict[str, float]) -> str:
    """The shares as lines of text, the best first."""
    width = max(map(len, means))
    lines = ["mean share of Belady's hits"]
    for name, share in sorted(means.items(), key=lambda one: -one[1]):
        lines.append(f"  {name:<{width}}{share:>9.3f}")
    return "\n".join(lines)


def judge(found: Sequence[Replayed], means: dict[str, float]) -> list[Verdict]:
    """Whether the goal is met; nothing is asked of made-up traces."""
    if not all(trace.real for trace in found):
        return []
    words = f"mean share of Belady's hits: {JUDGED}, at least {GOAL}"
    return [Verdict(words, round(means[JUDGED], 3), means[JUDGED] >= GOAL)]


def _percents(written: str) -> list[float]:
    percents = [float(one) for one in written.split(",")]
    if not all(0 < one <= 100 for one in percents):
        raise argparse.ArgumentTypeError("percents are above 0 and at most 100")
    return percents


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and with ``--assert`` judge."""
    parser = command.parser(__doc__, rounds=1)
    parser.add_argument("directory", nargs="?", type=Path, help="of traces, NAME.u32.xz")
    parser.add_argument("--sizes", type=_percents, default=[1.0, 5.0, 20.0], help="percents")
    parser.add_argument("--png", type=Path, help="where to draw hit ratio against size")
    options = parser.parse_args(arguments)
    modules = ("cachetools", "cachebox", "theine")
    announce_missing(*modules)
    traces = read_traces(options.directory) if options.directory else synthetic_traces()
    found = [replay(trace, sorted(options.sizes)) for trace in traces]
    means = shares(found)
    if options.png:
        from bench.plots import draw_hit_ratios

        draw_hit_ratios([asdict(trace) for trace in found], options.png)
    data = {
        "environment": environment(*modules),
        "traces": [asdict(trace) for trace in found],
        "shares": means,
    }
    text = "\n\n".join([*(trace.table() for trace in found), share_table(means)])
    return command.conclude(options, data, text, judge(found, means))


if __name__ == "__main__":
    sys.exit(main())
