"""A value on its way to a server: the bytes, and for how long they are to be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.expiry import exptime
from tiered.clock import SYSTEM_CLOCK

__all__ = ["AWAY_LIFE", "Item", "lives", "told"]

AWAY_LIFE: Final = 10.0
"""Seconds that a value lives, with all its keep, on a server that stands in for another."""


class Item:
    """A value to be written, sealed for where it is written.

    Args:
        seal: ``seal(remaining, keep)`` gives the envelope.
        remaining, keep: seconds.
    """

    __slots__ = ("keep", "remaining", "seal", "sealed", "wire")

    def __init__(
        self, wire: bytes, seal: Callable[[float, float], bytes], remaining: float, keep: float
    ) -> None:
        self.wire = wire
        self.seal = seal
        self.remaining = remaining
        self.keep = keep
        # Now and not at the server: what cannot be sealed is no server's affair.
        self.sealed = seal(remaining, keep)

    def at(self, connection: Connection, away: bool) -> tuple[bytes, int]:
        """The data, and how long the server is to keep it."""
        remaining, keep = lives(self.remaining, self.keep, away)
        data = self.sealed if not away else self.seal(remaining, keep)
        return data, told(connection, remaining, keep)

    def set(self, connection: Connection, away: bool) -> bool:
        """Write, whatever is there."""
        data, life = self.at(connection, away)
        return connection.dialect.set(connection.stream, self.wire, data, life)


def lives(remaining: float, keep: float, away: bool) -> tuple[float, float]:
    """Seconds that a value lives, and is kept after that; few on a server that stands in."""
    if not away:
        return remaining, keep
    remaining = min(remaining, AWAY_LIFE)
    return remaining, min(keep, AWAY_LIFE - max(remaining, 0.0))


def told(connection: Connection, remaining: float, keep: float) -> int:
    # The server's clock is a real one, whatever clock this client was given.
    now = SYSTEM_CLOCK.wall() + connection.profile.clock_offset
    return exptime(remaining, keep, now)
