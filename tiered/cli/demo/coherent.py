"""A worker's part in the bus: notices that it changes, and checks.

Each worker changes notices of its own, a few times a second, and has them dropped everywhere;
all read all of them, out of memory most of the time. What has to be true: once everybody was
told of a version, nobody is given an older one.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar

from tiered.cli.demo.board import Board
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.coherence import ZmqBus
from tiered.coherence.messages import Event
from tiered.coherence.names import topic_of
from tiered.decorators import CachedFunction, coherent_cached

__all__ = ["DETECTION", "Coherence", "Figures", "Participant"]

P = ParamSpec("P")
R = TypeVar("R")

DETECTION: Final = 0.5
"""Seconds after which nobody serves on the word of a dead broker."""

_TTL: Final = 3600.0
_CLAIM_TTL: Final = 2.0
_PAUSE: Final = 0.05
"""Seconds between two changes of one worker."""
_SETTLE_WITHIN: Final = 3.0
_JOIN_WITHIN: Final = 3.0


@dataclass(frozen=True)
class Coherence:
    """What a worker is told.

    Attributes:
        address: of the bus.
        board: what is true.
        workers: how many share it.
    """

    address: str
    board: Board
    workers: int


@dataclass
class Figures:
    """What a worker has seen.

    Attributes:
        changes: notices that it changed.
        unsettled: of these, how many not all others confirmed in time.
        latencies: seconds until changes of others had left its memory, by version.
        checked: answers that were compared with what everybody had been told of.
        stale: of these, how many were older.
        confirmed: reads that asked the shared tier, as the bus was not to be believed.
        believed: by epoch, when (monotonic) the bus was first believed.
    """

    changes: int = 0
    unsettled: int = 0
    latencies: list[float] = field(default_factory=list)
    checked: int = 0
    stale: int = 0
    confirmed: int = 0
    believed: dict[int, float] = field(default_factory=dict)


class Participant:
    """One worker on the bus.

    Args:
        number: from 0.
        secret: of the run.
        shared: the tier that all share, if any.

    Threads: :meth:`check` is for one; changes are made in a thread of its own.
    """

    def __init__(
        self, told: Coherence, number: int, secret: str, shared: CacheClient | None
    ) -> None:
        self._board = board = told.board
        self._number = number
        self._workers = told.workers
        self._secret = secret
        self._shared = shared
        self.bus = ZmqBus([told.address], key=secret, detection=DETECTION, label=f"worker {number}")
        self._watch = _Watch(f"watch/{secret}")
        self._clients: list[CacheClient] = []

        def notice(number: int) -> int:
            return board.versions[number]

        private = InprocCacheClient(board.size)
        self._notice = self._cached(notice, private, synchronous=True, timeout=_SETTLE_WITHIN)
        self._latencies: list[float] = []
        self._changes = self._checked = self._stale = 0
        self._turn = itertools.cycle(range(board.size))
        self._stopped = threading.Event()
        self._changer = threading.Thread(target=self._change, name="changer", daemon=True)

    def cached(self, function: Callable[P, R], private: CacheClient) -> CachedFunction[P, R]:
        """The demo's job, cached in *private*, which is kept in step, and in the shared tier."""
        return self._cached(function, private)

    def _cached(
        self, function: Callable[P, R], private: CacheClient, **options: Any
    ) -> CachedFunction[P, R]:
        name = f"demo/{self._secret}/{function.__name__}"
        decorate = coherent_cached(
            private,
            self._shared,
            self.bus,
            _TTL,
            topic=name,
            namespace=name,
            claim_ttl=_CLAIM_TTL,
            **options,
        )
        made = decorate(function)
        self._clients.append(made.client)
        return made

    def start(self) -> None:
        """Take part, and begin to change."""
        self.bus.join(self._watch)
        self.bus.start()
        until = time.monotonic() + _JOIN_WITHIN
        for client in self._clients:
            client.contains("anything")  # the first use begins to listen
        while not self._in_step and time.monotonic() < until:
            time.sleep(0.005)
        follow, key = self._notice.client.follow, self._notice.callkey
        for number in range(self._board.size):
            if number % self._workers != self._number:
                self._notice(number)
                follow(key(number), self._dropped(number))
        self._confirmed_before = self.confirmed
        self._changer.start()

    @property
    def _in_step(self) -> bool:
        """Whether what is computed from now on is kept."""
        stats = [client.coherence for client in self._clients]
        return bool(self._watch.believed) and all(one and one.verified for one in stats)

    def close(self) -> None:
        """Leave."""
        self._stopped.set()
        if self._changer.is_alive():
            self._changer.join()
        self.bus.close()
        for client in self._clients:
            client.close()

    # -- Changes -------------------------------------------------------------------

    def _change(self) -> None:
        board = self._board
        for number in itertools.cycle(range(self._number, board.size, self._workers)):
            if self._stopped.wait(_PAUSE):
                return
            version = board.versions[number] + 1
            board.changed_at[number] = time.monotonic()
            board.versions[number] = version
            self._notice.invalidate(number)
            if self._stopped.is_set():
                return
            # All have dropped it, or believe nothing by now.
            board.known[number] = version
            self._changes += 1

    def _dropped(self, number: int) -> Callable[[str], None]:
        """What to call when the copy of a notice has gone."""
        board, seen = self._board, self._board.versions[number]

        def changed(how: str) -> None:
            nonlocal seen
            version = board.versions[number]
            if how == "changed" and version > seen:
                seen = version
                self._latencies.append(time.monotonic() - board.changed_at[number])

        return changed

    # -- Checks --------------------------------------------------------------------

    def check(self) -> None:
        """Read a notice, and compare."""
        number = next(self._turn)
        known = self._board.known[number]
        self._checked += 1
        if self._notice(number) < known:
            self._stale += 1

    @property
    def confirmed(self) -> int:
        """Reads that did not believe what was held here."""
        known = [client.coherence for client in self._clients]
        return sum(stats.confirmed + stats.refetched for stats in known)

    def figures(self) -> Figures:
        """What was seen since the last time, where that is a list, or so far."""
        latencies, self._latencies = self._latencies, []
        return Figures(
            self._changes,
            self._notice.client.coherence.unsettled,
            latencies,
            self._checked,
            self._stale,
            self.confirmed - self._confirmed_before,
            dict(self._watch.believed),
        )


class _Watch:
    """Notes when the bus can be believed; a member of it."""

    def __init__(self, namespace: str) -> None:
        self.topic = topic_of(namespace)
        self.believed: dict[int, float] = {}

    def hear(self, events: Sequence[Event]) -> None:
        """Nobody has anything to say here."""

    def distrust(self, reason: str) -> None:
        """Of which the clients hear."""

    def extend(self, epoch: int, until: float) -> None:
        if until > -math.inf:
            self.believed.setdefault(epoch, time.monotonic())

    def accepted(self) -> None:
        """Nothing of ours."""

    def overdue(self) -> None:
        """Nor is anything late."""

    def told(self, node: bytes, payload: bytes) -> None:
        """Nobody asks."""
