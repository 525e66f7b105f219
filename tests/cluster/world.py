"""A simulated cluster: nodes, brokers, the ways between them, the shared tier, and time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from tests.cluster.agenda import Agenda, Clock
from tests.cluster.broker import SimBroker
from tests.cluster.network import Direction, State
from tests.cluster.node import SimNode
from tests.cluster.oracle import Addresses, Oracle
from tiered.coherence.effects import Route
from tiered.coherence.messages import Publish
from tiered.coherence.state import Phase

__all__ = ["KEYS", "World"]

KEYS = 3
_SHARES = (10, 2, 1, 1, 1, 1)
PACES = (0.9, 1.08)
"""Clocks run so fast, in seconds per second: within the margin that the protocol has."""


class World:
    """All of it.

    Args:
        seed: of everything that is left to chance.
        nodes: to begin with.
        addresses: where brokers can be.
        small: whether the bounds of memory are low enough to be met.
    """

    detection = 1.0

    def __init__(self, seed: int, nodes: int, *, addresses: Addresses, small: bool) -> None:
        self.rng = Random(seed)
        self.addresses = addresses
        self.small = small
        self.notices = True
        """Whether nodes tell each other of single changes, too."""
        self.misses = 0.0
        """The part of requests to the shared tier that fail."""
        self.log: list[str] | None = None
        self.agenda = Agenda(self._passed)
        self.oracle = Oracle(KEYS, self.detection, addresses, PACES[0])
        self.brokers: dict[int, SimBroker] = {}
        self.slots = range(1 if addresses is Addresses.ONE else 2)
        self._directions: dict[tuple[int, int, str], Direction] = {}
        self._numbers = 0
        self._unrest = 0
        self._healed = False
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

    def replace_node(self, node: SimNode) -> None:
        """It leaves, or crashes if it cannot, and another one takes its place."""
        if node.bus.stopped or self.rng.random() < 0.5:
            node.crash()
        else:
            node.leave()
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
        assert isinstance(route, tuple)
        node, connection = route
        self.direction(node, slot, "down").send(lambda: node.arrived(connection, message))

    def tell_neighbours(self, source: SimNode, notice: Publish) -> None:
        """Notices come at once or late, once, twice or never."""
        rng = self.rng
        for node in self.nodes:
            if node is source or not self.notices:
                continue
            for _ in range(rng.choices((0, 1, 2), (2, 6, 1))[0]):
                delay = rng.choice((0.0, 0.0, 0.001, 0.3, 2.0)) * rng.random()
                heard = partial(_hear, node, notice)
                self.agenda.after(delay, partial(node.bus.do, heard))

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

    # -- Unrest --------------------------------------------------------------------

    def stir(self, seconds: float, *, work: float, faults: float) -> None:
        """Let time pass, with so many changes and so many faults a second, at random."""
        self._unrest = self._unrest + 1
        self._go_on(self._unrest, work, self._work)
        self._go_on(self._unrest, faults, self._disturb)
        self.agenda.advance(seconds)
        self._unrest += 1

    def _go_on(self, unrest: int, rate: float, do: Callable[[], None]) -> None:
        def again() -> None:
            if self._unrest == unrest:
                do()
                self._go_on(unrest, rate, do)

        if rate:
            self.agenda.after(self.rng.expovariate(rate), again)

    def _work(self) -> None:
        rng = self.rng
        node = rng.choice(self.nodes)
        kind = rng.random()
        if kind < 0.6:
            for key in range(KEYS):
                node.fill(key, rng.choice((0.0, 0.0, 0.01, 0.3)))
        elif kind < 0.97:
            wanted = [rng.randrange(KEYS) for _ in range(rng.randint(1, 2))]
            node.delete(wanted, rng.random() < 0.5)
        else:
            for _ in range(15):
                node.delete([rng.randrange(KEYS)], False)

    def _disturb(self) -> None:
        rng = self.rng
        node, slot = rng.choice(self.nodes), rng.choice(self.slots)
        kind = rng.choices(("way", "stop", "broker", "frozen", "again", "shared"), _SHARES)[0]
        if kind == "way":
            state = rng.choice((State.OPEN, rng.choice(list(State))))
            self.direction(node, slot, rng.choice(("up", "down"))).state = state
        elif kind == "stop":
            node.go_on()
            if rng.random() < 0.5:
                node.stop(whole=rng.random() < 0.5)
        elif kind == "broker":
            if slot not in self.brokers:
                self.start(slot)
            elif rng.random() < 0.5:
                self._take_over(slot, rng.choice((0.01, 0.3, 1.0)))
            elif rng.random() < 0.7:
                self.kill(slot)
            else:
                self.retire(slot)
        elif kind == "frozen" and slot in self.brokers:
            thread = self.brokers[slot].thread
            thread.go_on()
            thread.stopped = rng.random() < 0.5
        elif kind == "again":
            rng.choice((node.reconnect, node.reconnect, lambda: self.replace_node(node)))()
        elif kind == "shared":
            node.cut = rng.random() < 0.3

    def _take_over(self, slot: int, delay: float) -> None:
        def start() -> None:
            if not self._healed:
                self.start(slot)

        self.kill(slot)
        self.agenda.after(delay, start)

    # -- The end -------------------------------------------------------------------

    def recover(self, seconds: float) -> None:
        """All faults end, and one broker remains: all is well in *seconds*."""
        self._heal()
        self.agenda.advance(3.0)  # what is still on its way arrives
        end = self.agenda.now + seconds
        while self.agenda.now < end and self._trouble() is not None:
            self.agenda.advance(1.0)
        self.agenda.advance(2.0)
        trouble = self._trouble()
        assert trouble is None, trouble

    def _heal(self) -> None:
        self._healed = True
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

    def _trouble(self) -> str | None:
        """What is not well; all should follow, owe nothing, wait for nothing, and serve."""
        (broker,) = self.brokers.values()
        for node in self.nodes:
            protocol = node.protocol
            state = f"{node} {protocol.phase} {protocol.epoch:x} {protocol.seq} at {broker}"
            if protocol.phase is not Phase.FOLLOWING or protocol.epoch != broker.protocol.epoch:
                return f"does not follow: {state}"
            if protocol.seq != broker.protocol.seq:
                return f"lags behind {broker.protocol.seq}: {state}"
            if protocol.owed.size:
                return f"owes {list(protocol.owed)}: {state}"
            if node.clock.now >= node.witness.until:
                return f"may not serve: {state}, {vars(node.witness)}"
            if self.oracle.unsettled(node):
                return f"waits for {self.oracle.unsettled(node)}: {state}"
        if broker.protocol.nodes != len(self.nodes) or broker.protocol.claims:
            return f"{broker} knows {broker.protocol.nodes}, and of {broker.protocol.claims} claims"
        return None


def _hear(node: SimNode, notice: Publish) -> None:
    if node.alive:
        node.noticed(notice)
