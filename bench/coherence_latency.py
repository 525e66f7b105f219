"""How long after a delete in one process the value is gone from another one's private tier."""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import bus_chorde
from bench.actors import Actor
from bench.bus_chorde import ChordeNode
from bench.bus_plain import PlainProxy, PlainPublisher, PlainWatcher, await_subscribed
from bench.bus_tiered import TieredBroker, TieredNode

__all__ = ["Addresses", "Latency", "Way", "await_ready", "latencies", "ways"]

IN_A, IN_B, THIRD = "broker in A", "broker in B", "broker in a third process"
ALONE = "by the bus alone"
ONE_HOP, TWO_HOPS = "pyzmq PUB/SUB", "pyzmq PUB/SUB through a proxy"
OURS, CHORDE = "tiered", "chorde"


class Addresses:
    """New ones on ``"tcp"`` or ``"ipc"``; a context manager, which removes the sockets' files."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self._count = 0

    def __enter__(self) -> Addresses:
        self._folder = tempfile.TemporaryDirectory(prefix="tiered-bench-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def new(self) -> str:
        """One that nobody uses."""
        self._count += 1
        if self.transport == "ipc":
            return f"ipc://{Path(self._folder.name) / str(self._count)}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@dataclass
class Way:
    """From a process that deletes (A) to one that holds the values (B)."""

    name: str
    publisher: Actor
    watcher: Actor

    def measure(self, keys: Sequence[str], pause: float) -> list[float]:
        """Milliseconds from before each delete until the value was gone."""
        self.publisher.ask("store", keys)
        self.watcher.ask("hold", keys)
        began = self.publisher.ask("delete", keys, pause)
        gone = self.watcher.ask("gone", keys, 5.0)
        if len(gone) < len(keys):
            missing = f"{self.name}: {len(keys) - len(gone)} deletes did not arrive"
            known = [one.ask("state") for one in (self.publisher, self.watcher)]
            raise AssertionError(f"{missing}; {known}")
        return [(gone[key] - start) / 1e6 for key, start in zip(keys, began, strict=True)]


@dataclass(frozen=True)
class Latency:
    """Milliseconds, medians of the rounds; *ratio* of the medians to plain sockets, one hop."""

    transport: str
    name: str
    p50: float
    p99: float
    ratio: float


def latencies(
    transport: str, memcached: str, rounds: int, deletes: int = 500, pause: float = 0.004
) -> list[Latency]:
    """All contenders on *transport*, ``"tcp"`` or ``"ipc"``; each once in a round."""
    with ExitStack() as stack:
        addresses = stack.enter_context(Addresses(transport))
        found = ways(addresses, memcached, stack)
        taken: dict[str, list[list[float]]] = {way.name: [] for way in found}
        for number in range(-1, rounds):
            shift = number % len(found)
            for way in (*found[shift:], *found[:shift]):
                # One round that does not count: connections are used for the first time.
                count = deletes if number >= 0 else 20
                keys = [f"{number}/{one}" for one in range(count)]
                times = way.measure(keys, pause)
                if number >= 0:
                    taken[way.name].append(times)
    plain = [percentile(times, 0.5) for times in taken[ONE_HOP]]
    return [
        Latency(
            transport,
            name,
            statistics.median(percentile(times, 0.5) for times in samples),
            statistics.median(percentile(times, 0.99) for times in samples),
            statistics.median(
                percentile(times, 0.5) / floor for times, floor in zip(samples, plain, strict=True)
            ),
        )
        for name, samples in taken.items()
    ]


def percentile(times: Sequence[float], share: float) -> float:
    """What *share* of *times* do not exceed."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def ways(addresses: Addresses, memcached: str, stack: ExitStack) -> list[Way]:
    """Every contender, ready to be measured; *stack* ends their processes."""

    def actor(make: Callable[..., object], *arguments: object) -> Actor:
        started = Actor(make, *arguments)
        stack.callback(started.close)
        return started

    found = [
        _plain_one_hop(addresses.new(), actor),
        _plain_two_hops(addresses.new(), addresses.new(), actor),
        *(_ours(where, addresses.new(), None, actor) for where in (IN_A, IN_B, THIRD)),
        _ours(THIRD, addresses.new(), memcached, actor),
        *(
            _ours(where, addresses.new(), None, actor, neighbours=False)
            for where in (IN_A, IN_B, THIRD)
        ),
    ]
    if bus_chorde.installed() and addresses.transport == "tcp":
        # Over ipc each of its nodes binds, as libzmq lets it, and nothing ever arrives.
        places = (IN_A, IN_B, THIRD)
        found += [_chorde(where, addresses.new(), addresses.new(), actor) for where in places]
    return found


Start = Callable[..., Actor]


def _plain_one_hop(address: str, actor: Start) -> Way:
    publisher = actor(PlainPublisher, address, True)
    watcher = actor(PlainWatcher, address)
    await_subscribed(publisher, [watcher])
    return Way(ONE_HOP, publisher, watcher)


def _plain_two_hops(front: str, back: str, actor: Start) -> Way:
    actor(PlainProxy, front, back).ask("ready")
    publisher = actor(PlainPublisher, front, False)
    watcher = actor(PlainWatcher, back)
    await_subscribed(publisher, [watcher])
    return Way(TWO_HOPS, publisher, watcher)


def _ours(
    where: str, address: str, memcached: str | None, actor: Start, *, neighbours: bool = True
) -> Way:
    if where == THIRD:
        actor(TieredBroker, [address]).ask("ready")
    nodes = {}
    # Who may be the broker begins.
    for name in ("B", "A") if where == IN_B else ("A", "B"):
        candidate = where == f"broker in {name}"
        nodes[name] = actor(TieredNode, [address], candidate, memcached, None, neighbours)
        await_ready(nodes[name])
    how = ", over memcached" if memcached else "" if neighbours else f", {ALONE}"
    return Way(f"{OURS}, {where}{how}", nodes["A"], nodes["B"])


def _chorde(where: str, requests: str, events: str, actor: Start) -> Way:
    # Who begins is the broker.
    order = {IN_A: "AB", IN_B: "BA", THIRD: "CAB"}[where]
    nodes = {}
    for name in order:
        nodes[name] = actor(ChordeNode, requests, events)
        nodes[name].ask("probes")
        time.sleep(1.0)
    bus_chorde.await_following(nodes["A"], [nodes["B"]])
    return Way(f"{CHORDE}, {where}", nodes["A"], nodes["B"])


def await_ready(one: Actor, patience: float = 20.0) -> None:
    """Until it says that it is ready."""
    deadline = time.monotonic() + patience
    while not one.ask("ready"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready after {patience:g} s")
        time.sleep(0.01)
