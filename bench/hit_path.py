"""What a hit costs: the decorator, the clients and the tiers, beside other caches.

    python bench/hit_path.py [--json] [--assert] [--rounds N]

Goals are ratios within one run; ``--assert`` exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.timing import Contender, Result, environment, table, time_calls, time_threads
from tiered import InprocCacheClient, NullCacheClient, TieredInclusiveClient, cached

KEYS = 10_000
CALLS = 50_000

# (section, contender, at most so many times the section's baseline)
GOALS = [
    ("@cached hit over 10,000 random keys", "tiered @cached", 6.0),
    ("@cached hit over 10,000 random keys", "tiered @cached, tiers", 6.0),
    ("client get over 10,000 random texts", "tiered InprocCacheClient.get", 8.0),
]
THREADS_GOAL = 0.9
"""Four threads together are no slower than one; a tenth is the noise of the machine."""


def identity(x: int) -> int:
    """The cached function: nothing, so that only the cache is timed."""
    return x


def decorated() -> list[Contender]:
    """Decorators of other packages and ours, filled."""
    import cachetools

    tiers = TieredInclusiveClient(InprocCacheClient(2 * KEYS), NullCacheClient())
    contenders = [
        Contender("functools.lru_cache", functools.lru_cache(2 * KEYS)(identity)),
        Contender("tiered @cached", cached(InprocCacheClient(2 * KEYS), 3600)(identity)),
        Contender("tiered @cached, tiers", cached(tiers, 3600, namespace="tiers")(identity)),
        Contender(
            "cachetools.cached LRU, no lock",
            cachetools.cached(cachetools.LRUCache(2 * KEYS))(identity),
        ),
        Contender(
            "cachetools.cached TTL, lock",
            cachetools.cached(cachetools.TTLCache(2 * KEYS, 3600), lock=_lock())(identity),
        ),
        *_foreign_decorators(),
    ]
    for contender in contenders:
        for key in range(KEYS):
            contender.call(key)
    return contenders


def _lock() -> Any:
    import threading

    return threading.RLock()


def _foreign_decorators() -> list[Contender]:
    found = []
    try:
        import cachebox
    except ImportError:
        print("cachebox is not installed (the bench extra); left out", file=sys.stderr)
    else:
        cache: Any = cachebox.TTLCache(2 * KEYS, 3600)
        found.append(Contender("cachebox.cached TTL", cachebox.cached(cache)(identity)))
    try:
        from dogpile.cache import make_region
    except ImportError:
        print("dogpile.cache is not installed (the bench extra); left out", file=sys.stderr)
    else:
        region = make_region().configure("dogpile.cache.memory", expiration_time=3600)
        found.append(Contender("dogpile cache_on_arguments", region.cache_on_arguments()(identity)))
    return found


def text(number: int) -> str:
    """A key as applications have them; a new object each time, as those that they look up."""
    return f"user:{number}"


def clients() -> list[Contender]:
    """Bare reads."""
    import cachetools

    plain = {text(key): key for key in range(KEYS)}
    near = InprocCacheClient(2 * KEYS)
    tiers = TieredInclusiveClient(InprocCacheClient(2 * KEYS), NullCacheClient())
    lru: Any = cachetools.LRUCache(2 * KEYS)
    ttl: Any = cachetools.TTLCache(2 * KEYS, 3600)
    # One after the other: filled in turns, their entries would lie between each other's in
    # memory, and each contender would be timed on the others' cache misses.
    for fill in (
        lambda key: near.put(key, key, 3600),
        lambda key: tiers.put(key, key, 3600),
        lambda key: lru.__setitem__(key, key),
        lambda key: ttl.__setitem__(key, key),
    ):
        for number in range(KEYS):
            fill(text(number))
    contenders = [
        Contender("dict.get", plain.get),
        Contender("tiered InprocCacheClient.get", near.get),
        Contender("tiered TieredInclusiveClient.get", tiers.get),
        Contender("cachetools LRUCache.get, no lock", lru.get),
        Contender("cachetools TTLCache.get, no lock", ttl.get),
    ]
    try:
        import cachebox
    except ImportError:
        return contenders
    vttl: Any = cachebox.VTTLCache(2 * KEYS)
    for number in range(KEYS):
        vttl.insert(text(number), number, 3600)
    return [*contenders, Contender("cachebox VTTLCache.get", vttl.get)]


Section = tuple[str, list[Result]]
"""The baseline's name, and the results."""

SECTIONS: dict[str, tuple[str, Callable[[], list[Contender]], bool]] = {
    "@cached hit over 10,000 random keys": ("functools.lru_cache", decorated, False),
    "@cached hit on one hot key": ("functools.lru_cache", decorated, True),
    "client get over 10,000 random texts": ("dict.get", clients, False),
    "client get of one hot text": ("dict.get", clients, True),
}


def section(title: str, rounds: int) -> Section:
    """Time one section."""
    baseline, make, hot = SECTIONS[title]
    chance = random.Random(7)
    numbers = [4711] * CALLS if hot else [chance.randrange(KEYS) for _ in range(CALLS)]
    # The decorators are timed on ints, where lru_cache is at its best.
    keys = numbers if make is decorated else [text(number) for number in numbers]
    return baseline, time_calls(make(), keys, baseline=baseline, rounds=rounds)


def sections(rounds: int) -> dict[str, Section]:
    """Time every section, each in a process of its own.

    A heap that earlier sections have left in pieces scatters the entries of the next one,
    and its random reads are then timed on cache misses that are not its own.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        running = {title: fresh.submit(section, title, rounds) for title in SECTIONS}
        return {title: future.result() for title, future in running.items()}


def threads() -> float:
    """Four threads on one decorated function, in units of one thread."""
    function = cached(InprocCacheClient(2 * KEYS), 3600, namespace="threads")(identity)
    keys = [key % KEYS for key in range(CALLS)]
    for key in range(KEYS):
        function(key)
    return time_threads(function, keys, 4)


def missed(results: dict[str, Section], scaling: float) -> list[str]:
    """The goals that were not met, in words."""
    failures = []
    for section, name, goal in GOALS:
        for result in results[section][1]:
            if result.name == name and result.ratio > goal:
                failures.append(f"{section}: {name} is at {result.ratio:.2f}, the goal is {goal}")
    if scaling < THREADS_GOAL:
        failures.append(f"four threads reach {scaling:.2f} of one, the goal is {THREADS_GOAL}")
    return failures


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    parser.add_argument("--assert", action="store_true", dest="judge", help="fail on a missed goal")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    results = sections(options.rounds)
    scaling = threads()
    where = environment("cachetools", "cachebox", "dogpile.cache")
    if options.json:
        data = {
            "environment": where,
            "four_threads_over_one": scaling,
            "sections": {
                title: {"baseline": baseline, "results": [asdict(one) for one in found]}
                for title, (baseline, found) in results.items()
            },
        }
        print(json.dumps(data, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in where.items()), end="\n\n")
        for title, (baseline, found) in results.items():
            print(table(title, baseline, found), end="\n\n")
        print(f"four threads together, in units of one: {scaling:.2f}")
    failures = missed(results, scaling)
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return 1 if options.judge and failures else 0


if __name__ == "__main__":
    sys.exit(main())
