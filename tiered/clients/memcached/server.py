"""One server: its connections, whether it can be asked, and what it has to be told first."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.journal import Journal
from tiered.clients.memcached.pool import ConnectionPool
from tiered.clients.memcached.probe import USUAL_ITEM_LIMIT, Knowledge, Profile
from tiered.clients.memcached.stream import Patience, Traffic
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency import fork
from tiered.errors import BackendError, ServerRefusal
from tiered.routing.addresses import Address
from tiered.routing.health import NodeHealth
from tiered.stats.histogram import TimingHistogram
from tiered.typing import Clock

__all__ = ["Server", "ServerStats", "deleting"]

T = TypeVar("T")

_MOST_STUBS: Final = 1000
_REVIVAL: Final = 1.0
"""Seconds that a delete waits for another thread that has the server back in a moment."""
_NOBODY_THERE: Final = (ConnectionRefusedError, FileNotFoundError)
"""What it is called when no process listens: at an address, and at a socket's path."""
_ROUNDS: Final = 3
"""How often it is told what was noted meanwhile, before those who note have to wait."""


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What one server has contributed, as this process saw it.

    Attributes:
        address: as it was configured or found.
        release: the server's version; ``None`` before the first connection.
        up: whether it is asked just now.
        hits, misses: keys that it had, and had not.
        errors: exchanges that failed.
        sent, received: bytes.
        dead_time: seconds that it was not asked, in all.
        owed: deletes that it has to be told of when it returns.
        median, slowest: seconds of an exchange; the second is the 99th percentile.
        latency: exchanges by their duration: upper bounds in seconds, and counts.
    """

    address: str
    release: str | None
    up: bool
    hits: int
    misses: int
    errors: int
    sent: int
    received: int
    dead_time: float
    owed: int
    median: float
    slowest: float
    latency: tuple[tuple[float, int], ...] = field(repr=False)


class Server:
    """One server.

    After a failure it is not *up*: nobody asks it until a pause is over. Then one
    thread connects, tells it the deletes that it has missed, and only then it is up
    again. After a restart that leaves out those that were noted while nobody was there.

    Args:
        late: called when it was told deletes that it had missed.

    Attributes:
        up: whether it may be asked; changes under the journal's lock.
        trusted_from: wall time; what was created there before is not to be believed.

    Threads: safe.
    """

    def __init__(
        self,
        address: Address,
        terms: Terms,
        *,
        pool_size: int,
        pool_timeout: float,
        clock: Clock,
        late: Callable[[], object] = lambda: None,
    ) -> None:
        self.address: Final = address
        self.health: Final = NodeHealth(clock)
        self.journal: Final = Journal()
        self.traffic: Final = Traffic()
        self.latency: Final = TimingHistogram()
        self.knowledge: Final = Knowledge()
        traffic, knowledge = self.traffic, self.knowledge
        self.pool: Final = ConnectionPool(
            lambda: Connection(address, terms, traffic, knowledge),
            size=pool_size,
            patience=pool_timeout,
        )
        self.up = True
        self.trusted_from = -math.inf
        self.hits = 0
        self.misses = 0
        self.errors = 0
        self._clock = clock
        self._late = late
        self._dead_time = 0.0
        self._down_since = 0.0
        self._stubs: deque[bytes] = deque(maxlen=_MOST_STUBS)
        self._run: tuple[str, ...] | None = None
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock: whoever was reviving it is not in this process."""
        self._reviving = threading.Lock()

    @property
    def profile(self) -> Profile | None:
        """What it is, as far as is known."""
        return self.knowledge.profile

    @property
    def item_limit(self) -> int:
        """Bytes of the largest item that it takes, as far as is known."""
        profile = self.profile
        return USUAL_ITEM_LIMIT if profile is None else profile.item_limit

    # -- Asking ------------------------------------------------------------------

    def ask(self, exchange: Callable[[Connection], T]) -> T:
        """The answer of *exchange* over one of the connections.

        Raises:
            PoolTimeout: none was free; that is not the server's fault.
            ServerRefusal, ValueTooLarge: it said no.
            BackendError: it failed, and is not up any more.
        """
        connection = self.pool.take()
        # What is noted from here on may be about a server that has just refused us, and is back.
        notes = self.journal.notes
        started = SYSTEM_CLOCK.monotonic()
        try:
            return connection.run(exchange)
        except BackendError as error:
            self._failed(error, notes)
            raise
        finally:
            self.latency.record(SYSTEM_CLOCK.monotonic() - started)
            self.pool.give(connection)

    def converse(
        self,
        turns: Callable[[Connection], Generator[None, None, T]],
        patience: Patience | None = None,
    ) -> Generator[None, None, T]:
        """The same for *turns*, which stops between each question and its answer."""
        connection = self.pool.take()
        notes = self.journal.notes
        started = SYSTEM_CLOCK.monotonic()
        try:
            return (yield from connection.converse(turns, patience))
        except BackendError as error:
            self._failed(error, notes)
            raise
        finally:
            self.latency.record(SYSTEM_CLOCK.monotonic() - started)
            self.pool.give(connection)

    def _failed(self, error: BackendError, notes: int) -> None:
        self.errors += 1
        if isinstance(error, ServerRefusal):
            return
        self.health.failed(slowly=isinstance(error.__cause__, TimeoutError))
        if self.up:
            self._leave()
        if isinstance(error.__cause__, _NOBODY_THERE):
            self.journal.ended(notes)
        # What is idle was opened before, and would fail one request each.
        self.pool.close()

    def _leave(self) -> None:
        self.up = False
        self._down_since = self._clock.monotonic()
        profile = self.profile
        self._run = None if profile is None else profile.run

    # -- Coming back -------------------------------------------------------------

    def ready(self, *, at_once: bool = False) -> bool:
        """Whether it may be asked, after an attempt to get it back if that is due.

        Args:
            at_once: do not wait for the end of the pause, if it refuses quickly.

        Raises:
            BackendError: the attempt was made by this thread, and failed.
        """
        if self.up:
            return True
        due = self.health.usable or (at_once and self.health.refuses_quickly)
        # Who has time to wait does, for the thread that is at it.
        if not due or not self._reviving.acquire(timeout=_REVIVAL if at_once else 0):
            return False
        try:
            if not self.up:
                self._revive()
            return True
        except ServerRefusal:
            self.health.failed()  # or every request would try
            raise
        finally:
            self._reviving.release()

    def _revive(self) -> None:
        run = self.ask(_sign_of_life)
        if None not in (run, self._run) and run != self._run:
            self.journal.forget()
        self._run = run
        while self._stubs:
            self.ask(partial(_remove_stub, key=self._stubs.pop()))
        for _ in range(_ROUNDS):
            if self.journal.settle(self._resume):
                return
            due = self.journal.due()
            self._tell(due)
            self.journal.told(due)
        self.journal.conclude(self._tell, self._resume)

    def _tell(self, due: Iterable[bytes]) -> None:
        keys = list(due)
        for _ in self.converse(deleting(keys)):
            pass
        if keys:
            self._late()

    def _resume(self) -> None:
        """Called when there is nothing that it has to be told."""
        if self.journal.overflowed:
            self.trusted_from = self._clock.wall()
        self.health.succeeded()
        self._dead_time += self._clock.monotonic() - self._down_since
        self.up = True

    def owe(self, key: bytes) -> bool:
        """It is to be told to delete *key* before it serves again; ``False`` if it is up."""
        return self.journal.note(key, lambda: self.up)

    def suspend(self, key: bytes) -> None:
        """The same of a server that is up; it is not, until it has been told."""

        def off() -> bool:
            if self.up:
                self._leave()
            return False

        self.journal.note(key, off)

    def suspect(self, key: bytes) -> None:
        """A claim on *key* broke off: a stub may be there that is nobody's."""
        self._stubs.append(key)

    # -- What it is --------------------------------------------------------------

    @property
    def stats(self) -> ServerStats:
        """A frozen snapshot of what was counted."""
        dead = 0.0 if self.up else self._clock.monotonic() - self._down_since
        profile = self.profile
        return ServerStats(
            address=str(self.address),
            release=None if profile is None else profile.release,
            up=self.up,
            hits=self.hits,
            misses=self.misses,
            errors=self.errors,
            sent=self.traffic.sent,
            received=self.traffic.received,
            dead_time=self._dead_time + dead,
            owed=len(self.journal),
            median=self.latency.percentile(0.5),
            slowest=self.latency.percentile(0.99),
            latency=tuple(self.latency.bounds()),
        )

    def __repr__(self) -> str:
        return f"<Server {self.address}, {'up' if self.up else 'left alone'}>"


def deleting(keys: Sequence[bytes]) -> Callable[[Connection], Generator[None, None, list[bool]]]:
    """A conversation that deletes *keys*; for each, whether there was one."""
    return lambda connection: connection.dialect.delete_many(connection.stream, keys)


def _remove_stub(connection: Connection, key: bytes) -> None:
    token = connection.dialect.stub(connection.stream, key)
    if token is not None:
        connection.dialect.delete(connection.stream, key, token)


def _sign_of_life(connection: Connection) -> tuple[str, ...] | None:
    """Have it answer something; which run of the server that was."""
    connection.stream.send(b"version\r\n")
    connection.stream.line()
    return connection.profile.run
