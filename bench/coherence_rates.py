"""How many invalidations a second go through a third process to four nodes; how many are lost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bench import bus_chorde
from bench.actors import Actor
from bench.bus_chorde import ChordeNode
from bench.bus_plain import PlainProxy, PlainPublisher, PlainWatcher, await_subscribed
from bench.bus_tiered import TieredBroker, TieredNode
from bench.coherence_latency import CHORDE, OURS, TWO_HOPS, Addresses, await_ready

__all__ = ["HELD", "NOT_HELD", "Rate", "Sample", "rates", "sample"]

NODES = 4
HELD, NOT_HELD = f"{OURS}, keys that the nodes hold", f"{OURS}, keys that they do not hold"
PATIENCE = 10.0
"""Seconds without a sign of more, until what has not come counts as lost."""


@dataclass(frozen=True)
class Rate:
    """What came of some ten thousand deletes, sent as fast as they are taken.

    Attributes:
        rate: thousands a second, until the last node has applied the last of them; median of the
            rounds.
        ratio: to plain sockets, in the same rounds.
        lost: share that did not reach a node; the most of a round.
        unnoticed: how many of these no node reported to be missing; over all rounds.
    """

    transport: str
    name: str
    rate: float
    ratio: float
    lost: float
    unnoticed: int


@dataclass(frozen=True)
class Sample:
    rate: float
    lost: float
    unnoticed: int


def rates(transport: str, rounds: int, count: int) -> list[Rate]:
    """All contenders on *transport*, with *count* deletes each; each once in a round."""
    contenders: dict[str, Callable[[Addresses, int, int], Sample]] = {
        TWO_HOPS: _plain,
        HELD: _held,
        NOT_HELD: _not_held,
    }
    if bus_chorde.installed() and transport == "tcp":
        contenders[CHORDE] = _chorde
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    names = list(contenders)
    with Addresses(transport) as addresses:
        for number in range(rounds):
            shift = number % len(names)
            for name in (*names[shift:], *names[:shift]):
                samples[name].append(contenders[name](addresses, number, count))
    plain = [one.rate for one in samples[TWO_HOPS]]
    return [
        Rate(
            transport,
            name,
            statistics.median(one.rate for one in taken),
            statistics.median(one.rate / floor for one, floor in zip(taken, plain, strict=True)),
            max(one.lost for one in taken),
            sum(one.unnoticed for one in taken),
        )
        for name, taken in samples.items()
    ]


# -- Contenders ------------------------------------------------------------------------


def _plain(addresses: Addresses, number: int, count: int) -> Sample:
    front, back = addresses.new(), addresses.new()
    with ExitStack() as stack:
        proxy = _started(stack, PlainProxy, front, back)
        proxy.ask("ready")
        publisher = _started(stack, PlainPublisher, front, False)
        watchers = [_started(stack, PlainWatcher, back) for _ in range(NODES)]
        await_subscribed(publisher, watchers)
        keys = _keys(number, count)
        for watcher in watchers:
            watcher.ask("hold", keys)
        before = [watcher.ask("heard") for watcher in watchers]
        began = publisher.ask("delete", keys, 0.0)[0]
        # Nobody there can know that something is missing.
        heard = _await_all(watchers, before, count)
        return sample(heard, began, count, [False] * NODES)


def _held(addresses: Addresses, number: int, count: int) -> Sample:
    return _ours(addresses.new(), _keys(number, count), held=True)


def _not_held(addresses: Addresses, number: int, count: int) -> Sample:
    return _ours(addresses.new(), _keys(number, count), held=False)


def _ours(address: str, keys: list[str], *, held: bool) -> Sample:
    with ExitStack() as stack:
        _started(stack, TieredBroker, [address]).ask("ready")
        publisher, *nodes = [
            _started(stack, TieredNode, [address], False, None) for _ in range(1 + NODES)
        ]
        for node in (publisher, *nodes):
            await_ready(node)
        if held:
            for node in nodes:
                node.post("hold", keys)
            for node in nodes:
                node.answer()
        before = [node.ask("heard") for node in nodes]
        suspected = [node.ask("suspicions") for node in nodes]
        began = publisher.ask("flood", keys)
        heard = _await_all(nodes, before, len(keys))
        noticed = [
            node.ask("suspicions") != was for node, was in zip(nodes, suspected, strict=True)
        ]
        found = sample(heard, began, len(keys), noticed)
        left = [node.ask("held", keys) for node in nodes]
        kept = sum(count for count, known in zip(left, noticed, strict=True) if not known)
        return Sample(found.rate, found.lost, max(found.unnoticed, kept))


def _chorde(addresses: Addresses, number: int, count: int) -> Sample:
    requests, events = addresses.new(), addresses.new()
    with ExitStack() as stack:
        broker, publisher, *nodes = [
            _first_alone(stack, number, requests, events) for number in range(2 + NODES)
        ]
        bus_chorde.await_following(publisher, [broker, *nodes])
        keys = _keys(number, count)
        for node in (publisher, *nodes):
            node.ask("hold", keys)
        before = [node.ask("heard") for node in nodes]
        began = publisher.ask("delete", keys, 0.0)[0]
        heard = _await_all(nodes, before, count)
        return sample(heard, began, count, [False] * NODES)


def _first_alone(stack: ExitStack, number: int, requests: str, events: str) -> Actor:
    """Who binds first is the broker."""
    node = _started(stack, ChordeNode, requests, events)
    node.ask("probes")
    if number == 0:
        time.sleep(1.0)
    return node


# -- Counting --------------------------------------------------------------------------


def _keys(number: int, count: int) -> list[str]:
    return [f"user:{number}/{one}" for one in range(count)]


def _started(stack: ExitStack, make: Callable[..., Any], *arguments: Any) -> Actor:
    actor = Actor(make, *arguments)
    stack.callback(actor.close)
    return actor


def _await_all(
    actors: list[Actor], before: list[tuple[int, int]], count: int
) -> list[tuple[int, int]]:
    """How many events each has heard since *before*, and when the latest was applied."""
    known: list[tuple[int, int]] = []
    changed = time.monotonic()
    while time.monotonic() - changed < PATIENCE:
        now = [actor.ask("heard") for actor in actors]
        if now != known:
            known, changed = now, time.monotonic()
        if all(heard - was >= count for (heard, _), (was, _) in zip(now, before, strict=True)):
            break
        time.sleep(0.1)
    return [(heard - was, latest) for (heard, latest), (was, _) in zip(known, before, strict=True)]


def sample(heard: list[tuple[int, int]], began: int, count: int, noticed: list[bool]) -> Sample:
    """The rate is that of what arrived, by the slowest."""
    missing = [max(0, count - arrived) for arrived, _ in heard]
    seconds = (max(latest for _, latest in heard) - began) / 1e9
    arrived = min(arrived for arrived, _ in heard)
    return Sample(
        arrived / seconds / 1e3,
        max(missing) / count,
        sum(lost for lost, known in zip(missing, noticed, strict=True) if not known),
    )
