"""Invalidations by our bus: nodes with a private tier, and a broker of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from bench.watched import Watched, forget, gone
from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient
from tiered.coherence import CoherenceManager, CoherentWrapperClient, ZmqBroker, ZmqBus

__all__ = ["CountingManager", "TieredBroker", "TieredNode"]

TTL = 3600
ROOM = 200_000
SECRET = "bench"
PATIENCE = 60.0
WINDOW = 20_000
"""Events that a publisher has under way at most, when it goes as fast as it can."""


class CountingManager(CoherenceManager):
    """Notes how many events it has heard, and when the latest one was applied."""

    heard = 0
    latest = 0

    def hear(self, events: Sequence[Any]) -> None:
        """Count them when they have been applied."""
        super().hear(events)
        self.heard += len(events)
        self.latest = time.monotonic_ns()


class TieredNode:
    """Private memory in front of a shared tier, kept in step by the bus.

    Args:
        addresses: of the bus.
        candidate: whether it may be the broker.
        memcached: the address of the shared tier; None: a stand-in in memory, of this process only.
        key: of the bus; None for none.
        neighbours: whether nodes tell each other, too.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        candidate: bool,
        memcached: str | None,
        key: bytes | None = None,
        neighbours: bool = True,
    ) -> None:
        self._stand_in = memcached is None
        self._private = InprocCacheClient(ROOM)
        self._shared: Any = (
            InprocCacheClient(ROOM)
            if memcached is None
            else MemcachedClient([memcached], checksum_key=SECRET)
        )
        self._bus = ZmqBus(list(addresses), key=key, candidate=candidate, neighbours=neighbours)
        self._manager = CountingManager("bench", self._private, self._shared, self._bus)
        tiers = TieredInclusiveClient(self._private, self._shared)
        self._client = CoherentWrapperClient(tiers, self._manager)
        self._manager.start()

    def ready(self) -> bool:
        """Whether it follows a broker, and may serve without asking."""
        return self._manager.verified

    def store(self, keys: Sequence[str]) -> None:
        """Write a value under each of *keys* into the shared tier, and tell nobody."""
        for key in keys:
            self._shared.put(key, Watched(key), TTL)

    def delete(self, keys: Sequence[str], pause: float) -> list[int]:
        """Delete each of *keys*, every *pause* seconds; when each was begun, nanoseconds."""
        delete = self._client.delete
        began = []
        for key in keys:
            began.append(time.monotonic_ns())
            delete(key)
            if pause:
                time.sleep(pause)
        return began

    def flood(self, keys: Sequence[str]) -> int:
        """Delete *keys* as fast as the bus takes them; when that began.

        No more than some thousand events are under way at a time, so what is measured could go on
        for ever.
        """
        delete, bus = self._client.delete, self._bus
        began = time.monotonic_ns()
        for number, key in enumerate(keys, 1):
            delete(key)
            if number % 1000 == 0:
                while bus.stats.owed > WINDOW:
                    time.sleep(0.001)
        return began

    def hold(self, keys: Sequence[str]) -> None:
        """Read each of *keys* into the private tier, which has the only reference then.

        Raises:
            TimeoutError: one cannot be kept there.
        """
        deadline = time.monotonic() + PATIENCE
        for key in keys:
            if self._stand_in:
                self._shared.put(key, Watched(key), TTL)
            # Where a machine is busy the lease may end meanwhile.
            while self._client.get(key, None) is None or not self._private.contains(key):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{key} is not held: {self.state()}")
                time.sleep(0.001)
            if self._stand_in:
                self._shared.delete(key)
        forget()

    def held(self, keys: Sequence[str]) -> int:
        """How many of *keys* lie in the private tier."""
        return sum(map(self._private.contains, keys))

    def gone(self, keys: Sequence[str], patience: float) -> dict[str, int]:
        """When each of *keys* left the private tier, of those that did in *patience* seconds."""
        return gone(keys, patience)

    def heard(self) -> tuple[int, int]:
        """How many events it has applied until now, and when the latest was."""
        return self._manager.heard, self._manager.latest

    def suspicions(self) -> tuple[int, int]:
        """How often it found that events were missing, and how often it had to distrust all."""
        stats = self._bus.stats
        return stats.gaps, stats.distrusts

    def state(self) -> str:
        """All that it knows and has counted."""
        return repr(self._manager.stats)

    def follow_another(self, patience: float) -> int:
        """Wait until it may serve unasked on the word of another broker; when that was so.

        Raises:
            TimeoutError: it did not happen for *patience* seconds.
        """
        epoch, deadline = self._bus.stats.epoch, time.monotonic() + patience
        while self._bus.stats.epoch == epoch or not self.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no other broker for {patience:g} s: {self._bus.stats}")
            time.sleep(0.001)
        return time.monotonic_ns()

    def served(self, keys: Sequence[str]) -> int:
        """How many of *keys* it has a value for."""
        return sum(self._client.get(key, None) is not None for key in keys)


class TieredBroker:
    """The broker, in a process of its own."""

    def __init__(self, addresses: Sequence[str], key: bytes | None = None) -> None:
        self._broker = ZmqBroker(list(addresses), key=key)
        threading.Thread(target=self._broker.run, daemon=True).start()

    def ready(self) -> bool:
        """It is, once it was made."""
        return True
