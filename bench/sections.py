"""Sections: comparisons that are measured apart, each in a process of its own.

A heap that earlier sections have left in pieces scatters the entries of the next one,
and its random reads are then timed on cache misses that are not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from bench.timing import Contender, Result, time_calls, time_threads

__all__ = ["Measured", "Sections", "in_threads", "measure", "timed"]

_UNITS = {"ns": 1.0, "µs": 1e-3}


@dataclass(frozen=True)
class Measured:
    """What a section gave: figures in *unit*, ratios to *baseline*."""

    baseline: str
    unit: str
    results: list[Result]

    def table(self, title: str) -> str:
        """The results as lines of text."""
        width = max(len(result.name) for result in self.results)
        beside = f"x {self.baseline}"
        lines = [title, f"  {'':<{width}}{self.unit:>10}  {beside}"]
        lines += [
            f"  {one.name:<{width}}{shown(one.value):>10}  {one.ratio:>{len(beside)}.2f}"
            for one in self.results
        ]
        return "\n".join(lines)


def shown(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


Sections = dict[str, Callable[[int], Measured]]
"""By title: what measures it in so many rounds. It is called in another process."""


def timed(
    make: Callable[[], Sequence[Contender]],
    keys: Callable[[], Sequence[Any]],
    *,
    baseline: str,
    otherwise: str | None = None,
    unit: str = "ns",
) -> Callable[[int], Measured]:
    """A section that times what *make* gives with the keys that *keys* gives.

    Args:
        otherwise: the baseline where *baseline* is not installed.
    """
    return partial(_timed, make, keys, baseline, otherwise, unit)


def _timed(
    make: Callable[[], Sequence[Contender]],
    keys: Callable[[], Sequence[Any]],
    baseline: str,
    otherwise: str | None,
    unit: str,
    rounds: int,
) -> Measured:
    contenders = make()
    if otherwise is not None and all(one.name != baseline for one in contenders):
        baseline = otherwise
    taken = time_calls(contenders, keys(), baseline=baseline, rounds=rounds)
    scale = _UNITS[unit]
    results = [Result(one.name, one.value * scale, one.ratio) for one in taken]
    return Measured(baseline, unit, results)


def in_threads(
    make: Callable[[], Sequence[Contender]], keys: Callable[[], Sequence[Any]], threads: int
) -> Callable[[int], Measured]:
    """A section on *threads* threads beside one."""
    return partial(_in_threads, make, keys, threads)


def _in_threads(
    make: Callable[[], Sequence[Contender]],
    keys: Callable[[], Sequence[Any]],
    threads: int,
    rounds: int,
) -> Measured:
    results = time_threads(make(), keys(), threads, max(3, rounds // 3))
    return Measured("one thread", "M/s", results)


def measure(sections: Sections, rounds: int) -> dict[str, Measured]:
    """Every section, one after another."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        running = {title: fresh.submit(one, rounds) for title, one in sections.items()}
        return {title: future.result() for title, future in running.items()}
