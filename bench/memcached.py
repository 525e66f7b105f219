"""What memcached costs through our signed client, beside a bare socket and unsigned clients.

    python bench/memcached.py [--json] [--assert] [--rounds N]

Values have 100 bytes. The server and everything that asks it share one core. There are no goals
yet, so ``--assert`` fails at nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.goals import Goal
from bench.loops import TTL
from bench.peers import peer
from bench.sections import Sections, timed
from bench.servers import Exchange, pair, with_server
from bench.timing import Contender
from tiered import MemcachedClient

COUNT = 100
CALLS = 2_000
CALLS_OF_MANY = 100
VALUE = bytes(33 + 7 * place % 90 for place in range(100))

GET = "get of 100 B"
SET = "set of 100 B"
GET_MANY = "get_multi of 100 x 100 B"
SET_MANY = "set_multi of 100 x 100 B"

GOALS: list[Goal] = []

Call = Callable[[Any], Any]


def names(who: str) -> list[str]:
    """The keys of one contender."""
    return [f"{who}/{number}" for number in range(COUNT)]


def requests() -> list[int]:
    """Which of its keys a contender is asked for."""
    return list(range(COUNT)) * (CALLS // COUNT)


def repetitions() -> list[int]:
    """Calls for all keys at a time."""
    return list(range(CALLS_OF_MANY))


def clients(address: str) -> dict[str, Any]:
    """Ours and pymemcache's, by name."""
    from pymemcache.client.base import Client, PooledClient

    return {
        "tiered, signed": MemcachedClient([address], checksum_key="bench", prefix="signed/"),
        "tiered, raw, unsigned": MemcachedClient([address], serializer="raw", prefix="raw/"),
        "pymemcache Client": Client(pair(address), no_delay=True),
        "pymemcache PooledClient": PooledClient(pair(address), no_delay=True),
    }


def getters(address: str) -> list[Contender]:
    """One key at a time."""
    exchange = Exchange(address)
    asked = [f"mg {name} v\r\n".encode() for name in names("raw")]
    for number, name in enumerate(names("raw")):
        exchange.short(_written(name))
        assert VALUE in exchange.short(asked[number])
    found = [Contender("raw socket", _indexed(exchange.short, asked))]
    for name, client in clients(address).items():
        keys = names("own") if name.startswith("tiered") else names("peer")
        for key in keys:
            _put(client)(key, VALUE)
        assert client.get(keys[0]) == VALUE
        found.append(Contender(name, _indexed(client.get, keys)))
    if region := _region(address):
        for key in names("dogpile"):
            region.set(key, VALUE)
        found.append(Contender("dogpile.cache, pymemcache", _indexed(region.get, names("dogpile"))))
    return found


def setters(address: str) -> list[Contender]:
    """One value at a time, the answer awaited."""
    found = [Contender("raw socket", _indexed(Exchange(address).short, _all_written()))]
    for name, client in clients(address).items():
        found.append(Contender(name, _storing(_put(client))))
    if region := _region(address):
        found.append(Contender("dogpile.cache, pymemcache", _storing(region.set)))
    return found


def many_getters(address: str) -> list[Contender]:
    """All keys at a time."""
    exchange = Exchange(address)
    for request in _all_written():
        exchange.short(request)
    request = f"get {' '.join(names('raw'))}\r\n".encode()
    found = [Contender("raw socket", lambda _: exchange.long(request, b"END\r\n"))]
    keys = names("many")
    for name, client in clients(address).items():
        for key in keys:
            _put(client)(key, VALUE)
        get = client.get_multi if name.startswith("tiered") else client.get_many
        assert get(keys)[keys[-1]] == VALUE
        found.append(Contender(name, _repeated(get, keys)))
    return found


def many_setters(address: str) -> list[Contender]:
    """All values at a time."""
    exchange = Exchange(address)
    request = b"".join(_written(name, b" q") for name in names("raw")) + b"mn\r\n"
    found = [Contender("raw socket", lambda _: exchange.long(request, b"MN\r\n"))]
    values = dict.fromkeys(names("many"), VALUE)
    for name, client in clients(address).items():
        put: Call
        if name.startswith("tiered"):
            put = functools.partial(client.put_multi, ttl=TTL)
        else:
            put = functools.partial(client.set_many, expire=TTL, noreply=False)
        found.append(Contender(name, _repeated(put, values)))
    return found


def _written(name: str, flags: bytes = b"") -> bytes:
    head = f"ms {name} {len(VALUE)} T{TTL}".encode()
    return head + flags + b"\r\n" + VALUE + b"\r\n"


def _all_written() -> list[bytes]:
    return [_written(name) for name in names("raw")]


def _put(client: Any) -> Callable[[str, bytes], Any]:
    """The client's way to write one value, and to know that it is written."""
    if isinstance(client, MemcachedClient):
        return lambda key, value: client.put(key, value, TTL)
    return lambda key, value: client.set(key, value, TTL, noreply=False)


def _indexed(call: Call, arguments: list[Any]) -> Call:
    return lambda number: call(arguments[number])


def _storing(put: Callable[[str, bytes], Any]) -> Call:
    keys = names("set")
    return lambda number: put(keys[number], VALUE)


def _repeated(call: Call, argument: Any) -> Call:
    return lambda _: call(argument)


def _region(address: str) -> Any:
    found = peer("dogpile.cache")
    if found is None:
        return None
    return found.make_region().configure(
        "dogpile.cache.pymemcache", expiration_time=TTL, arguments={"url": [pair(address)]}
    )


def sections(address: str) -> Sections:
    """By title, on the server at *address*."""
    made = {
        GET: (getters, requests),
        SET: (setters, requests),
        GET_MANY: (many_getters, repetitions),
        SET_MANY: (many_setters, repetitions),
    }
    return {
        title: timed(partial(make, address), keys, baseline="raw socket", unit="µs")
        for title, (make, keys) in made.items()
    }


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    options = command.parser(__doc__, rounds=9).parse_args()
    modules = ("pymemcache", "dogpile.cache")
    return with_server(lambda address: command.compare(options, sections(address), GOALS, modules))


if __name__ == "__main__":
    sys.exit(main())
