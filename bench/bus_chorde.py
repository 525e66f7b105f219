"""Invalidations by chorde, where it is installed: nodes with a private tier.

Who binds is the broker. The shared tier is a stand-in in each process's memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from bench.actors import Actor
from bench.peers import peer
from bench.watched import Watched, gone

__all__ = ["ChordeNode", "await_following", "installed"]

TTL = 3600
ROOM = 200_000


def installed() -> bool:
    """Whether there is a chorde to measure."""
    return peer("chorde.mq.coherence") is not None and peer("chorde.clients.coherent") is not None


class ChordeNode:
    """One participant.

    Args:
        requests, events: the broker's addresses.
    """

    def __init__(self, requests: str, events: str) -> None:
        logging.getLogger("chorde").setLevel(logging.CRITICAL + 1)  # a line for each loss
        inproc, coherent = peer("chorde.clients.inproc"), peer("chorde.clients.coherent")
        self._private = inproc.InprocCacheClient(ROOM)
        bus = peer("chorde.mq.ipsub.ipsub_zmq").ZMQIPSub
        bus.register_default_pyobj()  # keys go pickled
        self._bus = bus([{"rep": requests, "pub": events}])
        manager = peer("chorde.mq.coherence").CoherenceManager(
            "bench", self._private, inproc.InprocCacheClient(ROOM), self._bus
        )
        self._client = coherent.CoherentWrapperClient(self._private, manager)
        self._heard = self._latest = 0
        self._probes = 0
        drop = self._private.delete

        def count(key: Any, *arguments: Any) -> Any:
            try:
                return drop(key, *arguments)
            finally:
                if key == "probe":
                    self._probes += 1
                else:
                    self._heard += 1
                    self._latest = time.monotonic_ns()

        manager.private = _Counted(self._private, count)
        threading.Thread(target=self._bus.run, daemon=True).start()

    def state(self) -> str:
        """What it knows of itself."""
        return "broker" if self._bus.is_broker else "listener"

    def probe(self) -> None:
        """Delete something that nobody counts."""
        self._private.put("probe", None, TTL)
        self._client.delete("probe")

    def probes(self) -> int:
        """How many of these have arrived."""
        return self._probes

    def store(self, keys: Sequence[str]) -> None:
        """There is no shared tier: what is deleted must be there."""
        for key in keys:
            self._private.put(key, None, TTL)

    def delete(self, keys: Sequence[str], pause: float) -> list[int]:
        """Delete each of *keys*, every *pause* seconds; when each was begun, nanoseconds."""
        began = []
        for key in keys:
            began.append(time.monotonic_ns())
            self._client.delete(key)
            if pause:
                time.sleep(pause)
        return began

    def hold(self, keys: Sequence[str]) -> None:
        """Have a value for each of *keys*."""
        for key in keys:
            self._private.put(key, Watched(key), TTL)

    def gone(self, keys: Sequence[str], patience: float) -> dict[str, int]:
        """When each of *keys* was dropped, of those that were within *patience* seconds."""
        return gone(keys, patience)

    def heard(self) -> tuple[int, int]:
        """How many deletes have arrived until now, and when the latest did."""
        return self._heard, self._latest


def await_following(publisher: Actor, watchers: Sequence[Actor]) -> None:
    """Until what *publisher* deletes reaches all *watchers*: before, it is lost."""
    while not all(watcher.ask("probes") for watcher in watchers):
        publisher.ask("probe")
        time.sleep(0.05)
    time.sleep(0.2)  # the last of the probes


class _Counted:
    """*client*, whose ``delete`` is another."""

    def __init__(self, client: Any, delete: Any) -> None:
        self._client = client
        self.delete = delete

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
