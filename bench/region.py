"""Regions beside dogpile.cache's: what a hit costs, and one cold key asked for by many.

    python bench/region.py [--json] [--assert] [--rounds N] [--creator SECONDS]

The goals: a hit of a decorated function in a tenth of the time that dogpile.cache takes for it, in
less than a third where the keys are exact ones; one computation of a
cold key in 8 processes of 8 threads with ``distributed_lock``, in 64 threads, and in 32 threads
and 32 asyncio tasks together, with 99 of 100 waiters done within 1.6 times what it takes.
``--assert`` exits with 1 if one is missed.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiered
from bench import command, region_contenders
from bench.goals import Goal, judge
from bench.hit_path import KEYS, hot_number, random_numbers, random_texts
from bench.loops import Loop, one_argument, two_arguments
from bench.peers import announce_missing, environment
from bench.region_contenders import DOGPILE
from bench.sections import Sections, measure, timed
from bench.stampede import CROWD, Creator, Line, Results, processes, table, task_crowd, thread_crowd
from bench.stampede import judge as judge_crowds
from bench.timing import Contender
from tiered.cli.demo.server import PrivateMemcached

ONE = "cache_on_arguments hit, f(k), 10,000 random keys"
ONE_HOT = "cache_on_arguments hit, f(k), one hot key"
TWO = 'cache_on_arguments hit, f(k, "abc"), 10,000 random keys'
TWO_HOT = 'cache_on_arguments hit, f(k, "abc"), one hot key'
GET = "region.get hit, 10,000 random texts"
CREATE = "region.get_or_create hit, 10,000 random texts"

HITS = (ONE, ONE_HOT, TWO, TWO_HOT)
FORMS = ("tiered memory", "tiered inproc", "tiered tiers")
EXACT = "tiered memory, exact keys"
LIMIT = 0.1 if tiered.accelerated else 0.15
GOALS = [
    *(Goal(section, name, LIMIT, than=DOGPILE) for section in HITS for name in FORMS),
    # What is written in canonical form takes longer than what is written as a text.
    *(Goal(section, EXACT, 0.25, than=DOGPILE) for section in HITS),
]

WAIT = 1.6
"""Times of the creator in which 99 of 100 waiters are done."""


def with_one(x: int) -> int:
    """The cached function."""
    return x


def with_two(x: int, y: str) -> int:
    """The same with another argument."""
    return x


def functions(function: Any, loop: Loop) -> list[Contender]:
    """Decorated functions, filled one after the other."""
    return [one.fill(range(KEYS)) for one in region_contenders.functions(function, loop)]


_timed = partial(timed, baseline=DOGPILE, otherwise="tiered memory")

SECTIONS: Sections = {
    ONE: _timed(partial(functions, with_one, one_argument), random_numbers),
    ONE_HOT: _timed(partial(functions, with_one, one_argument), hot_number),
    TWO: _timed(partial(functions, with_two, two_arguments), random_numbers),
    TWO_HOT: _timed(partial(functions, with_two, two_arguments), hot_number),
    GET: _timed(region_contenders.reading, random_texts),
    CREATE: _timed(region_contenders.creating, random_texts),
}


# -- Cold keys -------------------------------------------------------------------------


def threads(rounds: int, seconds: float) -> list[Line]:
    """64 threads."""
    creator = Creator(seconds)
    contenders = region_contenders.threaded(creator)
    results = Results(f"{CROWD} threads", list(contenders))
    for number in range(rounds):
        for name in results.order(number):
            creator.calls = 0
            waited = thread_crowd(contenders[name], number, CROWD)
            results.add(name, creator.calls, waited)
    return results.lines()


def both(rounds: int, seconds: float) -> list[Line]:
    """32 threads and 32 tasks."""
    creator, half = Creator(seconds), CROWD // 2
    contenders = region_contenders.mixed(creator, creator.awaited)
    results = Results(f"{half} threads and {half} asyncio tasks", list(contenders))
    with ThreadPoolExecutor(1) as beside:
        for number in range(rounds):
            for name in results.order(number):
                creator.calls = 0
                in_threads, in_tasks = contenders[name]
                waiting = beside.submit(thread_crowd, in_threads, number, half)
                waited = asyncio.run(task_crowd(in_tasks, number, half))
                results.add(name, creator.calls, waited + waiting.result())
    return results.lines()


def crowds(rounds: int, seconds: float) -> list[Line]:
    """All of them."""
    lines = threads(rounds, seconds) + both(rounds, seconds)
    if not PrivateMemcached.installed():
        print("memcached is not installed: no processes", file=sys.stderr)
        return lines
    with PrivateMemcached() as server:
        return lines + processes(rounds, seconds, server.address, region_contenders.distributed)


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    parser = command.parser(__doc__, rounds=15)
    parser.add_argument("--creator", type=float, default=0.05, help="seconds that it takes")
    options = parser.parse_args()
    modules = ("dogpile.cache", "pymemcache", "pylibmc")
    announce_missing(*modules)
    measured = measure(SECTIONS, options.rounds)
    lines = crowds(max(1, options.rounds // 3), options.creator)
    verdicts = judge(GOALS, measured) + judge_crowds(lines, options.creator, WAIT)
    told, text = environment(*modules), table(lines, options.creator)
    return command.conclude_with_crowds(options, told, measured, lines, text, verdicts)


if __name__ == "__main__":
    sys.exit(main())
