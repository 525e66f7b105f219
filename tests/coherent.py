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
from tiered.testing.buses import LocalBus, LocalHub

__all__ = ["Cluster", "Node", "drain"]


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

    def __init__(self, **options: Any) -> None:
        self.hub = LocalHub()
        self.clock = self.hub.clock
        self.server = InprocCacheClient(10_000, clock=self.clock)
        self._options = options
        self._nodes: list[Node] = []

    def node(self, *, alone: bool = False, **options: Any) -> Node:
        """One more process; *alone* without a shared tier."""
        private = InprocCacheClient(1_000, clock=self.clock)
        shared = None if alone else VersionedFake(self.server)
        bus = LocalBus(self.hub)
        manager = CoherenceManager("test", private, shared, bus, **self._options | options)
        core = private if shared is None else TieredInclusiveClient(private, shared)
        client = CoherentWrapperClient(core, manager)
        manager.start()
        node = Node(private, shared, bus, manager, client)
        self._nodes.append(node)
        self.settle()
        return node

    def advance(self, seconds: float) -> None:
        """Let time pass, slowly enough for the workers."""
        while seconds > 0:
            self.hub.advance(min(seconds, 0.1))
            drain(*self._nodes)
            seconds -= 0.1

    def settle(self) -> None:
        """Let time pass until everybody is in step."""
        self.advance(3.0)


def drain(*nodes: Node) -> None:
    """Until the workers of *nodes* have nothing to do."""
    while any(node.manager.busy for node in nodes):
        os.sched_yield()
