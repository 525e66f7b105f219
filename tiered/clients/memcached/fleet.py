"""The servers of a client, as its discovery tells them, and who is responsible for a key."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from statistics import median_low
from typing import Final

from tiered.clients.memcached.probe import USUAL_ITEM_LIMIT
from tiered.clients.memcached.server import Server
from tiered.concurrency import fork
from tiered.routing.addresses import Address
from tiered.routing.discovery import Found
from tiered.routing.ring import HashRing
from tiered.routing.watch import Watch
from tiered.typing import Clock

__all__ = ["Fleet"]


_MOST_ERAS: Final = 32
"""Rings that are remembered; nothing is believed that was written before the first of them."""


class Fleet:
    """The ring of servers, made anew when others are found.

    Args:
        watch: tells which servers there are.
        make: makes a server, which stays the same for as long as it is among them.

    Attributes:
        item_limit: bytes of the largest item that every server takes, as far as is known.
        clock_offset: seconds that the servers' clocks are ahead of ours, in their middle.

    Threads: safe.
    """

    def __init__(self, watch: Watch, make: Callable[[Address], Server], clock: Clock) -> None:
        self.watch: Final = watch
        self._make = make
        self._clock = clock
        self._found: Found | None = None
        self._ring: HashRing[Server]
        self._servers: dict[Address, Server] = {}
        self._eras: deque[tuple[float, HashRing[Server]]] = deque()
        self._forgotten = -math.inf
        self._missed = False
        self.clock_offset = 0.0
        self.item_limit = USUAL_ITEM_LIMIT
        fork.register(self)
        self._renew_lock()

    def after_fork(self) -> None:
        """The threads of the parent, and what they were holding, are not in this process."""
        self._renew_lock()
        self.watch.after_fork()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    @property
    def known(self) -> tuple[Server, ...]:
        """The servers found last; none before the first were."""
        return tuple(self._servers.values())

    @property
    def doubts(self) -> bool:
        """Whether any server may hold what is not to be believed."""
        if self._eras:
            return True
        for server in self._servers.values():  # noqa: SIM110 - a generator takes three times as long
            if server.trusted_from > -math.inf:
                return True
        return False

    def trusts(self, key: bytes, created: float) -> bool:
        """Whether what was *created* (wall time) under *key* is to be believed.

        Not if others were responsible for the key since: they, and not its server, have heard
        of what has changed. Nor if a server of the key has missed what it could not be told.
        """
        if created <= self._forgotten:
            return False
        home, spare = self._ring.pair(key)
        # Both: who is up now may not be who has answered.
        if any(created <= one.trusted_from for one in (home, spare) if one is not None):
            return False
        for ended, ring in list(self._eras):
            if created < ended and ring.node(key).address != home.address:
                return False
        return True

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers. Raises ``DiscoveryError`` if none were ever found."""
        self.ring()
        return self.known

    def ring(self) -> HashRing[Server]:
        """Who is responsible for which keys, now.

        Raises:
            DiscoveryError: no servers were ever found.
        """
        found = self.watch.current()
        if found is not self._found:
            with self._lock:
                # Asked again: another thread may have taken over a newer answer meanwhile.
                found = self.watch.current()
                if found is not self._found:
                    self._adopt(found)
        return self._ring

    def _review(self) -> None:
        """Take over what is known of the servers by now: each value that is written needs it."""
        limits = [server.item_limit for server in self._servers.values()]
        self.item_limit = min(limits, default=USUAL_ITEM_LIMIT)
        profiles = [server.profile for server in self._servers.values()]
        offsets = [profile.clock_offset for profile in profiles if profile is not None]
        if offsets:
            self.clock_offset = median_low(offsets)

    def missed(self) -> None:
        """A delete was made while none were ever found; all of them have missed it."""
        with self._lock:
            self._missed = self._found is None
            for server in self._servers.values():  # found in this very moment
                server.trusted_from = self._clock.wall()

    def _adopt(self, found: Found) -> None:
        servers = {
            address: self._servers.get(address) or self._joined(address)
            for address in found.addresses
        }
        if self._found is not None:
            self._eras.append((self._clock.wall() + self.clock_offset, self._ring))
            if len(self._eras) > _MOST_ERAS:
                self._forgotten, _ = self._eras.popleft()
        self._ring = HashRing(
            [(address.ring_name, server) for address, server in servers.items()], found.weights
        )
        gone = [self._servers[address] for address in self._servers.keys() - servers.keys()]
        self._servers = servers
        self._missed = False
        self._found = found
        self._review()
        for server in gone:
            server.pool.close()

    def _joined(self, address: Address) -> Server:
        server = self._make(address)
        server.knowledge.on_news = self._review
        if self._missed:
            server.trusted_from = self._clock.wall()
        return server
