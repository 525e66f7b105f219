"""Leases in trees of brokers, simulated: how long nodes go on after something above them died.

A node pings what is above it, and may serve until some time after the ping was *sent* whose answer
it has. A broker in a tree is a node of the one above. It answers only while its own lease lasts,
and there are two ways to answer:

- *added*: the lease below starts anew with each answer. What a node serves then may be as old as
  the detection time for each level between it and the root.
- *nested*: the answer says how much is left of the broker's own lease, and the one below ends no
  later. Durations are told, not times, so clocks need not agree. The bound is the same at any
  depth; the price is that leases are shorter the deeper one is, so pings must come more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.fanout_tree import Costs

__all__ = ["Outlasting", "outlast"]


@dataclass(frozen=True)
class Outlasting:
    """What leases did, seconds.

    Attributes:
        mean, most: for how long nodes at the bottom went on after the root had died.
        margin: the least that was left of a lease before, when all was well; negative where nodes
            had to ask the shared tier for a while although nothing was wrong.
    """

    mean: float
    most: float
    margin: float


def outlast(
    levels: int,
    costs: Costs,
    *,
    detection: float,
    interval: float,
    nested: bool,
    paths: int,
    seed: int = 1,
) -> Outlasting:
    """On *paths* ways from the root to a node, with pings every *interval* seconds."""
    chance = np.random.default_rng(seed)
    after, margins = [], []
    for _ in range(paths):
        lease: _Lease | None = None
        for _ in range(levels):
            lease = _below(lease, levels, costs, detection, interval, nested, chance)
        assert lease is not None
        after.append(lease.end)
        margins.append(lease.margin(-detection))
    return Outlasting(float(np.mean(after)), float(np.max(after)), float(np.min(margins)))


class _Lease:
    """Of one node: from when on which horizon held. The root dies at time 0."""

    def __init__(self, since: Any, horizons: Any) -> None:
        self._since = since
        self._horizons = np.maximum.accumulate(horizons)

    @property
    def end(self) -> float:
        return max(0.0, float(self._horizons[-1]))

    def left(self, moments: Any) -> Any:
        """What is left of it at each of *moments*."""
        known = np.searchsorted(self._since, moments, side="right") - 1
        return np.where(known >= 0, self._horizons[np.maximum(known, 0)], -np.inf) - moments

    def margin(self, since: float) -> float:
        """The least that was left between *since* and the root's death, just before renewals."""
        renewed = self._since[1:]
        wanted = (renewed > since) & (renewed < 0)
        return float(np.min((self._horizons[:-1] - renewed)[wanted]))


def _below(
    above: _Lease | None,
    levels: int,
    costs: Costs,
    detection: float,
    interval: float,
    nested: bool,
    chance: np.random.Generator,
) -> _Lease:
    """The lease of a child of whom *above* belongs to; None: of the root."""
    begin = -(levels + 2) * (detection + interval)
    sent = np.arange(begin + chance.uniform(0, interval), (levels + 1) * detection, interval)
    asked = sent + costs.hops(chance, len(sent))
    left = np.where(asked < 0, np.inf, -np.inf) if above is None else above.left(asked)
    answered = left > 0
    sent, asked, left = sent[answered], asked[answered], left[answered]
    length = np.minimum(detection, left) if nested else detection
    known = np.maximum.accumulate(asked + costs.hops(chance, len(asked)))
    return _Lease(known, sent + length)
