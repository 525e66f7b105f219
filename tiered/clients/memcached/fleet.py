"""The servers of a client, as its discovery tells them, and who is responsible for a key."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

from tiered.clients.memcached.server import Server
from tiered.concurrency import fork
from tiered.routing.addresses import Address
from tiered.routing.discovery import Found
from tiered.routing.ring import HashRing
from tiered.routing.watch import Watch
from tiered.typing import Clock

__all__ = ["Fleet"]


_MOST_DEPARTED: Final = 10_000
"""Servers that are remembered after they left; a fleet in a cloud may never see one twice."""


class Fleet:
    """The ring of servers, made anew when others are found.

    Args:
        watch: tells which servers there are.
        make: makes a server, which stays the same for as long as it is among them.

    Threads: safe.
    """

    def __init__(self, watch: Watch, make: Callable[[Address], Server], clock: Clock) -> None:
        self.watch: Final = watch
        self._make = make
        self._clock = clock
        self._found: Found | None = None
        self._servers: dict[Address, Server] = {}
        self._departed: set[Address] = set()
        self._missed = False
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
        for server in self._servers.values():  # noqa: SIM110 - a generator takes three times as long
            if server.trusted_from > -math.inf:
                return True
        return False

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
        self._ring = HashRing(
            [(address.ring_name, server) for address, server in servers.items()], found.weights
        )
        gone = [self._servers[address] for address in self._servers.keys() - servers.keys()]
        self._departed |= self._servers.keys() - servers.keys()
        while len(self._departed) > _MOST_DEPARTED:
            self._departed.pop()
        self._servers = servers
        self._missed = False
        self._found = found
        for server in gone:
            server.pool.close()

    def _joined(self, address: Address) -> Server:
        server = self._make(address)
        if address in self._departed or self._missed:
            # Meanwhile others had its keys, or nobody had, and it was told of no change.
            server.trusted_from = self._clock.wall()
        return server
