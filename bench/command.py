"""What the commands of this folder have in common: options, output, and the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from bench.goals import Goal, Verdict, judge
from bench.peers import announce_missing, environment
from bench.sections import Measured, Sections, measure

__all__ = ["compare", "conclude", "conclude_with_crowds", "parser"]


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """With the options that all commands have."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--json", action="store_true", help="print data instead of tables")
    found.add_argument("--assert", action="store_true", dest="judge", help="fail on a missed goal")
    found.add_argument("--rounds", type=int, default=rounds)
    return found


def compare(
    options: argparse.Namespace,
    sections: Sections,
    goals: Iterable[Goal],
    modules: Sequence[str],
) -> int:
    """Measure, print, judge; the exit status."""
    announce_missing(*modules)
    measured = measure(sections, options.rounds)
    verdicts = judge(goals, measured)
    data = {
        "environment": environment(*modules),
        "sections": {title: asdict(one) for title, one in measured.items()},
    }
    text = "\n\n".join(one.table(title) for title, one in measured.items())
    return conclude(options, data, text, verdicts)


def conclude(
    options: argparse.Namespace, data: dict[str, Any], text: str, verdicts: Sequence[Verdict]
) -> int:
    """Print *data* or *text*, and what was missed; the exit status."""
    if options.json:
        print(json.dumps({**data, "goals": [asdict(one) for one in verdicts]}, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in data["environment"].items()))
        print(f"\n{text}")
    missed = [one for one in verdicts if not one.met]
    for one in missed:
        print(f"missed: {one.goal}; it is {one.measured:.2f}", file=sys.stderr)
    return 1 if options.judge and missed else 0


def conclude_with_crowds(
    options: argparse.Namespace,
    told: dict[str, Any],
    measured: dict[str, Measured],
    lines: Sequence[Any],
    table: str,
    verdicts: Sequence[Verdict],
) -> int:
    """The same, of sections and of crowds: *lines*, or *table* of them; *told* is of where."""
    data = {
        "environment": told,
        "sections": {title: asdict(one) for title, one in measured.items()},
        "creator": options.creator,
        "lines": [asdict(line) for line in lines],
    }
    text = "\n\n".join(one.table(title) for title, one in measured.items())
    return conclude(options, data, f"{text}\n{table}", verdicts)
