"""What a hit costs: the decorator, the clients and the tiers, beside other caches.

    python bench/hit_path.py [--json] [--assert] [--rounds N]

Goals are ratios within one run; ``--assert`` exits with 1 if one is missed. Those for the compiled
core and those for pure Python (TIERED_PURE=1) differ.
"""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiered
from bench import command, decorated
from bench.goals import Goal
from bench.kinds import text, texts
from bench.loops import TTL, Loop, one_argument, three_arguments
from bench.peers import peer
from bench.sections import Sections, in_threads, timed
from bench.timing import Contender

KEYS = 10_000
CALLS = 20_000
ROOM = 2 * KEYS

ONE = "@cached hit, 10,000 random keys"
ONE_HOT = "@cached hit, one hot key"
THREE = '@cached hit, f(k, "abc", z=3), 10,000 random keys'
THREE_HOT = '@cached hit, f(k, "abc", z=3), one hot key'
GET = "client get, 10,000 random texts"
GET_HOT = "client get, one hot text"
AWAIT = "await of a @cached hit, 10,000 random keys"
METHOD = "a method's @cached hit, 10,000 random keys"
THREADS = "four threads on @cached hits"

WRAPPED = "tiered @cached, NamespaceWrapper"
PLAIN = ["", *(f", {policy}" for policy in decorated.POLICIES[1:])]
FORMS = [f"tiered @cached{name}" for name in (*PLAIN, ", tiers")]
CLIENTS = [f"tiered get{name}" for name in PLAIN]
TIERS = "tiered get, tiers"

COMPILED_GOALS = [
    *(Goal(ONE, name, 1.2) for name in FORMS),
    # A second namespace, around the one that every function has: one tuple more.
    Goal(ONE, WRAPPED, 2.0),
    *(Goal(ONE_HOT, name, 1.5) for name in FORMS),
    *(Goal(section, name, 1.5) for section in (THREE, THREE_HOT) for name in FORMS),
    *(Goal(GET, name, 2.0) for name in CLIENTS),
    *(Goal(GET, name, 1.0, than="cachebox VTTLCache.get") for name in CLIENTS),
    Goal(GET, TIERS, 3.0),
    *(Goal(AWAIT, name, 3.0) for name in FORMS),
]
PURE_GOALS = [
    *(Goal(ONE, name, 6.0) for name in FORMS),
    *(Goal(GET, name, 8.0) for name in CLIENTS),
]
# Four threads together are no slower than one; a tenth is the noise of the machine.
GOALS = [
    *(COMPILED_GOALS if tiered.accelerated else PURE_GOALS),
    Goal(THREADS, "tiered @cached", 0.9, at_least=True),
]


def random_numbers() -> list[int]:
    """Keys in random order. For ints ``lru_cache`` is at its best."""
    chance = random.Random(7)
    return [chance.randrange(KEYS) for _ in range(CALLS)]


def hot_number() -> list[int]:
    """One key."""
    return [4711] * CALLS


def many_numbers() -> list[int]:
    """So many that starting threads does not count."""
    return random_numbers() * 10


def random_texts() -> list[str]:
    """Keys equal to those stored, but other objects, as those that applications look up."""
    return texts(random_numbers())


def hot_text() -> list[str]:
    """One key, a new object each time."""
    return texts(hot_number())


def with_one(x: int) -> int:
    """The cached function: nothing, so that only the cache is timed."""
    return x


def with_three(x: int, y: str, *, z: int) -> int:
    """The same with more arguments."""
    return x


def functions(function: Any, loop: Loop) -> list[Contender]:
    """Decorated functions, filled one after the other.

    Filled in turns, their entries would lie between each other's in memory, and each would be
    timed on the others' cache misses.
    """
    return [one.fill(range(KEYS)) for one in decorated.functions(function, ROOM, loop)]


def coroutines() -> list[Contender]:
    """Decorated coroutine functions, filled."""
    return [one.fill(range(KEYS)) for one in decorated.coroutines(ROOM)]


def methods() -> list[Contender]:
    """Decorated methods, filled."""
    return [one.fill(range(KEYS)) for one in decorated.methods(ROOM)]


def clients() -> list[Contender]:
    """Bare reads."""
    import cachetools

    plain = {text(number): number for number in range(KEYS)}
    contenders = [Contender("dict.get", plain.get)]
    for name, client in decorated.our_clients(ROOM).items():
        for number in range(KEYS):
            client.put(text(number), number, TTL)
        contenders.append(Contender(f"tiered get{name}", client.get))
    lru: Any = cachetools.LRUCache(ROOM)
    ttl: Any = cachetools.TTLCache(ROOM, TTL)
    for name, cache in (("LRUCache", lru), ("TTLCache", ttl)):
        for number in range(KEYS):
            cache[text(number)] = number
        contenders.append(Contender(f"cachetools {name}.get, no lock", cache.get))
    if cachebox := peer("cachebox"):
        box = cachebox.VTTLCache(ROOM)
        for number in range(KEYS):
            box.insert(text(number), number, TTL)
        contenders.append(Contender("cachebox VTTLCache.get", box.get))
    return contenders


def threaded() -> list[Contender]:
    """What is called from several threads."""
    wanted = ("functools.lru_cache", *FORMS, "cachetools.cached TTL, lock", "cachebox.cached TTL")
    return [one for one in functions(with_one, one_argument) if one.name in wanted]


_one = partial(functions, with_one, one_argument)
_three = partial(functions, with_three, three_arguments)

SECTIONS: Sections = {
    ONE: timed(_one, random_numbers, baseline="functools.lru_cache"),
    ONE_HOT: timed(_one, hot_number, baseline="functools.lru_cache"),
    THREE: timed(_three, random_numbers, baseline="functools.lru_cache"),
    THREE_HOT: timed(_three, hot_number, baseline="functools.lru_cache"),
    GET: timed(clients, random_texts, baseline="dict.get"),
    GET_HOT: timed(clients, hot_text, baseline="dict.get"),
    AWAIT: timed(coroutines, random_numbers, baseline="a plain coroutine"),
    METHOD: timed(methods, random_numbers, baseline="functools.lru_cache, method"),
    THREADS: in_threads(threaded, many_numbers, 4),
}


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    options = command.parser(__doc__, rounds=21).parse_args()
    modules = ("cachetools", "cachebox", "theine", "dogpile.cache", "aiocache", "cashews")
    return command.compare(options, SECTIONS, GOALS, modules)


if __name__ == "__main__":
    sys.exit(main())
