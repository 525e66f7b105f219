"""Which writing of a value a server holds, so that a copy can be confirmed without moving it."""

from __future__ import annotations

from typing import Final, NamedTuple

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.replies import Stored
from tiered.clients.memcached.servers import Servers
from tiered.clients.memcached.values import Values
from tiered.entry import Entry, Versioned
from tiered.keys.wire import KeyName

__all__ = ["Version", "Versions"]


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
            return stored.data, _version(connection, stored)

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
            token = connection.dialect.token(connection.stream, name.wire)
            return None if token is None else _version(connection, Stored(b"", token))

        reached = self._servers.locate(name.wire, ask)
        if reached is None:
            return None
        if self._servers.fleet.doubts:
            # What is there may not be believed: its age, which decides, comes with the value.
            return self._read(name)[1]
        return reached[2]


def _version(connection: Connection, stored: Stored) -> Version | None:
    run = connection.profile.run
    if run is None or stored.outdated:
        return None
    # A connection is to one run of a server, and was told which when it was opened.
    return Version(str(connection.address), run, stored.token)
