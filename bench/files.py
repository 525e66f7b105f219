"""Files of a host, beside diskcache and dogpile.cache's dbm backend.

    python bench/files.py [--json] [--assert] [--rounds N] [--path DIRECTORY] [--creator SECONDS]

Values of 1 KB are read and written, over 10,000 keys, by one process and by four; into a cache
that is full, too. An array of 100 MB is read, and read for the first time by a new process. One
cold key is asked for by 8 processes of 8 threads. All files are in *DIRECTORY*, or in a temporary
directory, and are removed in the end.

The goals: half of the time of diskcache for a get and for a put, three times its throughput
with four processes, a millisecond for the array, one computation of a cold key with 99 of 100
waiters done within 1.6 times what it takes. ``--assert`` exits with 1 if one is missed.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.files_arrays import cold, warm
from bench.files_contenders import (
    DISKCACHE,
    KEYS,
    OURS,
    crowd,
    dbm_module,
    getters,
    name,
    new_key_putters,
    putters,
)
from bench.files_mixed import PROCESSES, mixed
from bench.goals import Goal, judge
from bench.peers import announce_missing, environment
from bench.sections import Measured, Sections, measure, timed
from bench.stampede import judge as judge_crowds
from bench.stampede import processes, table
from bench.timing import Contender

MODULES = ("diskcache", "dogpile.cache")

HOT = "get of 1 KB, one hot key"
RANDOM = "get of 1 KB, 10,000 random keys"
OVER = "put of 1 KB, over what is there"
NEW = "put of 1 KB, new keys"
FULL = "put of 1 KB, new keys, full and evicting"
ARRAY = "get of an array of 100 MB"
FIRST = "get of an array of 100 MB, the first of a process"
MIXED = f"{PROCESSES} processes, 90 % get and 10 % put of 1 KB"

CALLS = 10_000
SMALL = 20_000_000
"""Bytes that a cache may hold to be full soon."""

WAIT = 1.6
"""Times of the creator in which 99 of 100 waiters are done."""

GOALS = [
    *(Goal(title, OURS, 0.5, than=DISKCACHE) for title in (HOT, RANDOM, OVER, NEW)),
    Goal(ARRAY, OURS, 1.0, absolute=True),
    Goal(MIXED, OURS, 3.0, than=DISKCACHE, at_least=True),
]


def hot_key() -> list[str]:
    """The same key, again and again."""
    return [name(KEYS // 2)] * CALLS


def random_keys() -> list[str]:
    """Any of the keys, each time."""
    chance = random.Random("files")
    return [name(chance.randrange(KEYS)) for _ in range(CALLS)]


@contextmanager
def a_directory(above: str | None) -> Iterator[Path]:
    """A new one, for as long as it lasts."""
    path = Path(tempfile.mkdtemp(prefix="tiered-bench-", dir=above))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def calls(
    make: Callable[[Path], list[Contender]],
    keys: Callable[[], list[str]],
    above: str | None,
    rounds: int,
) -> Measured:
    """Microseconds of a call."""
    with a_directory(above) as path:
        section = timed(partial(make, path), keys, baseline=DISKCACHE, otherwise=OURS, unit="µs")
        return section(rounds)


def within(measured: Callable[[Path, int], Measured], above: str | None, rounds: int) -> Measured:
    """What *measured* gives, in a directory of its own."""
    with a_directory(above) as path:
        return measured(path, rounds)


def sections(above: str | None) -> Sections:
    """All of them, with their files in a directory in *above*."""
    return {
        HOT: partial(calls, getters, hot_key, above),
        RANDOM: partial(calls, getters, random_keys, above),
        OVER: partial(calls, putters, random_keys, above),
        NEW: partial(calls, new_key_putters, random_keys, above),
        FULL: partial(calls, partial(new_key_putters, size=SMALL), random_keys, above),
        ARRAY: partial(within, warm, above),
        FIRST: partial(within, cold, above),
        MIXED: partial(within, mixed, above),
    }


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    parser = command.parser(__doc__, rounds=9)
    parser.add_argument("--path", metavar="DIRECTORY", help="where the files are to be")
    parser.add_argument("--creator", type=float, default=0.05, help="seconds that it takes")
    options = parser.parse_args()
    announce_missing(*MODULES)
    measured = measure(sections(options.path), options.rounds)
    with a_directory(options.path) as path:
        lines = processes(options.rounds, options.creator, str(path), crowd)
    told = {**environment(*MODULES), "dbm": dbm_module()}
    verdicts = judge(GOALS, measured) + judge_crowds(lines, options.creator, WAIT)
    crowds = table(lines, options.creator)
    return command.conclude_with_crowds(options, told, measured, lines, crowds, verdicts)


if __name__ == "__main__":
    sys.exit(main())
