"""What a broker knows of a node, and of those that wait until all nodes have applied an event."""

from __future__ import annotations

import math
from typing import Final

from tiered.coherence.effects import Route

__all__ = ["Peer", "Waits"]

_WAITS: Final = 10_000
"""Kept apart; with more, those of one node become one."""


class Peer:
    """A node that follows, or has followed.

    Attributes:
        node, label: as it has said.
        route: the way to it.
        nonce: of its last hello; earlier ones that come late mean nothing.
        heard: when its last ping came that it can have a lease from.
        seq: that it has applied.
        serial: of its newest event that is known here.
        settled: of its newest urgent event that all have applied.
    """

    __slots__ = ("heard", "label", "node", "nonce", "route", "seq", "serial", "settled")

    def __init__(self, node: bytes) -> None:
        self.node = node
        self.label = ""
        self.route: Route = None
        self.nonce = -1
        self.heard = -math.inf
        self.seq = self.serial = self.settled = 0


class _Wait:
    """Urgent events of *peer* up to *seq*, which *waiting* nodes have not applied yet."""

    __slots__ = ("peer", "seq", "serial", "waiting")

    def __init__(self, peer: Peer, serial: int, seq: int, waiting: set[bytes]) -> None:
        self.peer = peer
        self.serial = serial
        self.seq = seq
        self.waiting = waiting


class Waits:
    """Who is to be told when everybody has applied an event of his.

    Threads: one.
    """

    def __init__(self) -> None:
        self._waits: list[_Wait] = []

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, peer: Peer, seq: int, others: set[bytes]) -> None:
        """Tell *peer* of its newest event, *seq*, when *others* (which is kept) have applied it."""
        if len(self._waits) >= _WAITS:
            for wait in reversed(self._waits):
                if wait.peer is peer:  # it is told later, and of both
                    wait.serial, wait.seq = peer.serial, seq
                    wait.waiting |= others
                    return
        self._waits.append(_Wait(peer, peer.serial, seq, others))

    def applied(self, node: bytes, seq: float) -> None:
        """*node* has applied all up to *seq*, or serves nothing (``inf``)."""
        for wait in self._waits:
            if wait.seq <= seq:
                wait.waiting.discard(node)

    def settled(self) -> list[tuple[Peer, int]]:
        """Who need not wait any more, and up to which of its serials; each is given once."""
        settled = [(wait.peer, wait.serial) for wait in self._waits if not wait.waiting]
        if settled:
            self._waits = [wait for wait in self._waits if wait.waiting]
        return settled
