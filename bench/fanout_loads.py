"""What trees of brokers ask of their brokers and links, and what the death of one costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bench.fanout_tree import Costs, Tree, simulate

__all__ = ["BEATS", "Death", "Load", "best_fan_out", "deaths", "interval_for", "load"]

BEATS = 4
"""Pings in each detection time, as nodes send them."""
MARGIN = 0.3
"""Of the detection time: what is to be left of every lease when it is renewed."""
HOT = 1_000
"""Different keys that a node reads again within a second, for what a new epoch costs."""


@dataclass(frozen=True)
class Load:
    """One tree under a steady rate of events; seconds, bits a second, events a second.

    Attributes:
        out: what the busiest broker sends.
        into: what a node receives.
        most: events a second that the tree carries at all, and *by* what it is limited.
        alone: the same, if brokers sent each event in a frame of its own.
        thread: share of the time that the busiest broker's thread works; None if the tree does
            not carry the rate.
        pings: a second, to the busiest broker; *beats*: their bits a second, each way.
        p50, p99: until one node has applied an event.
        last50, last99: until the last one has.
    """

    tree: str
    nodes: int
    brokers: int
    out: float
    into: float
    most: float
    by: str
    alone: float
    pings: float
    beats: float
    thread: float | None = None
    p50: float = math.nan
    p99: float = math.nan
    last50: float = math.nan
    last99: float = math.nan


@dataclass(frozen=True)
class Death:
    """What the end of one broker costs.

    Attributes:
        level: 0 is the root.
        nodes: that are cut off.
        missed: events that are published until they have found another way.
        replayed: bytes that those who take them in send for that; nothing where the root died, as
            its numbers end with it.
        confirmed: copies that have to be confirmed within the first second; only of the root.
    """

    tree: str
    level: int
    nodes: int
    missed: float
    replayed: float
    confirmed: float


def load(tree: Tree, costs: Costs, rate: float, events: int, beat: float, seed: int) -> Load:
    """Simulated, if the tree carries *rate* at all."""
    widest = tree.widest
    pings = widest * beat
    # In the best case: everything in large blocks.
    limits = {
        "link": costs.link / 8 / costs.event / widest,
        "broker": (1 - pings * costs.ping) / costs.stamp,
        "node": 1 / costs.apply,
    }
    by = min(limits, key=lambda name: limits[name])
    known = Load(
        tree.name,
        tree.nodes,
        tree.brokers,
        widest * rate * costs.event * 8,
        rate * costs.event * 8,
        limits[by],
        by,
        (1 - pings * costs.ping) / (widest * costs.send),
        pings,
        pings * (costs.heartbeat + costs.packet) * 8,
    )
    if rate > limits[by]:
        return known
    done = simulate(tree, costs, rate=rate, events=events, pings=beat, seed=seed)
    p50, p99 = np.percentile(done.each, (50, 99)).tolist()
    last50, last99 = np.percentile(done.last, (50, 99)).tolist()
    return replace(known, thread=done.busy, p50=p50, p99=p99, last50=last50, last99=last99)


def deaths(tree: Tree, costs: Costs, rate: float, takeover: float) -> list[Death]:
    """Of one broker on each level."""
    found = []
    for level, size in enumerate(tree.sizes):
        nodes = tree.nodes // size
        missed = rate * takeover
        if level == 0:
            found.append(Death(tree.name, level, nodes, missed, 0.0, nodes * HOT))
        else:
            # Each child that looks for another parent is sent what it missed; those below it get
            # that from the child.
            replayed = tree.fan_outs[level] * missed * costs.event
            found.append(Death(tree.name, level, nodes, missed, replayed, 0.0))
    return found


def interval_for(levels: int, detection: float) -> float:
    """Seconds between pings so that nested leases keep their margin, however deep."""
    return min(detection / BEATS, detection * (1 - MARGIN) / levels)


def best_fan_out(costs: Costs) -> float:
    """Where a level more costs what it saves: ``f (ln f - 1) = hop / send``.

    An event takes ``(hop + f send) ln n / ln f`` to the last of n nodes.
    """
    low, high = math.e, 1e6
    while high - low > 1e-6 * low:
        middle = (low + high) / 2
        if middle * (math.log(middle) - 1) < costs.hop / costs.send:
            low = middle
        else:
            high = middle
    return low
