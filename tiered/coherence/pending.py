"""Who computes what: the claims that a broker has granted."""

from __future__ import annotations

import heapq
from typing import NamedTuple

__all__ = ["PendingClaim", "PendingTable"]


class PendingClaim(NamedTuple):
    """A key that *node* computes under *token*, until *ends* (monotonic) at the latest."""

    node: bytes
    token: int
    ends: float


class PendingTable:
    """The claims that are held, by key; each ends by itself.

    Args:
        most: claims to keep. When there are more, whoever asks may compute: that costs work,
            and no truth.
        most_of_one: of them for one node.
        longest: seconds that a claim can last.

    Threads: one.
    """

    def __init__(self, most: int, most_of_one: int, longest: float) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._longest = longest
        self._claims: dict[bytes, PendingClaim] = {}
        self._ends: list[tuple[float, bytes, int]] = []
        self._of: dict[bytes, set[bytes]] = {}
        self._token = 0

    def claim(self, key: bytes, node: bytes, ttl: float, now: float) -> PendingClaim:
        """The claim on *key* after *node* asked: its own if it has the node's name on it."""
        self.expire(now)
        held = self._claims.get(key)
        if held is not None and held.node != node:
            return held
        self._token += 1
        claim = PendingClaim(node, self._token, now + min(ttl, self._longest))
        if held is not None:
            self._drop(key)  # asked again: the answer was lost, or the holder knows it is over
        of = self._of.setdefault(node, set())
        if len(self._claims) < self._most and len(of) < self._most_of_one:
            of.add(key)
            self._claims[key] = claim
            heapq.heappush(self._ends, (claim.ends, key, claim.token))
        elif not of:
            del self._of[node]
        return claim

    def release(self, key: bytes, token: int) -> bool:
        """End the claim with *token*; whether it was held."""
        held = self._claims.get(key)
        if held is None or held.token != token:
            return False
        self._drop(key)
        return True

    def leave(self, node: bytes) -> None:
        """End all claims of *node*, which is gone."""
        for key in list(self._of.get(node, ())):
            self._drop(key)

    def expire(self, now: float) -> None:
        """End what has reached its end."""
        while self._ends and (
            self._ends[0][0] <= now or len(self._ends) > 2 * len(self._claims) + 64
        ):
            ends, key, token = heapq.heappop(self._ends)
            held = self._claims.get(key)
            if held is None or held.token != token:
                continue
            if ends > now:
                # Only a part of the heap was out of date: put back what is not.
                heapq.heappush(self._ends, (ends, key, token))
                self._ends = [
                    (claim.ends, name, claim.token) for name, claim in self._claims.items()
                ]
                heapq.heapify(self._ends)
                return
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        claim = self._claims.pop(key)
        of = self._of[claim.node]
        of.discard(key)
        if not of:
            del self._of[claim.node]

    def __len__(self) -> int:
        return len(self._claims)
