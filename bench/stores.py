"""What stores and bare caches cost: reads, writes, evictions, and memory.

    python bench/stores.py [--json] [--assert] [--rounds N]

Our clients' ``put`` takes a ttl and checks its arguments, the caches beside it do not; what they
are compared with is our bare store. Goals are for the compiled core only.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiered
from bench import command
from bench.decorated import POLICIES
from bench.goals import Goal
from bench.kinds import kinds, texts
from bench.sections import Measured, Sections, in_threads, timed
from bench.timing import Contender, compare
from bench.traces import zipf

KEYS = 10_000
CALLS = 20_000
NEW = 50_000
ENTRIES = 1_000_000
ACCESSES = 200_000

GET = "get, 10,000 random texts"
OVERWRITE = "overwrite, 10,000 random texts"
INSERT = "insert into a full cache of 10,000"
ZIPF = "get, else put: Zipf over 100,000 keys, room for 10,000"
ZIPF_RATIO = "hit ratio of the same"
MEMORY = "memory of an entry, beyond key and value"
THREADS = "four threads, get"

GOALS = [
    *(Goal(INSERT, f"tiered {one}, bare store", 2.0, than="cachebox LRUCache") for one in POLICIES),
    *(Goal(MEMORY, f"tiered {one}", 80.0, absolute=True) for one in POLICIES),
]


def random_texts() -> list[str]:
    """Keys equal to those stored, but other objects."""
    chance = random.Random(7)
    return texts(chance.randrange(KEYS) for _ in range(CALLS))


def many_texts() -> list[str]:
    """So many that starting threads does not count."""
    return random_texts() * 10


def new_texts() -> list[str]:
    """Keys that are new, or long forgotten when they come again."""
    return texts(range(NEW))


def accesses() -> list[int]:
    """Keys as they are asked for in applications."""
    return zipf(ACCESSES, 100_000)


def readers() -> list[Contender]:
    """Filled, to be read."""
    found = []
    for kind in kinds().values():
        cache = kind.make(2 * KEYS)
        kind.putting(kind.put(cache), texts(range(KEYS)))
        found.append(Contender(kind.name, kind.get(cache), slower=kind.slower))
    return found


def threaded() -> list[Contender]:
    """Those that bear it."""
    safe = [name for name, kind in kinds().items() if kind.safe]
    return [one for one in readers() if one.name in safe]


def writers(room: int, bounded: bool) -> list[Contender]:
    """Filled, to be written; with *bounded*, only those that evict."""
    found = []
    for kind in kinds().values():
        if kind.name == "functools.lru_cache" and not bounded:
            continue  # it cannot overwrite
        if kind.bounded or not bounded:
            put = kind.put(kind.make(room))
            kind.putting(put, texts(range(KEYS)))
            found.append(Contender(kind.name, put, kind.putting, kind.slower))
    return found


def fetchers() -> list[Contender]:
    """Empty, to be asked, and filled with what they did not have."""
    return [
        Contender(kind.name, kind.pair(kind.make(KEYS)), kind.fetching)
        for kind in kinds().values()
        if kind.fetching is not None
    ]


def hit_ratios(_: int) -> Measured:
    """In percent; there is nothing to repeat."""
    keys = accesses()
    ratios = {one.name: [100 * one.loop(one.call, keys) / len(keys)] for one in fetchers()}
    return Measured("dict", "%", compare(ratios, "dict"))


def memory(_: int) -> Measured:
    """Bytes for each of a million entries, each kind of cache in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        running = {name: fresh.submit(grown, name) for name in kinds()}
        bytes_each = {name: [one.result()] for name, one in running.items()}
    return Measured("dict", "bytes", compare(bytes_each, "dict"))


def grown(name: str) -> float:
    """Bytes that this process grows by for each entry; keys exist before, and share a value."""
    kind = kinds()[name]
    warm = list(range(1000))
    kind.putting(kind.put(kind.make(len(warm))), warm)
    keys: Sequence[int] = list(range(ENTRIES))
    cache = kind.make(ENTRIES)
    gc.collect()
    before = _resident()
    kind.putting(kind.put(cache), keys)
    gc.collect()
    return (_resident() - before) / ENTRIES


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


SECTIONS: Sections = {
    GET: timed(readers, random_texts, baseline="dict"),
    OVERWRITE: timed(partial(writers, 2 * KEYS, False), random_texts, baseline="dict"),
    INSERT: timed(
        partial(writers, KEYS, True),
        new_texts,
        baseline="cachebox LRUCache",
        otherwise="functools.lru_cache",
    ),
    ZIPF: timed(fetchers, accesses, baseline="dict"),
    ZIPF_RATIO: hit_ratios,
    MEMORY: memory,
    THREADS: in_threads(threaded, many_texts, 4),
}


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    options = command.parser(__doc__, rounds=11).parse_args()
    goals = GOALS if tiered.accelerated else []
    return command.compare(options, SECTIONS, goals, ("cachetools", "cachebox", "theine", "lru"))


if __name__ == "__main__":
    sys.exit(main())
