"""What all clients have to agree on, whichever servers they can reach.

The revision of a namespace, for one. It lies on the key's own server and on the one that
stands in for it, for good on both. So the stand-in has it when it is needed, a server that
was restarted gets it back from the other, and nobody makes up another one, or finds an old
one again. Where the two differ, the younger is right, and both get it.
"""

from __future__ import annotations

import math

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.server import Server
from tiered.clients.memcached.servers import Servers, owe
from tiered.codec.values import ValueCodec
from tiered.errors import CorruptValue, DiscoveryError
from tiered.keys.wire import KeyName

__all__ = ["Agreements"]

_NOTHING = b""
"""On a server that answers, and has none."""


class Agreements:
    """Finds and makes agreements. Threads: safe."""

    def __init__(self, servers: Servers, codec: ValueCodec) -> None:
        self._servers = servers
        self._codec = codec

    def agree(self, name: KeyName, proposal: bytes) -> bytes | None:
        """The sealed value that lies under *name*; *proposal* if none does.

        ``None`` if no server answers, or none that does keeps it.
        """
        known = {server: self._ask(server, name) for server in self._places(name.wire)}
        agreed = self._youngest(name, known)
        if agreed == _NOTHING:
            agreed = self._proposed(name, known, proposal)
        if not agreed:
            return None
        for server, held in known.items():
            if held is None:
                owe(server, name.wire)
            elif held != agreed:
                self._put(server, name.wire, agreed)
        return agreed

    def decree(self, name: KeyName, value: bytes) -> None:
        """Let *value* lie under *name*, wherever it is looked for."""
        for server in self._places(name.wire):
            if not self._put(server, name.wire, value):
                owe(server, name.wire)

    def _places(self, key: bytes) -> list[Server]:
        try:
            return [server for server in self._servers.fleet.ring().pair(key) if server]
        except DiscoveryError:
            return []

    def _ask(self, server: Server, name: KeyName) -> bytes | None:
        """What is there; ``None`` if the server does not answer."""

        def ask(connection: Connection) -> bytes:
            return connection.dialect.get(connection.stream, name.wire) or _NOTHING

        held = self._servers.on(server, ask, None, quietly=True)
        return held if not held or self._created(name, held) > -math.inf else _NOTHING

    def _youngest(self, name: KeyName, known: dict[Server, bytes | None]) -> bytes:
        held = [value for value in known.values() if value]
        return max(held, key=lambda value: self._created(name, value), default=_NOTHING)

    def _created(self, name: KeyName, value: bytes) -> float:
        try:
            return self._codec.header(name.signed, value).created
        except CorruptValue:
            return -math.inf

    def _proposed(self, name: KeyName, known: dict[Server, bytes | None], proposal: bytes) -> bytes:
        """Let the first server that answers decide who was first to propose."""

        def propose(connection: Connection) -> bytes:
            dialect, stream = connection.dialect, connection.stream
            item = dialect.fetch(stream, name.wire)
            if item is not None and (item.data == _NOTHING or self._created(name, item.data) < 0):
                # Nothing that anybody could have agreed on.
                dialect.set(stream, name.wire, proposal, 0, item.token)
            else:
                dialect.add(stream, name.wire, proposal, 0)
            return dialect.get(stream, name.wire) or _NOTHING

        for server, held in known.items():
            if held is not None:
                return self._servers.on(server, propose, _NOTHING, quietly=True)
        return _NOTHING

    def _put(self, server: Server, key: bytes, value: bytes) -> bool:
        def put(connection: Connection) -> bool:
            return connection.dialect.set(connection.stream, key, value, 0)

        return self._servers.on(server, put, False, quietly=True)
