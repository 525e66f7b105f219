"""A memcached of the benchmark's own, and the bare exchange that its clients are compared with."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack

from tiered.cli.demo.server import PrivateMemcached

__all__ = ["Exchange", "pair", "with_server", "with_servers"]


def _pinned_server() -> PrivateMemcached:
    """Not yet started; it, this process and its children share one core.

    Where they have several, a round trip costs 12 or 90 µs by luck of the scheduler, as a core
    that sleeps has to be woken; that hides every difference between clients.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return PrivateMemcached()


def with_server(run: Callable[[str], int]) -> int:
    """*run* with the address of a new server; the exit status, 0 if none is installed."""
    return with_servers(1, lambda addresses: run(addresses[0]))


def with_servers(count: int, run: Callable[[list[str]], int]) -> int:
    """*run* with the addresses of so many new servers, all on the same core."""
    if not PrivateMemcached.installed():
        print("memcached is not installed; nothing to measure", file=sys.stderr)
        return 0
    with ExitStack() as stack:
        servers = [stack.enter_context(_pinned_server()) for _ in range(count)]
        return run([server.address for server in servers])


def pair(address: str) -> tuple[str, int]:
    """*address* as pymemcache takes it."""
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Exchange:
    """A socket, and requests that were written beforehand."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection(pair(address))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes, end: bytes) -> bytes:
        """Send, and read until *end*."""
        self.send(request)
        return self.receive(end)

    def send(self, request: bytes) -> None:
        """Only send."""
        self._socket.sendall(request)

    def receive(self, end: bytes, room: int = 16384) -> bytes:
        """Read until *end*, in pieces of up to *room* bytes."""
        answer = self._socket.recv(room)
        while not answer.endswith(end):
            answer += self._socket.recv(room)
        return answer
