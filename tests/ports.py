"""Ports that stay one's own while nobody listens there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_port"]


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of the loopback for a server that dies and returns.

    A socket has it that does not listen. So who connects while the server is dead is refused,
    the server may have it again, as it allows for others (``SO_REUSEADDR``), and the system
    gives it to nobody who asks for any port, or connects from one.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
