"""What memcached costs through our signed client, beside a bare socket and unsigned clients.

    python bench/memcached.py [--json] [--assert] [--rounds N]

The servers and everything that asks them share one core. What the clients are asked for has a
section each: single values, many at a time, many from several servers, values that are worth
compressing; and, without a server, to which one a key belongs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.goals import Goal
from bench.loops import TTL, Loop, one_argument
from bench.peers import peer
from bench.remotes import MODULES, Remote, compressing, remotes
from bench.sections import Sections, timed
from bench.servers import Exchange, with_servers
from bench.timing import Contender
from tiered.routing.addresses import parse_address
from tiered.routing.ring import HashRing

COUNT = 100
CALLS = 2_000
CALLS_OF_LARGE = 300
CALLS_OF_MANY = 100
LOOKUPS = 20_000
SERVERS = 3
SERVERS_ON_RINGS = 5

SMALL = bytes(33 + 7 * place % 90 for place in range(100))
LARGE = b"".join(b'{"id": %d, "name": "user %d", "active": true}, ' % (n, n) for n in range(250))
LARGE = LARGE[:10_240]

GET = "get of 100 B"
PUT = "put of 100 B"
GET_MANY = "get_multi of 100 x 100 B"
PUT_MANY = "put_multi of 100 x 100 B"
GET_MANY_OF_SEVERAL = f"get_multi of 100 x 100 B, {SERVERS} servers"
PUT_MANY_OF_SEVERAL = f"put_multi of 100 x 100 B, {SERVERS} servers"
GET_LARGE = "get of 10 KB of text"
PUT_LARGE = "put of 10 KB of text"
RING = f"the server of a key, one of {SERVERS_ON_RINGS}"

RAW = "raw socket"
SIGNED = "tiered, signed"
PYMEMCACHE = "pymemcache Client"

GOALS = [
    Goal(GET, SIGNED, 1.8),
    Goal(PUT, SIGNED, 2.2),
    Goal(GET_MANY, SIGNED, 1.0, than=PYMEMCACHE),
    Goal(PUT_MANY, SIGNED, 1.3, than=PYMEMCACHE),
]

OWN = [f"raw/{number}" for number in range(COUNT)]
"""The keys of bare sockets."""

Call = Callable[[Any], Any]
Made = Callable[[Sequence[str]], list[Remote]]


def names(place: int) -> list[str]:
    """The keys of the client at *place* in the list of clients."""
    return [f"{place}/{number}" for number in range(COUNT)]


def requests(calls: int) -> list[int]:
    """Which of its keys a contender is asked for."""
    return [number % COUNT for number in range(calls)]


# -- One value at a time ---------------------------------------------------------------


def getters(addresses: Sequence[str], made: Made, value: bytes) -> list[Contender]:
    """Reads; each contender finds what it wrote."""
    exchange = Exchange(addresses[0])
    asked = [f"mg {name} v\r\n".encode() for name in OWN]
    for name in OWN:
        exchange.ask(written(name, value), b"HD\r\n")
    whole = value + b"\r\n"
    assert exchange.ask(asked[0], whole) == b"VA %d\r\n" % len(value) + whole
    found = [Contender(RAW, lambda number: exchange.ask(asked[number], whole))]
    for place, remote in enumerate(made(addresses)):
        keys = names(place)
        for key in keys:
            remote.put(key, value)
        assert remote.get(keys[0]) == value, remote.name
        found.append(Contender(remote.name, _indexed(remote.get, keys)))
    return found


def putters(addresses: Sequence[str], made: Made, value: bytes) -> list[Contender]:
    """Writes, the answer awaited."""
    exchange = Exchange(addresses[0])
    sent = [written(name, value) for name in OWN]
    found = [Contender(RAW, lambda number: exchange.ask(sent[number], b"HD\r\n"))]
    for place, remote in enumerate(made(addresses)):
        found.append(Contender(remote.name, _storing(remote.put, names(place), value)))
    return found


def written(name: str, value: bytes, flags: bytes = b"") -> bytes:
    """The request that stores *value*."""
    return b"ms %b %d T%d%b\r\n%b\r\n" % (name.encode(), len(value), TTL, flags, value)


def _indexed(call: Call, arguments: Sequence[Any]) -> Call:
    return lambda number: call(arguments[number])


def _storing(put: Callable[[str, bytes], Any], keys: Sequence[str], value: bytes) -> Call:
    return lambda number: put(keys[number], value)


# -- Many at a time --------------------------------------------------------------------


class Exchanges:
    """Requests to several servers: all are sent before the first answer is read."""

    def __init__(self, requests: Sequence[tuple[Exchange, bytes]], end: bytes) -> None:
        self._requests = requests
        self._end = end

    def ask(self, _: object) -> list[bytes]:
        """The answers."""
        for exchange, request in self._requests:
            exchange.send(request)
        return [exchange.receive(self._end, 65536) for exchange, _ in self._requests]


def many_getters(addresses: Sequence[str]) -> list[Contender]:
    """Reads of all keys."""
    of_each = shared_out(addresses)
    storing = Exchanges([(one, _all_written(keys)) for one, keys in of_each], b"MN\r\n")
    assert storing.ask(None) == [b"MN\r\n"] * len(of_each)
    text = [(one, f"get {' '.join(keys)}\r\n".encode()) for one, keys in of_each]
    meta = [(one, _pipelined([f"mg {key} v q" for key in keys])) for one, keys in of_each]
    found = [
        Contender(RAW, Exchanges(text, b"END\r\n").ask),
        Contender(f"{RAW}, mg", Exchanges(meta, b"MN\r\n").ask),
    ]
    for place, remote in enumerate(remotes(addresses)):
        if remote.get_many is not None:
            keys = names(place)
            for key in keys:
                remote.put(key, SMALL)
            assert list(remote.get_many(keys).values()) == [SMALL] * COUNT, remote.name
            found.append(Contender(remote.name, _repeated(remote.get_many, keys)))
    return found


def many_putters(addresses: Sequence[str]) -> list[Contender]:
    """Writes of all keys."""
    requests = [(one, _all_written(keys)) for one, keys in shared_out(addresses)]
    found = [Contender(RAW, Exchanges(requests, b"MN\r\n").ask)]
    for place, remote in enumerate(remotes(addresses)):
        if remote.put_many is not None:
            values = dict.fromkeys(names(place), SMALL)
            found.append(Contender(remote.name, _repeated(remote.put_many, values)))
    return found


def shared_out(addresses: Sequence[str]) -> list[tuple[Exchange, list[str]]]:
    """A socket to each server, with the keys that belong there."""
    keys: dict[str, list[str]] = {address: [] for address in addresses}
    ring = HashRing([(parse_address(address).ring_name, address) for address in addresses])
    for name in OWN:
        keys[ring.node(name.encode())].append(name)
    return [(Exchange(address), mine) for address, mine in keys.items() if mine]


def _all_written(keys: Sequence[str]) -> bytes:
    return b"".join(written(key, SMALL, b" q") for key in keys) + b"mn\r\n"


def _pipelined(commands: Sequence[str]) -> bytes:
    return "".join(f"{command}\r\n" for command in [*commands, "mn"]).encode()


def _repeated(call: Call, argument: Any) -> Call:
    return lambda _: call(argument)


# -- Rings -----------------------------------------------------------------------------


def rings() -> list[Contender]:
    """To which server a key belongs. pylibmc does not tell, and meta-memcache uses uhashring."""
    servers = [f"10.0.0.{number}:11212" for number in range(SERVERS_ON_RINGS)]
    ours = HashRing([(server, server) for server in servers])
    found = [
        Contender("hashlib.md5", lambda key: md5(key, usedforsecurity=False).digest()),
        Contender("tiered HashRing.node", ours.node),
        Contender("tiered HashRing.pair", ours.pair),
    ]
    texts = _over([key.decode() for key in ring_keys(LOOKUPS)])
    if rendezvous := peer("pymemcache.client.rendezvous"):
        hasher = rendezvous.RendezvousHash(servers)
        found.append(Contender("pymemcache RendezvousHash", hasher.get_node, texts))
    if uhashring := peer("uhashring"):
        for name, options in {"uhashring": {}, "uhashring, ketama": {"hash_fn": "ketama"}}.items():
            get_node = uhashring.HashRing(servers, **options).get_node
            found.append(Contender(name, get_node, texts))
    return found


def ring_keys(lookups: int) -> list[bytes]:
    """As our client asks for them."""
    return [f"shop/s:product/{number}".encode() for number in range(lookups)]


def _over(arguments: Sequence[Any]) -> Loop:
    """A loop that calls with *arguments* instead of with the keys."""
    return lambda call, keys: one_argument(call, arguments[: len(keys)])


# -- All -------------------------------------------------------------------------------


def sections(addresses: Sequence[str]) -> Sections:
    """By title, on these servers; where one is enough, on the first."""
    one = addresses[:1]
    small, large = partial(requests, CALLS), partial(requests, CALLS_OF_LARGE)
    many = partial(requests, CALLS_OF_MANY)
    made = {
        GET: (partial(getters, one, remotes, SMALL), small),
        PUT: (partial(putters, one, remotes, SMALL), small),
        GET_MANY: (partial(many_getters, one), many),
        PUT_MANY: (partial(many_putters, one), many),
        GET_MANY_OF_SEVERAL: (partial(many_getters, addresses), many),
        PUT_MANY_OF_SEVERAL: (partial(many_putters, addresses), many),
        GET_LARGE: (partial(getters, one, compressing, LARGE), large),
        PUT_LARGE: (partial(putters, one, compressing, LARGE), large),
    }
    found = {
        title: timed(make, keys, baseline=RAW, unit="µs") for title, (make, keys) in made.items()
    }
    found[RING] = timed(rings, partial(ring_keys, LOOKUPS), baseline="hashlib.md5")
    return found


def main() -> int:
    """Run, print, and with ``--assert`` judge."""
    options = command.parser(__doc__, rounds=9).parse_args()
    modules = (*MODULES, "uhashring")
    return with_servers(
        SERVERS, lambda addresses: command.compare(options, sections(addresses), GOALS, modules)
    )


if __name__ == "__main__":
    sys.exit(main())
