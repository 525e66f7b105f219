"""What a node is told when it starts, and what it tells when it is asked."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Load", "Settings", "State"]


class Settings(NamedTuple):
    """How to build a node.

    Attributes:
        folder: of the truth and the logs.
        servers: the shared memcached.
        candidates: the addresses of the bus.
        candidate: whether the node may become the broker.
        detection: seconds.
        prefix: of the keys on the servers.
        plain, synchronous: the keys whose deletes wait for nobody, and the others.
        neighbours: whether it hears of changes by the nodes of its host, ahead of the bus.
        joins: whether the node takes part at once; else when it is told to.
        closes: whether the node closes its bus when it ends, or just exits.
        fault: what is broken in it on purpose (:mod:`tests.integration.coherence.meddling`).
    """

    folder: str
    servers: tuple[str, ...]
    candidates: tuple[str, ...]
    prefix: str
    plain: range
    synchronous: range
    candidate: bool = True
    detection: float = 1.0
    server_timeout: float = 0.5
    secret: str = "a secret for tests"
    bus_key: bytes = b"a key for tests"
    neighbours: bool = True
    joins: bool = True
    closes: bool = True
    fault: str = ""


class Load(NamedTuple):
    """What the threads of a node do by themselves.

    Attributes:
        readers: threads that read.
        reads: a second, of each of them.
        deletes: a second, in all.
        synchronous: of keys whose deletes wait for everybody, a second at most.
        noise: events a second that concern nobody's keys.
    """

    readers: int = 2
    reads: float = 400.0
    deletes: float = 50.0
    synchronous: float = 20.0
    noise: float = 0.0


class State(NamedTuple):
    """How a node stands.

    Attributes:
        bus: what the bus counts.
        served: reads that the nearest tier has answered.
        verified: whether it answers unasked at present, for all of its functions.
        faults: exceptions and wrong values, in words.
        memory: resident bytes.
    """

    bus: dict[str, Any]
    served: int
    verified: bool
    faults: list[str]
    memory: int
