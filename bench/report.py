"""Run all benchmarks, and write docs/explanation/performance.md with its plots.

    python bench/report.py [--traces DIRECTORY] [--output FILE] [--assert] [--rounds N]

Each benchmark runs in a process of its own, one after another; ``hit_path`` twice, with and without
the compiled core. Together they take less than twenty minutes. With ``--assert`` it exits with 1
if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiered
from bench.page import HIT_COSTS, HIT_RATIOS, render
from bench.plots import draw_costs, draw_hit_ratios

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "docs" / "explanation" / "performance.md"

ROUNDS = {
    "hit_path": 15,
    "hit_path_pure": 9,
    "stores": 7,
    "hit_ratio": 1,
    "memcached": 9,
    "tiers": 9,
    "files": 5,
    "stampede": 5,
    "region": 9,
    "coherence": 3,
}
"""By benchmark, in the order in which they run: so many that all fit into twenty minutes."""

DRAWN = 4
"""So many sections of ``hit_path`` are drawn, the most telling ones."""


def collect(traces: Path | None, rounds: int | None) -> dict[str, Any]:
    """What the benchmarks print, by name."""
    found = {}
    for name, usual in ROUNDS.items():
        pure = name.endswith("_pure")
        if pure and not tiered.accelerated:
            continue  # it was measured already
        arguments = ["--rounds", str(rounds or usual)]
        if name == "hit_ratio" and traces is not None:
            arguments.append(str(traces))
        started = time.monotonic()
        data = run(name.removesuffix("_pure"), arguments, {"TIERED_PURE": "1"} if pure else {})
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        if data is not None:
            found[name] = data
    return found


def run(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
    """What one benchmark prints; None if it has nothing to measure here."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout) if done.stdout.strip() else None


def write(found: Mapping[str, Any], page: Path, date: str) -> None:
    """The page, and the plots beside it."""
    if "hit_path" in found:
        sections = list(found["hit_path"]["sections"].items())
        drawn = [one for one in sections if "hot" not in one[0] and "threads" not in one[0]]
        draw_costs(dict(drawn[:DRAWN]), page.parent / HIT_COSTS)
    if "hit_ratio" in found:
        draw_hit_ratios(found["hit_ratio"]["traces"], page.parent / HIT_RATIOS)
    page.write_text(render(found, date))


def main() -> int:
    """Measure, write, and with ``--assert`` judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path, help="a directory of traces, NAME.u32.xz")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page; plots go beside it")
    parser.add_argument("--rounds", type=int, help="the same number of rounds for all")
    parser.add_argument("--assert", action="store_true", dest="judge", help="fail on a missed goal")
    options = parser.parse_args()
    found = collect(options.traces, options.rounds)
    write(found, options.output, datetime.now(UTC).date().isoformat())
    print(f"wrote {options.output}")
    missed = any(not goal["met"] for data in found.values() for goal in data["goals"])
    return 1 if options.judge and missed else 0


if __name__ == "__main__":
    sys.exit(main())
