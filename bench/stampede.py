"""One cold key, asked for by many at a time: how often it is computed, and how long they wait.

    python bench/stampede.py [--json] [--assert] [--rounds N] [--creator SECONDS]

Three crowds: 64 threads, 64 asyncio tasks, and 8 processes of 8 threads over one memcached. In
each round every contender has a new key, in an order that rotates. The goals: one computation,
and 99 of 100 waiters done within 1.4 times what it takes; ``--assert`` exits with 1 if one is
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.timing import environment

CROWD = 64
PROCESSES = 8
GOAL = 1.4
"""Times of the creator in which 99 of 100 waiters are done."""

Call = Callable[[int], Any]
Create = Callable[[int], Any]


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


# -- Contenders ------------------------------------------------------------------------


def threaded(create: Create) -> dict[str, Call]:
    """For the threads of one process."""
    import cachetools
    from dogpile.cache import make_region

    from tiered import InprocCacheClient, cached

    def ours() -> Any:
        return cached(InprocCacheClient(1000), 3600)

    region = make_region().configure("dogpile.cache.memory")
    return {
        "tiered @cached": ours()(create),
        "tiered .bg()": ours()(create).bg(),
        "tiered .multi": _by_multi(ours()(create).multi),
        "dogpile.cache memory": lambda key: region.get_or_create(str(key), lambda: create(key)),
        "cachetools condition=": cachetools.cached({}, condition=threading.Condition())(create),
        "cachetools lock=": cachetools.cached({}, lock=threading.Lock())(create),
    }


def _by_multi(multi: Any) -> Call:
    return lambda key: multi([key])[key]


def awaited(create: Callable[[int], Coroutine[Any, Any, Any]]) -> dict[str, Call]:
    """For the tasks of one event loop; calls return awaitables."""
    import aiocache
    from cashews import Cache

    from tiered import InprocCacheClient, cached

    memory = Cache()
    memory.setup("mem://")

    async def by_key(key: int) -> Any:
        return await create(key)

    async def stampede(key: int) -> Any:
        return await create(key)

    async def plain(key: int) -> Any:
        return await create(key)

    return {
        "tiered async def": cached(InprocCacheClient(1000), 3600)(create),
        "cashews protected": memory.cache(ttl=3600, protected=True)(by_key),
        "aiocache cached_stampede": aiocache.cached_stampede(lease=5, ttl=3600)(stampede),
        "aiocache cached": aiocache.cached(ttl=3600)(plain),
    }


def distributed(create: Create, address: str) -> dict[str, Call]:
    """For processes that share a memcached."""
    from dogpile.cache import make_region

    from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient, cached

    def client() -> Any:
        return MemcachedClient([address], checksum_key="bench", pool_size=16)

    tiers = TieredInclusiveClient(InprocCacheClient(1000), client())

    def region(locked: bool) -> Any:
        return make_region().configure(
            "dogpile.cache.pymemcache",
            arguments={"url": [_pair(address)], "distributed_lock": locked},
        )

    safe, fast = region(True), region(False)
    return {
        "tiered @cached, memcached": cached(client(), 3600, namespace="far")(create),
        "tiered @cached, tiers": cached(tiers, 3600, namespace="tiers")(create),
        "dogpile.cache distributed_lock": lambda key: safe.get_or_create(
            f"safe{key}", lambda: create(key)
        ),
        "dogpile.cache": lambda key: fast.get_or_create(f"fast{key}", lambda: create(key)),
    }


def _pair(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


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


def process(pipe: Connection, address: str, seconds: float) -> None:
    """One process of the crowd: told a contender, a key and a moment, it answers with times."""
    creator = Creator(seconds)
    contenders = distributed(creator, address)
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


def processes(rounds: int, seconds: float, address: str) -> list[Line]:
    """8 processes of 8 threads."""
    context = get_context("spawn")
    crowd: list[tuple[Any, Connection]] = []
    for _ in range(PROCESSES):
        ours, theirs = context.Pipe()
        worker = context.Process(target=process, args=(theirs, address, seconds), daemon=True)
        worker.start()
        crowd.append((worker, ours))
    results = Results(
        f"{PROCESSES} processes x {CROWD // PROCESSES} threads",
        list(distributed(Creator(0), address)),
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


def missed(lines: Sequence[Line], seconds: float) -> list[str]:
    """The goals that our lines miss."""
    problems = []
    for line in lines:
        if not line.name.startswith("tiered"):
            continue
        if line.calls != 1:
            problems.append(f"{line.crowd}: {line.name} computed {line.calls} times")
        if line.p99 > GOAL * seconds:
            problems.append(
                f"{line.crowd}: {line.name} took {line.p99 / seconds:.2f} x the creator"
            )
    return problems


def main() -> int:
    """Run, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--creator", type=float, default=0.05, help="seconds that it takes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--assert", action="store_true", dest="judge")
    options = parser.parse_args()

    from tiered.cli.demo.server import PrivateMemcached

    lines = threads(options.rounds, options.creator) + tasks(options.rounds, options.creator)
    if PrivateMemcached.installed():
        with PrivateMemcached() as server:
            lines += processes(options.rounds, options.creator, server.address)
    else:
        print("memcached is not installed: no processes", file=sys.stderr)
    facts = environment("dogpile.cache", "cachetools", "cashews", "aiocache")
    if options.json:
        print(
            json.dumps({"environment": facts, "lines": [asdict(line) for line in lines]}, indent=2)
        )
    else:
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        print(table(lines, options.creator))
    problems = missed(lines, options.creator)
    for problem in problems:
        print(f"goal missed: {problem}", file=sys.stderr)
    return 1 if options.judge and problems else 0


if __name__ == "__main__":
    sys.exit(main())
