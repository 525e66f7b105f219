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
from collections.abc import Callable

from tiered.clients.memcached.connection import Connection
from tiered.clock import SYSTEM_CLOCK
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
        # Taking an idle connection and giving it back are single steps of a deque: the lock
        # is for those who find none.
        self._idle: deque[Connection] = deque()
        # A pool that is dropped without close() gives its sockets back all the same.
        weakref.finalize(self, _close_all, self._idle)
        fork.register(self)
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.Condition()  # re-entrant: collected garbage may give back
        self._waiting = 0
        self._generation = object()
        # Weakly: one that an interruption made away with gives its place back.
        self._made: weakref.WeakSet[Connection] = weakref.WeakSet()

    def after_fork(self) -> None:
        """Close what the parent had idle; what its threads were using is not ours either."""
        _close_all(self._idle)
        self._renew()

    def take(self) -> Connection:
        """A connection, the most recently used one, which is the warmest; to be given back.

        Raises:
            PoolTimeout: none came free in time.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self._made_or_awaited()

    def give(self, connection: Connection) -> None:
        """The end of the use of *connection*, however that ended."""
        if connection.owner is not self._generation:
            connection.close()  # forked in between: the parent has it
            return
        self._idle.append(connection)
        # Who has begun to wait before this look is told; who begins after it finds what was
        # given back.
        if self._waiting:
            with self._lock:
                self._lock.notify()

    def _made_or_awaited(self) -> Connection:
        ends = SYSTEM_CLOCK.monotonic() + self._patience
        with self._lock:
            self._waiting += 1
            try:
                while True:
                    try:
                        return self._idle.pop()
                    except IndexError:
                        pass
                    if len(self._made) < self._size:
                        connection = self._connect()
                        connection.owner = self._generation
                        self._made.add(connection)
                        return connection
                    left = ends - SYSTEM_CLOCK.monotonic()
                    if left <= 0:
                        raise PoolTimeout(
                            f"all {self._size} connections were in use for {self._patience} s"
                        )
                    self._lock.wait(left)
            finally:
                self._waiting -= 1

    def close(self) -> None:
        """Close what is idle; what is in use is closed by nobody and goes on working."""
        # Each is taken out meanwhile, or it would be closed under whoever takes it.
        closed = []
        while True:
            try:
                closed.append(self._idle.pop())
            except IndexError:
                break
        for connection in closed:
            connection.close()
            self.give(connection)


def _close_all(idle: deque[Connection]) -> None:
    while True:
        try:
            idle.pop().close()
        except IndexError:
            return
