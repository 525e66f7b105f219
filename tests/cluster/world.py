"""A simulated cluster: nodes, brokers, the ways between them, the shared tier, and time."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.cluster.agenda import Agenda, Clock
from tests.cluster.broker import SimBroker
from tests.cluster.network import Direction, State
from tests.cluster.node import SimNode
from tests.cluster.oracle import Oracle
from tiered.coherence.effects import Route
from tiered.coherence.state import Phase

__all__ = ["KEYS", "World"]

KEYS = 3
PACES = (0.9, 1.08)
"""Clocks run so fast, in seconds per second: within the margin that the protocol has."""


class World:
    """All of it.

    Args:
        seed: of everything that is left to chance.
        nodes: to begin with.
        sole: whether there is one address for brokers, instead of two.
        small: whether the bounds of memory are low enough to be met.
    """

    detection = 1.0

    def __init__(self, seed: int, nodes: int, *, sole: bool, small: bool) -> None:
        self.rng = Random(seed)
        self.sole = sole
        self.small = small
        self.misses = 0.0
        """The part of requests to the shared tier that fail."""
        self.log: list[str] | None = None
        self.agenda = Agenda(self._passed)
        self.oracle = Oracle(KEYS, self.detection, sole, PACES[0])
        self.brokers: dict[int, SimBroker] = {}
        self.slots = range(1 if sole else 2)
        self._directions: dict[tuple[int, int, str], Direction] = {}
        self._numbers = 0
        self.nodes: list[SimNode] = []
        self.start(0)
        for _ in range(nodes):
            self.add_node()

    def say(self, what: str) -> None:
        """Note *what* in the log, if there is one."""
        if self.log is not None:
            self.log.append(f"{self.agenda.now:9.4f} {what}")

    def fresh(self) -> int:
        """A number that nobody else was given."""
        return self.rng.getrandbits(60)

    def _clock(self) -> Clock:
        return Clock(self.agenda, self.rng.uniform(*PACES), self.rng.uniform(0, 1e6))

    def _passed(self, since: float, until: float) -> None:
        for node in self.nodes:
            node.served(since, until)

    # -- Processes -----------------------------------------------------------------

    def add_node(self) -> SimNode:
        self._numbers += 1
        node = SimNode(self, self._numbers, self._clock(), 12 if self.small else 10_000)
        self.nodes.append(node)
        return node

    def crash_node(self, node: SimNode) -> None:
        """And another one takes its place."""
        node.crash()
        self.nodes.remove(node)
        self.add_node()

    def start(self, slot: int) -> None:
        """A broker, unless there is one at the address."""
        if slot in self.slots and slot not in self.brokers:
            bounds = {"journal_events": 20, "journal_bytes": 10_000} if self.small else {}
            self.brokers[slot] = SimBroker(self, slot, self._clock(), **bounds)
            self.say(f"{self.brokers[slot]} begins")

    def kill(self, slot: int) -> None:
        """Its nodes may notice at once, or not."""
        broker = self.brokers.pop(slot, None)
        if broker is not None:
            self.say(f"{broker} is killed")
            broker.crash()
            self._closed(slot)

    def retire(self, slot: int) -> None:
        """The broker leaves."""
        broker = self.brokers.get(slot)
        if broker is not None and not broker.thread.stopped:
            self.say(f"{broker} leaves")
            broker.leave()
            del self.brokers[slot]
            self._closed(slot)

    def _closed(self, slot: int) -> None:
        for node in self.nodes:
            connection = node.connection
            if connection is not None and connection[0] == slot and self.rng.random() < 0.5:
                self.agenda.after(
                    self.rng.uniform(0, 0.1),
                    lambda n=node, c=connection: n.gone(c),  # type: ignore[misc]
                )

    # -- Ways ----------------------------------------------------------------------

    def direction(self, node: SimNode, slot: int, towards: str) -> Direction:
        """The way of messages between a node and an address, ``"up"`` or ``"down"``."""
        which = node.number, slot, towards
        if which not in self._directions:
            self._directions[which] = Direction(self.agenda, self.rng)
        return self._directions[which]

    def directions(self) -> list[Direction]:
        return list(self._directions.values())

    def to_broker(self, node: SimNode, connection: tuple[int, int], message: Any) -> None:
        slot = connection[0]

        def deliver() -> None:
            broker = self.brokers.get(slot)
            if broker is not None:
                broker.arrived((node, connection), message)

        self.direction(node, slot, "up").send(deliver)

    def to_node(self, slot: int, route: Route, message: Any) -> None:
        node, connection = route  # type: ignore[misc]
        self.direction(node, slot, "down").send(lambda: node.arrived(connection, message))

    def way_from(self, node: SimNode) -> int | None:
        """The address of a broker that *node* would find now."""
        found = [
            slot
            for slot, broker in self.brokers.items()
            if not broker.thread.stopped
            and all(self.direction(node, slot, way).works for way in ("up", "down"))
        ]
        found.sort()
        if len(found) > 1 and self.rng.random() < 0.2:
            found.reverse()
        return found[0] if found else None

    # -- The end -------------------------------------------------------------------

    def heal(self) -> None:
        """All faults end, and one broker remains."""
        self.misses = 0.0
        for direction in self.directions():
            direction.state = State.OPEN
        for node in self.nodes:
            node.cut = False
            node.go_on()
        for broker in self.brokers.values():
            broker.thread.go_on()
        for slot in sorted(self.brokers)[1:]:
            self.retire(slot)
        if not self.brokers:
            self.start(0)

    def check_converged(self) -> None:
        """All follow the one broker, owe nothing, wait for nothing, and may serve."""
        (broker,) = self.brokers.values()
        for node in self.nodes:
            protocol = node.protocol
            state = f"{node} {protocol.phase} {protocol.epoch:x} {protocol.seq} at {broker}"
            assert protocol.phase is Phase.FOLLOWING, state
            assert protocol.epoch == broker.protocol.epoch, state
            assert protocol.seq == broker.protocol.seq, state
            assert not protocol.owed.size, (state, list(protocol.owed))
            assert node.clock.now < node.witness.until, (state, vars(node.witness))
            assert not self.oracle.unsettled(node), (state, self.oracle.unsettled(node))
        assert broker.protocol.nodes == len(self.nodes)
        assert broker.protocol.claims == 0
