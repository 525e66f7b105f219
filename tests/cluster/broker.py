"""A broker of a simulated cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.cluster.agenda import Clock
from tests.cluster.node import Thread
from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import BrokerEffect, Route, SendAll, SendTo

if TYPE_CHECKING:
    from tests.cluster.world import World

__all__ = ["SimBroker"]


class SimBroker:
    """One broker, at the address *slot*."""

    def __init__(self, world: World, slot: int, clock: Clock, **bounds: int) -> None:
        self.world = world
        self.slot = slot
        self.clock = clock
        self.alive = True
        self.thread = Thread()
        epoch = 1 + world.fresh()
        self.protocol = BrokerProtocol(epoch, clock.now, detection=world.detection, **bounds)
        self._tick()

    def __repr__(self) -> str:
        return f"broker {self.protocol.epoch:x} at {self.slot}"

    def crash(self) -> None:
        self.alive = False

    def leave(self) -> None:
        self._perform(self.protocol.leave())
        self.alive = False

    def arrived(self, route: Route, message: Any) -> None:
        """A node's message."""
        self.thread.do(lambda: self._receive(route, message))

    def _receive(self, route: Route, message: Any) -> None:
        if not self.alive:
            return
        protocol = self.protocol
        seq = protocol.seq
        effects = protocol.receive(route, message, self.clock.now)
        for block in protocol.journal.after(seq, 2**60):
            last = block.serial + block.size - 1
            now = self.world.agenda.now
            self.world.oracle.accepted(block.node, block.serial, last, block.epoch, now)
        self._perform(effects)

    def _tick(self) -> None:
        if self.alive:
            if not self.thread.stopped:
                self._perform(self.protocol.tick(self.clock.now))
            self.world.agenda.after(self.world.detection / 8, self._tick)

    def _perform(self, effects: Sequence[BrokerEffect]) -> None:
        for effect in effects:
            match effect:
                case SendTo(route, message):
                    self.world.to_node(self.slot, route, message)
                case SendAll(routes, message):
                    for route in routes:
                        self.world.to_node(self.slot, route, message)
