"""Trees of brokers, simulated: when each event reaches each node.

A broker has one thread and one link. It works in rounds: it takes all that has come in meanwhile,
sends what goes up in one frame, and what goes down in one frame to each child, one after another.
So a burst costs no more frames than a single event, and the fan-out of a broker is the time that
its last child waits behind its first. What a node publishes goes up to the root, is stamped there,
and comes down to everybody. Each way from one process to another takes the time of a hop, which
varies; frames of one link do not overtake each other.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np

__all__ = ["Costs", "Delivered", "Tree", "simulate"]

_Z99 = 2.3263478740408408
"""The standard normal's 99th percentile."""


@dataclass(frozen=True)
class Costs:
    """What things cost; seconds, bytes, and bits a second.

    Attributes:
        hop, hop99: median and 99th percentile of one way between two processes, from the call that
            sends until the other thread runs.
        send: for one frame to one peer: of the thread that gives it to libzmq and of libzmq's own,
            which writes it meanwhile, the slower one.
        receive: a thread's time for one frame.
        stamp: a broker's time for an event, beside its frames.
        apply: a node's time for an event.
        ping: a broker's time for a ping and its pong.
        event: bytes of an event.
        frame: bytes of a block without its events.
        heartbeat: bytes of a ping or of a pong.
        packet: bytes that each small frame costs on the wire in headers.
        link: what a process's link carries.
    """

    hop: float = 120e-6
    hop99: float = 300e-6
    send: float = 6e-6
    receive: float = 5e-6
    stamp: float = 0.5e-6
    apply: float = 5e-6
    ping: float = 15e-6
    event: int = 40
    frame: int = 60
    heartbeat: int = 55
    packet: int = 90
    link: float = 10e9

    @property
    def spread(self) -> float:
        """Sigma of the lognormal distribution of hops."""
        return math.log(self.hop99 / self.hop) / _Z99

    def hops(self, chance: np.random.Generator, count: int) -> Any:
        """So many samples of a hop."""
        return self.hop * np.exp(chance.normal(0.0, self.spread, count))

    def wire(self, events: int) -> float:
        """Seconds for which a block of *events* takes up the link."""
        return (self.frame + self.packet + self.event * events) * 8 / self.link


@dataclass(frozen=True)
class Tree:
    """Brokers over brokers over nodes.

    Attributes:
        fan_outs: children of each broker, from the root's level downwards.
    """

    fan_outs: tuple[int, ...]

    @property
    def name(self) -> str:
        """As it is called in tables."""
        return "one broker" if len(self.fan_outs) == 1 else " x ".join(map(str, self.fan_outs))

    @cached_property
    def sizes(self) -> list[int]:
        """Brokers on each level, the root's first."""
        return list(accumulate(self.fan_outs[:-1], mul, initial=1))

    @property
    def brokers(self) -> int:
        """All of them."""
        return sum(self.sizes)

    @property
    def nodes(self) -> int:
        """The leaves."""
        return math.prod(self.fan_outs)

    @property
    def widest(self) -> int:
        """The most children of one broker."""
        return max(self.fan_outs)


@dataclass(frozen=True)
class Delivered:
    """Seconds from publishing on.

    Attributes:
        each: until it was applied, for every event and node.
        last: until the last node had applied it, for every event.
        busy: share of the time that the busiest broker's thread worked.
        rounds: of that broker.
    """

    each: Any
    last: Any
    busy: float
    rounds: int


@dataclass
class _Broker:
    parent: int | None
    children: Sequence[int] | None  # None: nodes
    width: int
    arrived: Any  # at each child, the latest frame's arrival
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    frames: int = 0
    free: float = 0.0  # the thread
    lasted: float = 0.0  # the latest round
    wire: float = 0.0  # the link
    rising: float = 0.0  # the latest frame's arrival at the parent
    busy: float = 0.0
    rounds: int = 0


def simulate(
    tree: Tree, costs: Costs, *, rate: float, events: int, pings: float, seed: int = 1
) -> Delivered:
    """*events* events, published by nodes at random at *rate* a second altogether.

    Args:
        pings: of each child, per second.
    """
    return _Run(tree, costs, pings, np.random.default_rng(seed)).deliver(rate, events)


class _Run:
    def __init__(self, tree: Tree, costs: Costs, pings: float, chance: np.random.Generator) -> None:
        self._tree = tree
        self._costs = costs
        self._pings = pings
        self._chance = chance
        self._brokers = _grow(tree)
        # (when, order, broker, frame); a frame is (rises, events), None the end of a round.
        self._due: list[tuple[float, int, int, tuple[bool, list[int]] | None]] = []
        self._order = 0
        self._published: Any = None
        self._each: list[Any] = []
        self._last: Any = None

    def deliver(self, rate: float, events: int) -> Delivered:
        chance, lowest = self._chance, self._tree.sizes[-1]
        self._published = np.cumsum(chance.exponential(1 / rate, events))
        self._last = np.zeros(events)
        first_lowest = self._tree.brokers - lowest
        homes = first_lowest + chance.integers(0, lowest, events)
        risen = self._published + self._costs.send + self._costs.hops(chance, events)
        for event in range(events):
            self._schedule(float(risen[event]), int(homes[event]), (True, [event]))
        while self._due:
            now, _, place, frame = heapq.heappop(self._due)
            broker = self._brokers[place]
            if frame is not None:
                rises, carried = frame
                (broker.up if rises else broker.down).extend(carried)
                broker.frames += 1
            if broker.frames and broker.free <= now:
                self._round(place, broker, now)
        busiest = max(self._brokers, key=lambda one: one.busy)
        last = self._last - self._published
        share = busiest.busy / float(self._last.max())
        return Delivered(np.concatenate(self._each), last, share, busiest.rounds)

    def _schedule(self, when: float, place: int, frame: tuple[bool, list[int]] | None) -> None:
        self._order += 1
        heapq.heappush(self._due, (when, self._order, place, frame))

    def _round(self, place: int, broker: _Broker, now: float) -> None:
        """Everything that has come in, at once."""
        costs = self._costs
        up, down = broker.up, broker.down
        if broker.parent is None:  # the root stamps
            up, down = [], down + up
        # Pings that came during a round have waited for its end; others were answered at once.
        waited = broker.lasted if broker.free == now else 0.0
        waiting = self._chance.poisson(self._pings * broker.width * waited)
        ready = now + broker.frames * costs.receive + waiting * costs.ping
        ready += (len(up) + len(down)) * costs.stamp
        broker.up, broker.down, broker.frames = [], [], 0
        if up:
            ready += costs.send
            broker.rising = max(broker.rising, ready + float(costs.hops(self._chance, 1)[0]))
            assert broker.parent is not None
            self._schedule(broker.rising, broker.parent, (True, up))
        if down:
            self._send_down(broker, down, ready)
            ready += costs.send * broker.width
        broker.lasted = ready - now
        broker.busy += broker.lasted
        broker.rounds += 1
        broker.free = ready
        self._schedule(ready, place, None)

    def _send_down(self, broker: _Broker, events: list[int], ready: float) -> None:
        costs = self._costs
        wire = costs.wire(len(events))
        # Whichever is slower, the thread or its link, sets the pace.
        first = max(ready + costs.send, broker.wire)
        left = first + np.arange(broker.width) * max(costs.send, wire) + wire
        broker.wire = float(left[-1])
        hops = costs.hops(self._chance, broker.width)
        broker.arrived = np.maximum(broker.arrived, left + hops)
        if broker.children is not None:
            for child, when in zip(broker.children, broker.arrived.tolist(), strict=True):
                self._schedule(when, child, (False, events))
            return
        for nth, event in enumerate(events, 1):
            applied = broker.arrived + costs.receive + nth * costs.apply
            self._each.append(applied - self._published[event])
            self._last[event] = max(self._last[event], float(applied.max()))


def _grow(tree: Tree) -> list[_Broker]:
    """All brokers, level by level."""
    brokers: list[_Broker] = []
    first = 0
    for level, (size, width) in enumerate(zip(tree.sizes, tree.fan_outs, strict=True)):
        lowest = level == len(tree.sizes) - 1
        above = first - (tree.sizes[level - 1] if level else 0)
        for number in range(size):
            parent = above + number // tree.fan_outs[level - 1] if level else None
            below = first + size + number * width
            children = None if lowest else range(below, below + width)
            brokers.append(_Broker(parent, children, width, np.zeros(width)))
        first += size
    return brokers
