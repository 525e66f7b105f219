"""Processes in miniature: nodes with private tiers over one server, on a bus of manual time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tests.fakes import VersionedFake
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.coherence.client import CoherentWrapperClient
from tiered.coherence.manager import CoherenceManager
from tiered.testing import ManualClock
from tiered.testing.buses import LocalBus, LocalHub

__all__ = ["Cluster", "Node", "coherent", "drain"]


@dataclass
class Node:
    """What one process has."""

    private: InprocCacheClient
    shared: CacheClient | None
    bus: LocalBus
    manager: CoherenceManager
    client: CoherentWrapperClient


class Cluster:
    """Several of them over one server; all at one moment."""

    def __init__(self, *, neighbours: bool = False, **options: Any) -> None:
        self.hub = LocalHub(neighbours=neighbours)
        self.clock = self.hub.clock
        self.server = InprocCacheClient(10_000, clock=self.clock)
        self._options = options
        self._nodes: list[Node] = []
        self._hubs = [self.hub]

    def node(
        self, *, alone: bool = False, hub: LocalHub | None = None, sole: bool = True, **options: Any
    ) -> Node:
        """One more process; *alone* without a shared tier; with its broker in *hub*."""
        private = InprocCacheClient(1_000, clock=self.clock)
        shared = None if alone else VersionedFake(self.server)
        bus = LocalBus(self.hub if hub is None else hub, sole=sole)
        manager = CoherenceManager("test", private, shared, bus, **self._options | options)
        core = private if shared is None else TieredInclusiveClient(private, shared)
        client = CoherentWrapperClient(core, manager)
        manager.start()
        node = Node(private, shared, bus, manager, client)
        self._nodes.append(node)
        self.settle()
        return node

    def another_hub(self) -> LocalHub:
        """Another broker, of whom those of the first do not know."""
        hub = LocalHub(self.clock)
        hub.begin()  # epochs count from 1: not the same one
        self._hubs.append(hub)
        return hub

    def advance(self, seconds: float) -> None:
        """Let time pass, slowly enough for the workers."""
        while seconds > 0:
            for _ in range(2):
                self.clock.advance(min(seconds, 0.1) / 2)
                for hub in self._hubs:
                    hub.tick()
            drain(*self._nodes)
            seconds -= 0.1

    def settle(self) -> None:
        """Let time pass until everybody is in step."""
        self.advance(3.0)


def drain(*nodes: Node) -> None:
    """Until the workers of *nodes* have nothing to do."""
    idle(*(node.manager for node in nodes))


def idle(*managers: CoherenceManager) -> None:
    """Until the workers of *managers* have nothing to do."""
    while any(manager.busy for manager in managers):
        os.sched_yield()


def coherent(
    clock: ManualClock,
    shared: CacheClient | None = None,
    *,
    detection: float = 1.0,
    size: float = 100,
    alone: bool = False,
) -> CoherentWrapperClient:
    """One node in step when it is made; its lease ends, as no timer of the bus ever runs.

    With *shared* it is the second tier, else a server of its own; *alone*, there is none.
    """
    bus = LocalBus(LocalHub(clock, detection=detection))
    private = InprocCacheClient(size, clock=clock)
    if shared is None and not alone:
        shared = VersionedFake(InprocCacheClient(1_000, clock=clock))
    core = private if shared is None else TieredInclusiveClient(private, shared)
    manager = CoherenceManager("test", private, shared, bus)
    client = CoherentWrapperClient(core, manager)
    manager.start()
    idle(manager)
    return client
