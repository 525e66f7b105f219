"""How long nobody hears of deletes when the broker is killed."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.actors import Actor
from bench.bus_tiered import TieredBroker, TieredNode
from bench.coherence_latency import Addresses, await_ready

__all__ = ["IN_A_NODE", "IN_ITS_OWN", "Takeover", "takeovers"]

IN_ITS_OWN, IN_A_NODE = "broker in a process of its own", "broker in a node"
NODES = 4
DELETES = 400
PAUSE = 0.005
KILL_AFTER = 0.3
PATIENCE = 10.0


@dataclass(frozen=True)
class Takeover:
    """Seconds after SIGKILL.

    Attributes:
        first: until another node dropped something that was deleted after it; median of the rounds.
        worst: the same, the most of a round.
        verified: until that node could serve without asking again; median.
        stale: values that it served although they had been deleted, over all rounds.
    """

    transport: str
    name: str
    first: float
    worst: float
    verified: float
    stale: int


def takeovers(transport: str, memcached: str, rounds: int) -> list[Takeover]:
    """Of a broker of its own, and of one in a node, while a node deletes every 5 ms."""
    found = []
    with Addresses(transport) as addresses:
        samples: dict[str, list[tuple[float, float, int]]] = {IN_ITS_OWN: [], IN_A_NODE: []}
        for number in range(rounds):
            for name, taken in samples.items():
                taken.append(_once(name, addresses.new(), memcached, number))
    for name, taken in samples.items():
        first, verified, stale = zip(*taken, strict=True)
        found.append(
            Takeover(
                transport,
                name,
                statistics.median(first),
                max(first),
                statistics.median(verified),
                sum(stale),
            )
        )
    return found


def _once(name: str, address: str, memcached: str, number: int) -> tuple[float, float, int]:
    with ExitStack() as stack:

        def node() -> Actor:
            # By the bus alone: neighbours hear of deletes while there is no broker.
            started = Actor(TieredNode, [address], True, memcached, None, False)
            stack.callback(started.close)
            await_ready(started)
            return started

        if name == IN_ITS_OWN:
            broker = Actor(TieredBroker, [address])
            stack.callback(broker.close)
            broker.ask("ready")
        else:
            broker = node()
        publisher, watcher, *_others = [node() for _ in range(NODES)]
        keys = [f"{address}/{number}/{one}" for one in range(DELETES)]
        publisher.ask("store", keys)
        watcher.ask("hold", keys)
        publisher.post("delete", keys, PAUSE)
        watcher.post("follow_another", PATIENCE)
        time.sleep(KILL_AFTER)
        killed = time.monotonic_ns()
        broker.kill()
        began = dict(zip(keys, publisher.answer(), strict=True))
        followed = watcher.answer()
        gone = watcher.ask("gone", keys, 0.5)
        later = [gone[key] for key in keys if began[key] > killed and key in gone]
        if not later:
            raise AssertionError(f"{name}, {address}: nothing arrived after the broker's death")
        stale = watcher.ask("served", keys)
        return (min(later) - killed) / 1e9, (followed - killed) / 1e9, stale
