"""Timing contenders side by side: interleaved rounds, medians, and ratios to a baseline.

Machines are shared and noisy, so single figures mean little. In each round every
contender runs once, in an order that rotates. The figure of a contender is the median
of its rounds, and its ratio the median of the ratios within each round: whoever else
is busy for a while disturbs a whole round. A contender is called with some keys before
its clock starts, or the first ones would be timed with the processor's caches full of
the contender before it.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import truediv
from typing import Any

from bench.loops import Loop, empty, one_argument

__all__ = ["Contender", "Result", "compare", "time_calls", "time_threads"]

_WARM_UP = 20_000


@dataclass(frozen=True)
class Contender:
    """What is timed.

    Attributes:
        call: what *loop* calls with one key after another.
        slower: about how many times slower than the others it is: it gets as many times
            fewer keys.
    """

    name: str
    call: Any
    loop: Loop = one_argument
    slower: int = 1

    def fill(self, keys: Sequence[Any]) -> Contender:
        """Itself, called with each of *keys*."""
        self.loop(self.call, keys)
        return self


@dataclass(frozen=True)
class Result:
    """The figure of a contender, and the same in units of the baseline's."""

    name: str
    value: float
    ratio: float


def compare(samples: Mapping[str, Sequence[float]], baseline: str) -> list[Result]:
    """Results from what each contender took in each round."""
    return [
        Result(
            name,
            statistics.median(taken),
            statistics.median(map(truediv, taken, samples[baseline])),
        )
        for name, taken in samples.items()
    ]


def time_calls(
    contenders: Sequence[Contender], keys: Sequence[Any], *, baseline: str, rounds: int = 15
) -> list[Result]:
    """Nanoseconds a call, of *rounds* times all *keys*; the loop around it is subtracted."""
    loop = Contender("", None, empty)
    samples: dict[str, list[float]] = {one.name: [] for one in (*contenders, loop)}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            shift = number % len(contenders)
            for one in (*contenders[shift:], *contenders[:shift], loop):
                samples[one.name].append(_once(one, keys))
    finally:
        if collecting:
            gc.enable()
    overhead = statistics.median(samples.pop(""))
    net = {name: [one - overhead for one in taken] for name, taken in samples.items()}
    return compare(net, baseline)


def _once(contender: Contender, keys: Sequence[Any]) -> float:
    call, loop = contender.call, contender.loop
    if contender.slower > 1:
        keys = keys[: max(1, len(keys) // contender.slower)]
    loop(call, keys[: _WARM_UP // contender.slower])
    started = time.perf_counter_ns()
    loop(call, keys)
    return (time.perf_counter_ns() - started) / len(keys)


def time_threads(
    contenders: Sequence[Contender], keys: Sequence[Any], threads: int, rounds: int = 5
) -> list[Result]:
    """Millions of calls a second of *threads* together; the ratio is to one thread alone."""
    one: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    many: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        shift = number % len(contenders)
        for contender in (*contenders[shift:], *contenders[:shift]):
            one[contender.name].append(_rate(contender, keys, 1))
            many[contender.name].append(_rate(contender, keys, threads))
    return [
        Result(
            name,
            statistics.median(rates) / 1e6,
            statistics.median(map(truediv, rates, one[name])),
        )
        for name, rates in many.items()
    ]


def _rate(contender: Contender, keys: Sequence[Any], threads: int) -> float:
    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        barrier.wait()
        contender.loop(contender.call, keys)
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
