"""Timing contenders side by side: interleaved rounds, medians, and ratios to a baseline.

Machines are shared and noisy, so single figures mean little. In each round every
contender runs once, in an order that rotates; the figure of a contender is the
median of its rounds, and what is compared are ratios within one run. A contender is
called with some keys before its clock starts, or the first ones would be timed with
the processor's caches full of the contender before it.
"""

from __future__ import annotations

import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["Contender", "Result", "environment", "table", "time_calls", "time_threads"]


_WARM_UP = 20_000


@dataclass(frozen=True)
class Contender:
    """A name, and a function to be called with one key after another."""

    name: str
    call: Callable[[Any], Any]


@dataclass(frozen=True)
class Result:
    """Nanoseconds a call, the loop around it subtracted; and in units of the baseline."""

    name: str
    nanoseconds: float
    ratio: float


def time_calls(
    contenders: Sequence[Contender], keys: Sequence[Any], *, baseline: str, rounds: int = 15
) -> list[Result]:
    """Call each contender with all *keys*, *rounds* times."""
    loop = Contender("", _nothing)
    samples: dict[str, list[float]] = {one.name: [] for one in (*contenders, loop)}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            shift = number % len(contenders)
            for one in (*contenders[shift:], *contenders[:shift]):
                samples[one.name].append(_once(one.call, keys))
            samples[""].append(_empty(keys))
    finally:
        if collecting:
            gc.enable()
    overhead = statistics.median(samples.pop(""))
    medians = {name: statistics.median(taken) - overhead for name, taken in samples.items()}
    return [Result(name, ns, ns / medians[baseline]) for name, ns in medians.items()]


def _nothing(_: Any) -> None:
    return None


def _once(call: Callable[[Any], Any], keys: Sequence[Any]) -> float:
    for key in keys[:_WARM_UP]:
        call(key)
    started = time.perf_counter_ns()
    for key in keys:
        call(key)
    return (time.perf_counter_ns() - started) / len(keys)


def _empty(keys: Sequence[Any]) -> float:
    started = time.perf_counter_ns()
    for _ in keys:
        pass
    return (time.perf_counter_ns() - started) / len(keys)


def time_threads(
    call: Callable[[Any], Any], keys: Sequence[Any], threads: int, rounds: int = 5
) -> float:
    """Calls a second of *threads* threads together, over that of one; the median of *rounds*."""
    ratios = []
    for _ in range(rounds):
        one = _rate(call, keys, 1)
        ratios.append(_rate(call, keys, threads) / one)
    return statistics.median(ratios)


def _rate(call: Callable[[Any], Any], keys: Sequence[Any], threads: int) -> float:
    import threading

    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        barrier.wait()
        for key in keys:
            call(key)
        barrier.wait()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    elapsed = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return threads * len(keys) / elapsed


def environment(*packages: str) -> dict[str, str]:
    """The interpreter, the machine, and the versions of *packages*."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"python": sys.version.split()[0], "machine": platform.platform(), **versions}


def table(title: str, baseline: str, results: Sequence[Result]) -> str:
    """Results as lines of text."""
    width = max(len(result.name) for result in results)
    lines = [title, f"  {'':<{width}}{'ns':>9}{'x ' + baseline:>24}"]
    lines += [
        f"  {result.name:<{width}}{result.nanoseconds:>9.0f}{result.ratio:>24.2f}"
        for result in results
    ]
    return "\n".join(lines)
