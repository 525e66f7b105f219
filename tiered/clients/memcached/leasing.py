"""Claims on the keys of a memcached client."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tiered.clients.claims import Claim
from tiered.clients.memcached import leases
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.expiry import exptime
from tiered.clients.memcached.leases import Grant, Lease
from tiered.clients.memcached.servers import Servers
from tiered.errors import ServerRefusal, ValueTooLarge
from tiered.keys.canonical import canonical
from tiered.keys.wire import wire_key
from tiered.typing import Clock, Key

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient

__all__ = ["UNFOUNDED", "Leasing"]

UNFOUNDED: Final = object()
"""The lease of a claim that no server has given, and none will fill."""

_LONGEST: Final = 30 * 24 * 3600
"""Seconds; servers take longer times for dates."""

_SHORTEST: Final = 0.1


class Leasing:
    """Gives claims, each a lease of the key's server. Threads: safe."""

    def __init__(self, servers: Servers, prefix: bytes, clock: Clock) -> None:
        self._servers = servers
        self._prefix = prefix
        self._clock = clock

    def claim(self, client: CacheClient, key: Key, wire: bytes, life: float) -> Claim | None:
        """A claim on *key* of *client*, for *life* seconds; ``None`` while somebody has one."""
        token = secrets.token_hex(8)
        mark_key = self.mark_key(key)
        ends = self._clock.monotonic() + life
        told = exptime(max(life, _SHORTEST), 0.0, 0.0)
        told = min(told, _LONGEST) or _LONGEST

        def take(connection: Connection) -> Grant | None:
            try:
                return leases.take(connection, wire, mark_key, token.encode(), told)
            except ValueTooLarge as error:  # of nothing, or a few bytes
                raise ServerRefusal(str(error)) from error

        reached = self._servers.reserve(wire, take)
        if reached is None:
            return self._unfounded(client, key, token, ends)
        server, home, grant = reached
        if grant is None:
            return None
        lease = Lease(wire, mark_key, ends, (server, home, grant))
        ask = self._servers.on

        def use(action: Callable[[], bool]) -> bool:
            if self._clock.monotonic() >= ends:
                return False
            return ask(server, lambda link: leases.holds(link, lease), True) and action()

        def release() -> bool:
            return ask(server, lambda link: leases.give_back(link, lease), False)

        return Claim(client, key, token, use, release, lease=lease)

    def _unfounded(self, client: CacheClient, key: Key, token: str, ends: float) -> Claim:
        """For when no server can be asked, which has not given the claim to another either.

        What is computed meanwhile belongs into the tiers that can be reached, and not on a
        server that comes back: nobody knows what was deleted there.
        """

        def use(action: Callable[[], bool]) -> bool:
            return self._clock.monotonic() < ends and action()

        return Claim(client, key, token, use, lambda: False, lease=UNFOUNDED)

    def revoke(self, key: Key, wire: bytes) -> None:
        """End the claim on *key*, and leave its value."""
        mark_key = self.mark_key(key)
        self._servers.locate(wire, lambda link: leases.revoke(link, wire, mark_key))

    def mark_key(self, key: Key) -> bytes:
        """Where a claim on *key* is marked while there is a value."""
        return wire_key(self._prefix + b"claim/", canonical(key))
