"""One cold key, asked for by many at a time: how often it is computed, and how long they wait.

    python bench/stampede.py [--json] [--assert] [--rounds N] [--creator SECONDS]

Three crowds: 64 threads, 64 asyncio tasks, and 8 processes of 8 threads over one memcached. In
each round every contender has a new key, in an order that rotates. The goals: one computation,
and 99 of 100 waiters done within 1.4 times what it takes; ``--assert`` exits with 1 if one is
missed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.goals import Verdict
from bench.peers import announce_missing, environment
from bench.stampede_contenders import Call, Make, awaited, distributed, threaded

CROWD = 64
PROCESSES = 8
GOAL = 1.4
"""Times of the creator in which 99 of 100 waiters are done."""


@dataclass(frozen=True)
class Line:
    """One contender in one crowd; times in seconds.

    Attributes:
        calls: most computations of one key, over the rounds.
        p50, p99: medians over the rounds of the waiters' percentiles.
    """

    crowd: str
    name: str
    calls: int
    p50: float
    p99: float


# -- Crowds ----------------------------------------------------------------------------


class Creator:
    """Takes its time, and counts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def __call__(self, key: int) -> int:
        self.calls += 1
        time.sleep(self.seconds)
        return key

    async def awaited(self, key: int) -> int:
        self.calls += 1
        await asyncio.sleep(self.seconds)
        return key


def thread_crowd(call: Call, key: int, size: int, start: float | None = None) -> list[float]:
    """Seconds that each of *size* threads waited; they begin together, at *start* if given."""
    barrier = threading.Barrier(size)
    waited: list[float] = []

    def ask() -> None:
        barrier.wait()
        if start is not None:
            time.sleep(max(0.0, start - time.time()))
        began = time.perf_counter()
        answer = call(key)
        waited.append(time.perf_counter() - began)
        assert answer == key

    threads = [threading.Thread(target=ask) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waited


async def task_crowd(call: Call, key: int, size: int) -> list[float]:
    """Seconds that each of *size* tasks waited."""

    async def ask() -> float:
        began = time.perf_counter()
        assert await call(key) == key
        return time.perf_counter() - began

    return list(await asyncio.gather(*(ask() for _ in range(size))))


def process(pipe: Connection, make: Make, address: str, seconds: float) -> None:
    """One process of the crowd: told a contender, a key and a moment, it answers with times."""
    creator = Creator(seconds)
    contenders = make(creator, address)
    while (order := pipe.recv()) is not None:
        name, key, start = order
        creator.calls = 0
        waited = thread_crowd(contenders[name], key, CROWD // PROCESSES, start)
        pipe.send((creator.calls, waited))


# -- Rounds ----------------------------------------------------------------------------


class Results:
    """What the rounds gave, by contender."""

    def __init__(self, crowd: str, names: Sequence[str]) -> None:
        self.crowd = crowd
        self.names = list(names)
        self.calls: dict[str, list[int]] = {name: [] for name in names}
        self.waited: dict[str, list[list[float]]] = {name: [] for name in names}

    def order(self, number: int) -> list[str]:
        """The contenders, in another order in each round."""
        shift = number % len(self.names)
        return self.names[shift:] + self.names[:shift]

    def add(self, name: str, calls: int, waited: list[float]) -> None:
        """One round of one contender."""
        self.calls[name].append(calls)
        self.waited[name].append(waited)

    def lines(self) -> list[Line]:
        """The figures."""
        return [
            Line(
                self.crowd,
                name,
                max(self.calls[name]),
                statistics.median(percentile(one, 0.50) for one in self.waited[name]),
                statistics.median(percentile(one, 0.99) for one in self.waited[name]),
            )
            for name in self.names
        ]


def percentile(times: list[float], share: float) -> float:
    """The time that *share* of them do not exceed."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def threads(rounds: int, seconds: float) -> list[Line]:
    """64 threads."""
    creator = Creator(seconds)
    contenders = threaded(creator)
    results = Results(f"{CROWD} threads", list(contenders))
    for number in range(rounds):
        for name in results.order(number):
            creator.calls = 0
            waited = thread_crowd(contenders[name], number, CROWD)
            results.add(name, creator.calls, waited)
    return results.lines()


def tasks(rounds: int, seconds: float) -> list[Line]:
    """64 tasks."""

    async def main() -> list[Line]:
        creator = Creator(seconds)
        contenders = awaited(creator.awaited)
        results = Results(f"{CROWD} asyncio tasks", list(contenders))
        for number in range(rounds):
            for name in results.order(number):
                creator.calls = 0
                waited = await task_crowd(contenders[name], number, CROWD)
                results.add(name, creator.calls, waited)
        return results.lines()

    return asyncio.run(main())


def processes(rounds: int, seconds: float, address: str, make: Make = distributed) -> list[Line]:
    """8 processes of 8 threads, of the contenders that *make* gives in each."""
    context = get_context("spawn")
    crowd: list[tuple[Any, Connection]] = []
    for _ in range(PROCESSES):
        ours, theirs = context.Pipe()
        worker = context.Process(target=process, args=(theirs, make, address, seconds), daemon=True)
        worker.start()
        crowd.append((worker, ours))
    results = Results(
        f"{PROCESSES} processes x {CROWD // PROCESSES} threads",
        list(make(Creator(0), address)),
    )
    base = time.time_ns()
    # One round that does not count: connections are made, code is compiled.
    for number in range(-1, rounds):
        for name in results.order(number):
            order = (name, base + number, time.time() + 0.1)
            for _, pipe in crowd:
                pipe.send(order)
            answers = [pipe.recv() for _, pipe in crowd]
            if number >= 0:
                waited = [seconds for _, times in answers for seconds in times]
                results.add(name, sum(calls for calls, _ in answers), waited)
    for worker, pipe in crowd:
        pipe.send(None)
        worker.join()
    return results.lines()


# -- Report ----------------------------------------------------------------------------


def table(lines: Sequence[Line], seconds: float) -> str:
    """The lines as text, a block for each crowd."""
    width = max(len(line.name) for line in lines)
    text: list[str] = []
    crowd = ""
    for line in lines:
        if line.crowd != crowd:
            crowd = line.crowd
            text.append(f"\n{crowd}, one cold key, a creator of {seconds * 1000:.0f} ms")
            text.append(f"  {'':<{width}}{'calls':>7}{'p50 ms':>9}{'p99 ms':>9}{'x creator':>11}")
        text.append(
            f"  {line.name:<{width}}{line.calls:>7}{line.p50 * 1000:>9.1f}"
            f"{line.p99 * 1000:>9.1f}{line.p99 / seconds:>11.2f}"
        )
    return "\n".join(text)


def judge(lines: Sequence[Line], seconds: float, goal: float = GOAL) -> list[Verdict]:
    """Our lines beside the goals: one computation, and p99 within *goal* times the creator."""
    verdicts = []
    for line in lines:
        if line.name.startswith("tiered"):
            words = f"{line.crowd}: {line.name}"
            waited = line.p99 / seconds
            verdicts += [
                Verdict(f"{words}, 1 computation", line.calls, line.calls == 1),
                Verdict(
                    f"{words}, p99 at most {goal} x the creator", round(waited, 3), waited <= goal
                ),
            ]
    return verdicts


def main() -> int:
    """Run, print, and judge."""
    parser = command.parser(__doc__, rounds=9)
    parser.add_argument("--creator", type=float, default=0.05, help="seconds that it takes")
    options = parser.parse_args()

    from tiered.cli.demo.server import PrivateMemcached

    modules = ("dogpile.cache", "cachetools", "cashews", "aiocache")
    announce_missing(*modules)
    lines = threads(options.rounds, options.creator) + tasks(options.rounds, options.creator)
    if PrivateMemcached.installed():
        with PrivateMemcached() as server:
            lines += processes(options.rounds, options.creator, server.address)
    else:
        print("memcached is not installed: no processes", file=sys.stderr)
    data = {
        "environment": environment(*modules),
        "creator": options.creator,
        "lines": [asdict(line) for line in lines],
    }
    verdicts = judge(lines, options.creator)
    return command.conclude(options, data, table(lines, options.creator), verdicts)


if __name__ == "__main__":
    sys.exit(main())
