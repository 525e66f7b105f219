"""Peers on real sockets, and the servers of a client as which they are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Self

from tests.integration.peers import Cut, Peer, honest
from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.fleet import Fleet
from tiered.clients.memcached.server import Server
from tiered.clients.memcached.servers import Servers
from tiered.routing.addresses import Address, parse_address
from tiered.routing.discovery import CallableDiscovery, Discovery
from tiered.routing.watch import Watch
from tiered.stats.counters import Counters
from tiered.stats.reports import Reports
from tiered.testing import ManualClock

PAUSE_IS_OVER = 20.0
"""Longer than any pause after failures."""


def make_server(address: str | Address, clock: ManualClock, **options: Any) -> Server:
    """A server as clients make them; *options* are a pool's size and patience, and terms."""
    size, patience = options.pop("pool_size", 8), options.pop("pool_timeout", 0.001)
    terms = Terms(options.pop("connect_timeout", 20), options.pop("timeout", 20), **options)
    return Server(parse_address(address), terms, pool_size=size, pool_timeout=patience, clock=clock)


class Ring:
    """So many peers, and a :class:`Servers` of them.

    Attributes:
        told: the addresses that the discovery tells; may be changed.
    """

    def __init__(
        self,
        clock: ManualClock,
        count: int = 2,
        *,
        strict: bool = False,
        speaks_meta: bool = True,
        discovery: Discovery | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock
        self.peers = [Peer(speaks_meta=speaks_meta) for _ in range(count)]
        self.told = [peer.address for peer in self.peers]
        self.counters = Counters()
        watch = Watch(
            discovery or CallableDiscovery(lambda: self.told, every=30),
            clock,
            start=lambda refresh: refresh(),
        )
        fleet = Fleet(watch, lambda address: make_server(address, clock, **options), clock)
        self.servers = Servers(
            fleet,
            strict=strict,
            counters=self.counters,
            reports=Reports("tiered.memcached", clock),
        )
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        for peer in self.peers:
            self._ends.enter_context(peer)
        return self

    def __exit__(self, *_: object) -> None:
        self.servers.close()
        self._ends.close()

    def look_again(self) -> None:
        """Have the discovery asked once more."""
        self.clock.advance(31)
        _ = self.servers.fleet.servers  # has them found, and goes on with what is known
        _ = self.servers.fleet.servers

    def server(self, number: int) -> Server:
        """As which the peer of that number is known."""
        address = self.peers[number].address
        [server] = [one for one in self.servers.fleet.servers if str(one.address) == address]
        return server

    def keys(self, home: int, count: int = 1, *, spare: int | None = None) -> Sequence[bytes]:
        """Keys that belong to the peer *home*, for which *spare* stands in."""
        found: list[bytes] = []
        number = 0
        while len(found) < count:
            key = b"key%d" % number
            first, second = self.servers.fleet.ring().pair(key)
            fits = spare is None or second is self.server(spare)
            if first is self.server(home) and fits:
                found.append(key)
            number += 1
        return found

    def key(self, home: int, *, spare: int | None = None) -> bytes:
        """One of them."""
        return self.keys(home, spare=spare)[0]

    def cut_off(self, *numbers: int) -> None:
        """Every connection to these peers breaks off."""
        for number in numbers:
            self.peers[number].spoil = lambda request, answer: Cut(b"")

    def restore(self, *numbers: int) -> None:
        """These peers answer again."""
        for number in numbers:
            self.peers[number].spoil = honest

    def refuse(self, number: int, commands: Iterable[bytes]) -> None:
        """The peer says no to these commands, which is an answer."""
        refused = tuple(commands)

        def spoil(request: bytes, answer: bytes) -> bytes:
            return b"SERVER_ERROR busy\r\n" if request.startswith(refused) else answer

        self.peers[number].spoil = spoil

    def holds(self, number: int, key: bytes) -> bytes | None:
        """What the peer has under *key*."""
        item = self.peers[number].items.get(key)
        return None if item is None else item[0]
