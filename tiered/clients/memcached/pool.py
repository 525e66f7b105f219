"""A bounded pool of connections to one server.

Threads. A connection is used by one thread at a time. When all are in use, a
thread waits for one, for a bounded time; waiting holds nothing that others need.
After a fork the child starts with an empty pool: the parent's sockets are closed
in the child (which the server does not see) and never used by it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tiered.clients.memcached.transport import Connection
from tiered.concurrency import fork
from tiered.errors import PoolTimeout

__all__ = ["ConnectionPool"]


class ConnectionPool:
    """Up to *size* connections, made on demand by *connect*.

    Args:
        connect: makes an unopened connection.
        size: how many may be in use at a time.
        patience: seconds to wait for one when all are in use.
    """

    def __init__(self, connect: Callable[[], Connection], *, size: int, patience: float) -> None:
        self._connect = connect
        self._size = size
        self._patience = patience
        self._idle: deque[Connection] = deque()
        # A pool that is dropped without close() gives its sockets back all the same.
        weakref.finalize(self, _close_all, self._idle)
        fork.register(self)
        self._renew()

    def _renew(self) -> None:
        self._generation = object()
        self._places = threading.BoundedSemaphore(self._size)

    def after_fork(self) -> None:
        """Close what the parent had idle; what its threads were using is not ours either."""
        _close_all(self._idle)
        self._renew()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for the block; the most recently used one, which is the warmest.

        Raises:
            PoolTimeout: none came free in time.
        """
        places, generation = self._places, self._generation
        if not places.acquire(timeout=self._patience):
            raise PoolTimeout(f"all {self._size} connections were in use for {self._patience} s")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                # A connection whose exchange was interrupted has closed its socket itself.
                yield connection
            finally:
                if generation is self._generation:
                    self._idle.append(connection)
                else:
                    connection.close()  # forked inside the block: the parent has it
        finally:
            places.release()

    def close(self) -> None:
        """Close what is idle; what is in use is closed by nobody and goes on working."""
        _close_all(self._idle)


def _close_all(idle: deque[Connection]) -> None:
    while True:
        try:
            idle.pop().close()
        except IndexError:
            return
