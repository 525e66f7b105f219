"""A process with private tiers that are kept coherent; does what it is told over a socket.

python -m tests.integration.coherence.node SOCKET NAME
"""

from __future__ import annotations

import dataclasses
import faulthandler
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Pipe, wait
from pathlib import Path
from typing import Any, Final

from tests.integration.coherence import load
from tests.integration.coherence.meddling import Meddled, SteppedClock
from tests.integration.coherence.network import die_with_parent
from tests.integration.coherence.settings import Load, Settings, State
from tests.integration.coherence.truth import Log, Truth
from tiered import InprocCacheClient, MemcachedClient
from tiered.clients.base import CacheClient
from tiered.clients.wrapper import Wrapper
from tiered.coherence import CoherentWrapperClient, ZmqBus
from tiered.coherence.names import topic_of
from tiered.decorators import coherent_cached

__all__ = ["Node"]

TTL: Final = 600.0
CLAIM_TTL: Final = 3.0
MANY: Final = 50
"""Keys that are read together."""
FAULTS_KEPT: Final = 20


class Node:
    """What runs in such a process; its public methods are the orders."""

    def __init__(self, name: str, settings: Settings, socket: str, connection: Connection) -> None:
        self.name = name
        self.settings = settings
        self.connection = connection
        self._socket = socket
        folder = Path(settings.folder)
        self.truth = Truth(folder / "truth")
        self.clock = SteppedClock()
        self.private = InprocCacheClient(self.truth.keys, clock=self.clock)
        self.shared = MemcachedClient(
            settings.servers,
            checksum_key=settings.secret,
            prefix=settings.prefix,
            timeout=settings.server_timeout,
            clock=self.clock,
        )
        self.zmq_bus = ZmqBus(
            list(settings.candidates),
            key=settings.bus_key,
            detection=settings.detection,
            candidate=settings.candidate,
            neighbours=settings.neighbours,
            label=name,
            clock=self.clock,
        )
        self.bus: Any = Meddled(self.zmq_bus, settings.fault, joins=settings.joins)
        self.bus.start()
        self._functions = {
            keys: coherent_cached(
                self.private,
                self.shared,
                self.bus,
                TTL,
                namespace=self._namespace(keys),
                claim_ttl=CLAIM_TTL,
                synchronous=keys is settings.synchronous,
            )(self._compute)
            for keys in (settings.plain, settings.synchronous)
        }
        self._begin()

    def _begin(self) -> None:
        """What a process has for itself alone, and a forked one anew."""
        self._log = self._new_log("main")
        self._faults: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loads = 0

    def _new_log(self, thread: str) -> Log:
        return Log(Path(self.settings.folder) / f"{self.name}.{thread}.log")

    def _namespace(self, keys: range) -> str:
        return f"{self.settings.prefix}{keys.start}"

    def topic(self, keys: range) -> bytes:
        """What the namespace of *keys* is called on the bus."""
        return topic_of(self._namespace(keys))

    def keys_with(self, key: int) -> range:
        """The keys whose function has *key*."""
        plain, synchronous = self.settings.plain, self.settings.synchronous
        return plain if key in plain else synchronous

    def function(self, key: int) -> Any:
        """The cached function for *key*."""
        return self._functions[self.keys_with(key)]

    def _compute(self, key: int) -> tuple[int, int]:
        version = self.truth.version(key)
        # Long enough, now and then, for deletes to come in between.
        if random.random() < 0.03:
            time.sleep(0.01)
        return key, version

    def errors(self) -> int:
        """Failures of the shared tier so far."""
        return self.shared.stats.errors

    def fault(self, what: str, error: Exception) -> None:
        """Remember it."""
        if len(self._faults) < FAULTS_KEPT:
            self._faults.append(f"{self.name}, {what}: {error!r}")

    # -- Orders --------------------------------------------------------------------

    def begin(self, load_: Load) -> None:
        """Let threads read and delete."""
        self._loads += 1
        chosen: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = []
        for i in range(load_.readers if load_.reads else 0):
            chosen.append((f"reader{i}", load.reads, (load_.reads,)))
        plain, synchronous = self.settings.plain, self.settings.synchronous
        if load_.deletes:
            chosen.append(("deleter", load.deletes, (load_.deletes, plain)))
        if load_.synchronous:
            chosen.append(("synchronous", load.deletes, (load_.synchronous, synchronous)))
        for name, run, given in chosen:
            name = f"{name}{self._loads}"
            seed = f"{self.name}.{name}"
            self._start(run, self, self._new_log(name), self._stop, *given, seed)
        if load_.noise:
            self._start(load.noise, self, self._stop, load_.noise)

    def _start(self, run: Callable[..., None], *given: Any) -> None:
        thread = threading.Thread(target=run, args=given, daemon=True)
        thread.start()
        self._threads.append(thread)

    def quiet(self) -> list[str]:
        """Stop the threads; the names of those that do not end."""
        self._stop.set()
        deadline = time.monotonic() + 15
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        self._threads = []
        self._stop = threading.Event()
        return stuck

    def sweep(self) -> list[int]:
        """Read all keys; those whose answer was not the newest version."""
        old: list[int] = []
        for keys in (self.settings.plain, self.settings.synchronous):
            # From another place in each process: they would wait for each other at each key.
            order = list(keys)[os.getpid() % len(keys) :] + list(keys)[: os.getpid() % len(keys)]
            for at in range(0, len(order), MANY):
                some = order[at : at + MANY]
                newest = {key: self.truth.version(key) for key in some}
                found = load.read(self, self._log, some, self.function(some[0]).multi)
                old += [key for key in some if found.get(key, (key, 0))[1] < newest[key]]
        return old

    def read(self, key: int) -> int:
        """The version that is read."""
        return int(self.function(key)(key)[1])

    def delete(self, key: int) -> None:
        """A new version."""
        load.delete(self, self._log, key, self.function(key).invalidate)

    def state(self) -> State:
        """How it stands."""
        stats = dataclasses.asdict(self.bus.stats)
        clients = [coherent(function.client) for function in self._functions.values()]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return State(
            bus=stats,
            served=sum(function.stats.near_hits for function in self._functions.values()),
            verified=all(client.coherence.verified for client in clients),
            faults=self._faults,
            memory=pages * os.sysconf("SC_PAGESIZE"),
        )

    def join(self) -> None:
        """It takes part from now on."""
        self.bus.joins = True
        self.bus.start()

    def step(self, seconds: float) -> None:
        """The clock on the wall is set."""
        self.clock.offset += seconds

    def hold(self, seconds: float) -> None:
        """The bus's thread is held up at the next event."""
        self.bus.held_until = time.monotonic() + seconds

    def fork(self, name: str) -> object:
        """A child that goes on as *name*; its process id."""
        pid = os.fork()
        if pid:
            return pid
        self.connection.close()
        self.name = name
        self._begin()
        self.connection = introduced(self._socket, name)
        self.connection.recv()  # settings, which are the parent's
        return "ready"

    def reap(self, pid: int) -> int | None:
        """The exit status of a child, ``None`` while it runs."""
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def end(self) -> None:
        """Stop the threads, and give everything back."""
        self._stop.set()
        if self.settings.closes:
            self.bus.close()
            self.shared.close()
        self.truth.close()


def coherent(client: CacheClient) -> CoherentWrapperClient:
    """The coherent client that *client* is, or is around."""
    while not isinstance(client, CoherentWrapperClient):
        assert isinstance(client, Wrapper), client
        client = client.client
    return client


def introduced(socket: str, name: str) -> Connection:
    """A connection to who gives the orders."""
    connection = Client(socket, "AF_UNIX")
    connection.send(name)
    return connection


def main(socket: str, name: str) -> None:
    """Carry out orders until there are no more, or ``SIGTERM`` comes."""
    die_with_parent()
    faulthandler.register(signal.SIGUSR1)
    # Not an exception out of the handler: it could come up where all are ignored.
    ended, end = Pipe(duplex=False)
    signal.signal(signal.SIGTERM, lambda *_: end.send("SIGTERM"))
    connection = introduced(socket, name)
    node = Node(name, connection.recv(), socket, connection)
    node.connection.send("ready")
    try:
        while ended not in wait([node.connection, ended]):
            order, given = node.connection.recv()
            answer = getattr(node, order)(*given)
            node.connection.send(answer)
    except EOFError:
        pass
    node.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
