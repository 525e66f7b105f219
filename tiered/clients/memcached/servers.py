"""The servers of a client: which one holds a key, and asking it.

A failure of a server is an answer here, not an exception: callers get the
fallback that they named, and the failure is counted and logged once per interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from tiered.clients.memcached.pool import ConnectionPool
from tiered.clients.memcached.transport import Connection
from tiered.errors import (
    BackendError,
    NoServersError,
    PoolTimeout,
    ServerRefusal,
    ValueTooLarge,
)
from tiered.routing.addresses import Address
from tiered.routing.health import NodeHealth
from tiered.routing.ring import HashRing
from tiered.stats.counters import Counters
from tiered.stats.reports import Reports
from tiered.typing import Clock

__all__ = ["Server", "Servers"]

T = TypeVar("T")


class Server:
    """One server: its connections and its health."""

    def __init__(self, address: Address, pool: ConnectionPool, health: NodeHealth) -> None:
        self.address: Final = address
        self.pool: Final = pool
        self.health: Final = health

    def __repr__(self) -> str:
        return f"<Server {self.address}>"


class Servers:
    """The ring of servers, and how a failing one is treated.

    Args:
        addresses: the servers.
        connect_timeout, timeout: seconds for opening a connection and for each read.
        pool_size, pool_timeout: see :class:`ConnectionPool`.
        strict: raise instead of answering with the fallback.
        counters: where failures are counted.

    Threads: safe.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        connect_timeout: float,
        timeout: float,
        pool_size: int,
        pool_timeout: float,
        strict: bool,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._strict = strict
        self._counters = counters
        self._reports = Reports("tiered.memcached", clock)

        def server(address: Address) -> Server:
            def connect() -> Connection:
                return Connection(address, connect_timeout=connect_timeout, timeout=timeout)

            pool = ConnectionPool(connect, size=pool_size, patience=pool_timeout)
            return Server(address, pool, NodeHealth(clock))

        self.all = [server(address) for address in addresses]
        self._ring = HashRing([(one.address.ring_name, one) for one in self.all])

    def of(self, wire: bytes) -> Server:
        """The server of a wire key."""
        return self._ring.node(wire)

    def ask(self, server: Server, exchange: Callable[[Connection], T], fallback: T) -> T:
        """*exchange*'s answer over a connection to *server*, or *fallback* if that fails.

        Raises:
            ValueTooLarge: the server refused the size of a value.
            BackendError: it failed, and the client is strict.
        """
        if not server.health.usable:
            return self._failed(
                NoServersError(f"{server.address} failed a moment ago and is left alone"),
                fallback,
            )
        try:
            with server.pool.connection() as connection:
                answer = exchange(connection)
        except PoolTimeout as error:
            self._report(server, error)  # our own threads were too many, not the server's fault
            return self._failed(error, fallback)
        except ServerRefusal as error:
            server.health.succeeded()
            self._report(server, error)
            return self._failed(error, fallback)
        except BackendError as error:
            server.health.failed()
            # What is idle was opened before, and would fail one request each.
            server.pool.close()
            self._report(server, error)
            return self._failed(error, fallback)
        except ValueTooLarge:
            server.health.succeeded()
            raise
        server.health.succeeded()
        return answer

    def _failed(self, error: BackendError, fallback: T) -> T:
        self._counters.errors += 1
        if self._strict:
            raise NoServersError(str(error)) from error
        return fallback

    def _report(self, server: Server, error: BackendError) -> None:
        self._reports.warn(server.address, "memcached: %s", error)

    def close(self) -> None:
        """Close idle connections."""
        for server in self.all:
            server.pool.close()

    def each(self, exchange: Callable[[Connection], T], fallback: T) -> dict[str, T]:
        """*exchange* with every server, by address."""
        return {str(one.address): self.ask(one, exchange, fallback) for one in self.all}

    def grouped(self, wires: Sequence[bytes]) -> dict[Server, list[Any]]:
        """*wires* by their server."""
        groups: dict[Server, list[Any]] = {}
        for wire in wires:
            groups.setdefault(self.of(wire), []).append(wire)
        return groups
