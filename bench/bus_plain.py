"""Invalidations over plain pyzmq: PUB and SUB sockets, and a proxy between them.

Nothing is numbered, so nobody can know what is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import zmq

from bench.actors import Actor
from bench.watched import Watched, gone

__all__ = ["PlainProxy", "PlainPublisher", "PlainWatcher", "await_subscribed"]


class PlainPublisher:
    """Sends keys from *address* (bound), or through a proxy (connected)."""

    def __init__(self, address: str, bind: bool) -> None:
        self._socket: Any = zmq.Context.instance().socket(zmq.PUB)
        (self._socket.bind if bind else self._socket.connect)(address)

    def probe(self) -> None:
        """Send something that is no key."""
        self._socket.send(b"")

    def state(self) -> str:
        """What it knows of itself: nothing."""
        return ""

    def store(self, keys: Sequence[str]) -> None:
        """There is no shared tier."""

    def delete(self, keys: Sequence[str], pause: float) -> list[int]:
        """Tell of each of *keys*, every *pause* seconds; when each was begun."""
        send = self._socket.send
        began = []
        for key in keys:
            began.append(time.monotonic_ns())
            send(key.encode())
            if pause:
                time.sleep(pause)
        return began


class PlainWatcher:
    """Holds values, and drops those it is told of."""

    def __init__(self, address: str) -> None:
        self._held: dict[bytes, Watched] = {}
        self._heard = 0
        self._latest = 0
        self._socket: Any = zmq.Context.instance().socket(zmq.SUB)
        self._socket.subscribe(b"")
        self._socket.connect(address)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        receive, held = self._socket.recv, self._held
        while True:
            held.pop(receive(), None)
            self._heard += 1
            self._latest = time.monotonic_ns()

    def state(self) -> str:
        """What it knows of itself: nothing."""
        return ""

    def hold(self, keys: Sequence[str]) -> None:
        """Have a value for each of *keys*."""
        self._held.update({key.encode(): Watched(key) for key in keys})

    def gone(self, keys: Sequence[str], patience: float) -> dict[str, int]:
        """When each of *keys* was dropped, of those that were within *patience* seconds."""
        return gone(keys, patience)

    def heard(self) -> tuple[int, int]:
        """How many it was told of until now, and when the last time was."""
        return self._heard, self._latest


def await_subscribed(publisher: Actor, watchers: Sequence[Actor]) -> None:
    """Until what *publisher* sends reaches all *watchers*: before, it is lost."""
    while not all(watcher.ask("heard")[0] for watcher in watchers):
        publisher.ask("probe")
        time.sleep(0.01)
    time.sleep(0.1)  # the last of the probes


class PlainProxy:
    """Takes from publishers at *front*, gives to subscribers at *back*."""

    def __init__(self, front: str, back: str) -> None:
        context: Any = zmq.Context.instance()
        xsub, xpub = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
        xsub.bind(front)
        xpub.bind(back)
        threading.Thread(target=zmq.proxy, args=(xsub, xpub), daemon=True).start()

    def ready(self) -> bool:
        """It is, once it was made."""
        return True
