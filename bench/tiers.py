"""What two tiers cost, memory in front of memcached: ours beside pairs made by hand.

    python bench/tiers.py [--json] [--assert] [--rounds N]

Values are small dictionaries, pickled for the server; ours are signed, too. The server and
everything that asks it share one core. The goal for a hit in tier 0 is one of ``hit_path``, so
``--assert`` fails at nothing here.
"""

from __future__ import annotations

import pickle
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.goals import Goal
from bench.kinds import text, texts
from bench.loops import TTL
from bench.peers import peer
from bench.sections import Sections, timed
from bench.servers import Exchange, pair, with_server
from bench.timing import Contender
from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient

KEYS = 2_000
NEAR_CALLS = 50_000

NEAR = "hit in tier 0"
FAR = "hit in tier 1, copied to tier 0"
MISS = "miss in both"

GOALS: list[Goal] = []


@dataclass(frozen=True)
class Pair:
    """Two tiers under one name.

    Attributes:
        get: the value, or None.
    """

    name: str
    get: Callable[[str], Any]
    put: Callable[[str, Any], Any]


class HandMade:
    """A cache in memory in front of a memcached, as written in an afternoon."""

    def __init__(
        self, near_get: Callable[[str], Any], near_put: Callable[[str, Any], Any], far: Any
    ) -> None:
        self._near_get = near_get
        self._near_put = near_put
        self._far = far

    def get(self, key: str) -> Any:
        """The value, or None; what the far cache had is near from then on."""
        found = self._near_get(key)
        if found is None:
            written = self._far.get(key)
            if written is not None:
                found = pickle.loads(written)
                self._near_put(key, found)
        return found

    def put(self, key: str, value: Any) -> None:
        """Write far, then near."""
        self._far.set(key, pickle.dumps(value), TTL, noreply=False)
        self._near_put(key, value)


def pairs(address: str, room: int) -> list[Pair]:
    """All, with *room* for so many entries in tier 0."""
    from pymemcache.client.base import Client

    far = partial(Client, pair(address), no_delay=True)
    found = [_ours(address, room), _with_cachetools(far(key_prefix=b"tools/"), room)]
    if cachebox := peer("cachebox"):
        cache = cachebox.VTTLCache(room)
        made = HandMade(
            cache.get, lambda key, value: cache.insert(key, value, TTL), far(key_prefix=b"box/")
        )
        found.append(Pair("cachebox VTTLCache + pymemcache", made.get, made.put))
    if dogpile := peer("dogpile.cache"):
        found.append(_dogpile(dogpile, address, room))
    return found


def _ours(address: str, room: int) -> Pair:
    client = TieredInclusiveClient(
        InprocCacheClient(room), MemcachedClient([address], checksum_key="bench", prefix="tiered/")
    )
    return Pair(
        "tiered, signed",
        lambda key: client.get(key, None),
        lambda key, value: client.put(key, value, TTL),
    )


def _with_cachetools(far: Any, room: int) -> Pair:
    import cachetools

    cache: Any = cachetools.TTLCache(room, TTL)
    lock = threading.RLock()

    def get(key: str) -> Any:
        with lock:
            return cache.get(key)

    def put(key: str, value: Any) -> None:
        with lock:
            cache[key] = value

    made = HandMade(get, put, far)
    return Pair("cachetools TTLCache, lock + pymemcache", made.get, made.put)


def _dogpile(dogpile: Any, address: str, room: int) -> Pair:
    import cachetools

    class Near(peer("dogpile.cache.proxy").ProxyBackend):  # type: ignore[misc]  # an optional package
        """The proxy that dogpile's documents suggest for a second tier."""

        def __init__(self) -> None:
            super().__init__()
            self.cache: Any = cachetools.LRUCache(room)

        def get_serialized(self, key: str) -> Any:
            found = self.cache.get(key)
            if found is None:
                found = self.proxied.get_serialized(key)
                if isinstance(found, bytes):
                    self.cache[key] = found
            return found

        def set_serialized(self, key: str, value: bytes) -> None:
            self.proxied.set_serialized(key, value)
            self.cache[key] = value

        def get(self, key: str) -> Any:
            found = self.cache.get(key)
            if found is None:
                found = self.proxied.get(key)
                if found is not dogpile.api.NO_VALUE:
                    self.cache[key] = found
            return found

        def set(self, key: str, value: Any) -> None:
            self.proxied.set(key, value)
            self.cache[key] = value

    region = dogpile.make_region().configure(
        "dogpile.cache.pymemcache",
        expiration_time=TTL,
        arguments={"url": [pair(address)]},
        wrap=[Near],
    )
    return Pair("dogpile.cache, proxy + pymemcache", region.get, region.set)


def value(number: int) -> dict[str, Any]:
    """What applications keep."""
    return {"id": number, "name": f"user {number}", "active": True, "score": number / 7}


def near(address: str) -> list[Contender]:
    """Everything is in tier 0."""
    plain = {text(number): value(number) for number in range(KEYS)}
    return [Contender("dict.get", plain.get), *_filled(pairs(address, 2 * KEYS))]


def far(address: str) -> list[Contender]:
    """Keys come in turns, and tier 0 has long forgotten each when it is asked for it again."""
    exchange = Exchange(address)
    for number in range(KEYS):
        written = pickle.dumps(value(number))
        exchange.ask(b"ms raw/%d %d T%d\r\n%b\r\n" % (number, len(written), TTL, written), b"\r\n")
    asked = {text(number): b"mg raw/%d v\r\n" % number for number in range(KEYS)}

    def bare(key: str) -> Any:
        return pickle.loads(exchange.ask(asked[key], b"\r\n").partition(b"\r\n")[2])

    return [Contender("raw socket, pickle.loads", bare), *_filled(pairs(address, KEYS // 20))]


def missing(address: str) -> list[Contender]:
    """Nothing is in any tier."""
    exchange = Exchange(address)
    asked = {key: f"mg no/{key} v\r\n".encode() for key in unknown_texts()}
    server = Contender("raw socket", lambda key: exchange.ask(asked[key], b"\r\n"))
    return [server, *(Contender(one.name, one.get) for one in pairs(address, KEYS))]


def _filled(found: list[Pair]) -> list[Contender]:
    for one in found:
        for number in range(KEYS):
            one.put(text(number), value(number))
        assert one.get(text(1)) == value(1)
    return [Contender(one.name, one.get) for one in found]


def random_texts() -> list[str]:
    """For hits in tier 0."""
    chance = random.Random(7)
    return texts(chance.randrange(KEYS) for _ in range(NEAR_CALLS))


def all_texts() -> list[str]:
    """Each key once, in order."""
    return texts(range(KEYS))


def unknown_texts() -> list[str]:
    """Keys that nobody stores."""
    return [f"nobody:{number}" for number in range(KEYS)]


def sections(address: str) -> Sections:
    """By title, on the server at *address*."""
    return {
        NEAR: timed(partial(near, address), random_texts, baseline="dict.get"),
        FAR: timed(
            partial(far, address), all_texts, baseline="raw socket, pickle.loads", unit="µs"
        ),
        MISS: timed(partial(missing, address), unknown_texts, baseline="raw socket", unit="µs"),
    }


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    options = command.parser(__doc__, rounds=9).parse_args()
    modules = ("cachebox", "dogpile.cache", "pymemcache")
    return with_server(lambda address: command.compare(options, sections(address), GOALS, modules))


if __name__ == "__main__":
    sys.exit(main())
