"""What a broker knows of a node, and of those that wait until all nodes have applied an event."""

from __future__ import annotations

import math
from bisect import bisect_right
from operator import attrgetter
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

    __slots__ = ("over", "peer", "seq", "serial", "waiting")

    def __init__(self, peer: Peer, serial: int, seq: int, waiting: set[bytes]) -> None:
        self.peer = peer
        self.serial = serial
        self.seq = seq
        self.waiting = waiting
        self.over = False
        """Whether *peer* need not be told of it any more."""


class Waits:
    """Who is to be told when everybody has applied an event of his.

    What a node has applied grows, so each wait is looked at once for each node, however many
    there are: all that others do passes by here while one node is stalled.

    Threads: one.
    """

    def __init__(self) -> None:
        self._waits: list[_Wait] = []
        """By the number of the event."""
        self._over = 0
        """How many of them are."""
        self._newest: dict[bytes, _Wait] = {}
        """By who waits."""
        self._applied: dict[bytes, int] = {}
        """By node, up to which number it was taken out of what is waited for."""
        self._settled: list[_Wait] = []

    def __len__(self) -> int:
        return len(self._waits) - self._over

    def add(self, peer: Peer, seq: int, others: set[bytes]) -> None:
        """Tell *peer* of its newest event, *seq*, when *others* (which is kept) have applied it."""
        newest = self._newest.get(peer.node)
        if newest is not None and len(self) >= _WAITS:
            others |= newest.waiting  # it is told later, and of both
            self._end(newest)
        wait = self._newest[peer.node] = _Wait(peer, peer.serial, seq, others)
        self._waits.append(wait)
        if not others:
            self._settled.append(wait)

    def applied(self, node: bytes, seq: float) -> None:
        """*node* has applied all up to *seq*, or serves nothing (``inf``)."""
        if not self._waits:
            return
        known = self._applied.pop(node, -1)
        for at in range(bisect_right(self._waits, known, key=_seq), len(self._waits)):
            wait = self._waits[at]
            if wait.seq > seq:
                break
            known = wait.seq
            if node in wait.waiting:
                wait.waiting.discard(node)
                if not wait.waiting and not wait.over:
                    self._settled.append(wait)
        if seq < math.inf:
            self._applied[node] = known  # who comes back waits for nothing of before

    def settled(self) -> list[tuple[Peer, int]]:
        """Who need not wait any more, and up to which of its serials; each is given once."""
        settled = [(wait.peer, wait.serial) for wait in self._settled if not wait.over]
        for wait in self._settled:
            self._end(wait)
        self._settled.clear()
        return settled

    def _end(self, wait: _Wait) -> None:
        if wait.over:
            return
        wait.over = True
        self._over += 1
        if self._newest.get(wait.peer.node) is wait:
            del self._newest[wait.peer.node]
        if self._over * 2 > len(self._waits):
            self._waits = [wait for wait in self._waits if not wait.over]
            self._over = 0
            if not self._waits:
                self._applied.clear()


_seq: Final = attrgetter("seq")
