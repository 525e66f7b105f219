"""Which writing of a value a server holds, so that a copy can be confirmed without moving it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tiered.clients.memcached import leases
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.items import Item
from tiered.clients.memcached.leases import Lease
from tiered.clients.memcached.servers import Servers
from tiered.clients.memcached.values import Values
from tiered.entry import Entry, Versioned
from tiered.keys.wire import KeyName

__all__ = ["UNANSWERED", "UNWRITTEN", "Version", "Versions", "filling", "writing"]


class Version(NamedTuple):
    """A server's number of the writing of an item, and what that number is true of.

    A server counts writes from its start on, and so does every other: the same number comes
    again after a restart, and on the server that stands in.

    Attributes:
        server: its address.
        run: tells one run of it from the next.
        token: its number; of a value in pages, that of the manifest.
    """

    server: str
    run: tuple[str, ...]
    token: bytes


UNWRITTEN: Final[tuple[bool, Version | None]] = (False, None)
UNANSWERED: Final[tuple[bool | None, Version | None]] = (None, None)


class Versions:
    """The versions of a client's values.

    Threads: safe.
    """

    def __init__(self, servers: Servers, values: Values) -> None:
        self._servers: Final = servers
        self._values: Final = values

    def read(self, name: KeyName) -> Versioned:
        """What is held under *name*, verified as in any read, and its version."""
        return Versioned(*self._read(name))

    def _read(self, name: KeyName) -> tuple[Entry | None, Version | None]:

        def fetch(connection: Connection) -> tuple[bytes, Version | None] | None:
            stored = connection.dialect.fetch(connection.stream, name.wire)
            if stored is None or not stored.data:
                return None
            token = None if stored.outdated else stored.token
            return stored.data, version_of(connection, token)

        found = self._servers.read(name.wire, fetch)
        if found is None:
            return None, None
        data, version = found
        entry = self._values.entry(name, data)
        return entry, None if entry is None else version

    def current(self, name: KeyName) -> Version | None:
        """The version of what is held under *name*, unverified.

        A signature cannot be checked without what it signs. So whoever can write to the server
        can make us confirm a copy of ours that is out of date; but only one whose signature was
        good when we read it.
        """

        def ask(connection: Connection) -> Version | None:
            return version_of(connection, connection.dialect.token(connection.stream, name.wire))

        reached = self._servers.locate(name.wire, ask)
        if reached is None:
            return None
        if self._servers.fleet.doubts:
            # What is there may not be believed: its age, which decides, comes with the value.
            return self._read(name)[1]
        return reached[2]


def writing(item: Item) -> Callable[[Connection, bool], tuple[bool, Version | None]]:
    """An exchange that writes *item*, whatever is there: whether it did, and the version."""

    def write(connection: Connection, away: bool) -> tuple[bool, Version | None]:
        data, life = item.at(connection, away)
        written, token = connection.dialect.put(connection.stream, item.wire, data, life)
        return written, version_of(connection, token)

    return write


def filling(
    lease: Lease, item: Item, away: bool
) -> Callable[[Connection], tuple[bool | None, Version | None]]:
    """An exchange that writes *item* under *lease*: whether it did, and the version."""

    def fill(connection: Connection) -> tuple[bool | None, Version | None]:
        written, token = leases.fill(connection, lease, *item.at(connection, away))
        return written, version_of(connection, token)

    return fill


def version_of(connection: Connection, token: bytes | None) -> Version | None:
    """The version that *token*, of an item at the other end, stands for, if that is known."""
    run = connection.profile.run
    # A connection is to one run of a server, and was told which when it was opened.
    return None if run is None or token is None else Version(str(connection.address), run, token)
