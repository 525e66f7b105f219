"""Leases: claims that a server keeps, in one step with the write that they are for.

Where nothing is stored, a *stub* takes the place of the value. It is what deletes act on:
whoever fills writes on condition that the stub is still the one he was given. Where a value
is stored, its own token is the condition, and a *mark* under a key beside it tells others
that somebody is at it; the mark ends by itself. (The server's own way of telling, ``R``,
does not: if who was told dies, nobody is told again until the item goes.)

Tokens start anew when a server does, so a lease is good for one run of the server only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.server import Server

__all__ = ["Grant", "Lease", "fill", "give_back", "holds", "revoke", "take"]


class Grant(NamedTuple):
    """What a server gave.

    Attributes:
        token: of the stub or the value; a write on this condition is the fill.
        mark: the token of the mark; ``None`` where a stub does.
        run: of the server.
    """

    token: bytes
    mark: bytes | None
    run: tuple[str, ...] | None


class Lease:
    """A grant, and where it was given.

    Attributes:
        server: who gave it.
        home: for whom *server* stands in; ``None`` if it is the key's own.
        key: of the value; *mark_key* is that of the mark.
        ends: monotonic time.
    """

    __slots__ = ("ends", "grant", "home", "key", "mark_key", "server")

    def __init__(
        self,
        key: bytes,
        mark_key: bytes,
        ends: float,
        granted: tuple[Server, Server | None, Grant],
    ) -> None:
        self.key: Final = key
        self.mark_key: Final = mark_key
        self.ends: Final = ends
        self.server, self.home, self.grant = granted


def take(
    connection: Connection, key: bytes, mark_key: bytes, secret: bytes, life: int
) -> Grant | None:
    """A grant for *life* seconds, or ``None`` while somebody has one; *secret* is the taker's."""
    dialect, stream = connection.dialect, connection.stream
    slot = dialect.reserve(stream, key, life)
    run = connection.profile.run
    if slot.won:
        return Grant(slot.token, None, run)
    if slot.held:
        return None
    if 0 <= slot.left <= life:
        # A value that the server drops meanwhile would take the claim with it.
        dialect.touch(stream, key, life + 1)
    if not dialect.add(stream, mark_key, secret, life):
        return None
    mark = dialect.fetch(stream, mark_key)
    if mark is None or mark.data != secret:
        return None
    return Grant(slot.token, mark.token, run)


def fill(connection: Connection, lease: Lease, data: bytes, life: int) -> tuple[bool, bytes | None]:
    """Write *data* if the lease still holds, and end it.

    Whether it wrote, and the token of what it wrote, if the server tells.
    """
    if connection.profile.run != lease.grant.run:
        return False, None
    dialect, stream, grant = connection.dialect, connection.stream, lease.grant
    written, token = dialect.put(stream, lease.key, data, life, grant.token)
    if grant.mark is not None:
        dialect.delete(stream, lease.mark_key, grant.mark)
    return written, token


def holds(connection: Connection, lease: Lease) -> bool:
    """Whether a fill would write now."""
    if connection.profile.run != lease.grant.run:
        return False
    dialect, stream, grant = connection.dialect, connection.stream, lease.grant
    item = dialect.fetch(stream, lease.key)
    if item is None or item.token != grant.token:
        return False
    if grant.mark is None:
        return not item.data
    mark = dialect.fetch(stream, lease.mark_key)
    return mark is not None and mark.token == grant.mark


def give_back(connection: Connection, lease: Lease) -> bool:
    """End the lease without a write; whether it still held."""
    if connection.profile.run != lease.grant.run:
        return False
    dialect, stream, grant = connection.dialect, connection.stream, lease.grant
    if grant.mark is None:
        return dialect.delete(stream, lease.key, grant.token)
    return dialect.delete(stream, lease.mark_key, grant.mark)


def revoke(connection: Connection, key: bytes, mark_key: bytes) -> None:
    """End whatever lease there is on *key*, and leave its value."""
    dialect, stream = connection.dialect, connection.stream
    stub = dialect.stub(stream, key)
    if stub is None:
        dialect.delete(stream, mark_key)
        dialect.renumber(stream, key)  # this is what the holder's fill depends on
        # The stub of a claim that was given just now has another token now, too: its holder
        # could not give it back, and it would keep everybody waiting until it ends by itself.
        stub = dialect.stub(stream, key)
    if stub is not None:
        dialect.delete(stream, key, stub)
