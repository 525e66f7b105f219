"""Where the nodes of a cluster report, each by its name, to be given orders."""

from __future__ import annotations

import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from tests.integration.coherence.settings import State

__all__ = ["PATIENCE", "Orders", "Reception"]

PATIENCE: Final = 40.0
"""Seconds after which a process hangs."""


class Reception:
    """Listens at *path*."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen(16)
        self._socket.settimeout(PATIENCE)
        self._waiting: dict[str, Connection] = {}

    def accept(self, name: str) -> Connection:
        """The connection of the node with that *name*, once it is here."""
        while name not in self._waiting:
            connection = Connection(self._socket.accept()[0].detach())
            assert connection.poll(PATIENCE)
            self._waiting[connection.recv()] = connection
        return self._waiting.pop(name)

    def close(self) -> None:
        """Nobody is expected any more."""
        self._socket.close()
        for connection in self._waiting.values():
            connection.close()


class Orders:
    """The orders that a node is given, one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection: Connection | None = None

    def connect(self, connection: Connection, settings: Any) -> None:
        """It has reported: tell it what it is."""
        self._connection = connection
        connection.send(settings)

    def begin(self, order: str, *given: Any) -> None:
        """Have it do something."""
        assert self._connection is not None
        self._connection.send((order, given))

    def hear(self) -> Any:
        """What it answers."""
        assert self._connection is not None
        assert self._connection.poll(PATIENCE), f"{self.name} hangs:\n{self.excuse()}"
        return self._connection.recv()

    def excuse(self) -> str:
        """What can be known of why it does not answer."""
        return ""

    def ask(self, order: str, *given: Any) -> Any:
        """Both."""
        self.begin(order, *given)
        return self.hear()

    @property
    def state(self) -> State:
        """How it stands."""
        state = self.ask("state")
        assert isinstance(state, State)
        return state

    def close(self) -> None:
        """There are no more orders: it ends."""
        if self._connection is not None:
            self._connection.close()
