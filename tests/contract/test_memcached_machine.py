"""Two clients of two real servers that die and return: no value outlives its delete.

Every value carries its key and a version. Checked against a model that knows, for each
key, the newest version that a delete was to remove: whoever reads an older one fails, and
so does who reads what belongs to another key.

A delete that could not be told everywhere counts as an error of its client. Of that one
only this client knows, so only he is bound by it; nobody else can be, before he has told
the server. A server that is killed has forgotten everything when it returns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
)

from tests.conftest import SECRET, unique_prefix
from tests.ports import kept_port
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import Claim
from tiered.clients.memcached import MemcachedClient, probe
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.server import Server
from tiered.clients.memcached.stream import Patience
from tiered.testing import ManualClock

EXAMPLES = int(os.environ.get("TIERED_EXAMPLES", "40"))

KEYS = [f"key {number}" for number in range(5)]
CLIENTS = st.integers(0, 1)
SERVERS = st.integers(0, 1)
TTLS = st.sampled_from([5.0, 1000.0])
PAUSES = st.sampled_from([0.3, 2.0, 20.0])
"""Seconds: past the first pause after a failure, past some, past every one."""


class Fault:
    """Makes the next exchange with a server break off, before it begins or when it is over."""

    def __init__(self, server: Server) -> None:
        self.armed: str | None = None
        self._ask = server.ask
        self._converse = server.converse
        server.ask = self.ask  # type: ignore[method-assign]
        server.converse = self.converse  # type: ignore[method-assign]

    def _strike(self, moment: str) -> None:
        if self.armed == moment:
            self.armed = None
            raise ConnectionResetError(f"broken {moment} the exchange")

    def ask(self, exchange: Callable[[Connection], Any]) -> Any:
        def broken(connection: Connection) -> Any:
            self._strike("before")
            answer = exchange(connection)
            self._strike("after")
            return answer

        return self._ask(broken)

    def converse(
        self,
        turns: Callable[[Connection], Generator[None, None, Any]],
        patience: Patience | None = None,
    ) -> Generator[None, None, Any]:
        def broken(connection: Connection) -> Generator[None, None, Any]:
            self._strike("before")
            answer = yield from turns(connection)
            self._strike("after")
            return answer

        return self._converse(broken, patience)


class Started(NamedTuple):
    """A claim that was given, for a value of that version."""

    key: str
    version: int
    claim: Claim


class MemcachedMachine(RuleBasedStateMachine):
    meta_since: ClassVar[tuple[int, ...]] = (1, 6, 10)
    processes: ClassVar[list[PrivateMemcached]]

    @initialize()
    def start(self) -> None:
        self.dialect = patch.object(probe, "_META_SINCE", self.meta_since)
        self.dialect.start()
        self.clock = ManualClock()
        for process in self.processes:
            if process._process is None:
                process.start(process.port)
        addresses = [process.address for process in self.processes]
        prefix = unique_prefix()
        self.clients = [
            MemcachedClient(
                addresses, checksum_key=SECRET, prefix=prefix, timeout=5, clock=self.clock
            )
            for _ in range(2)
        ]
        self.faults = [
            [Fault(server) for server in client._servers.fleet.servers] for client in self.clients
        ]
        self.version = 0
        self.claims: list[Started] = []
        # The newest version that must not be seen any more: by anybody, and by each client.
        self.deleted = dict.fromkeys(KEYS, 0)
        self.owed = [dict.fromkeys(KEYS, 0) for _ in self.clients]

    def teardown(self) -> None:
        if hasattr(self, "clients"):
            for who in (0, 1):
                self.read_all(who)
            for client in self.clients:
                client.close()
            self.dialect.stop()

    def value(self, key: str) -> tuple[str, int]:
        self.version += 1
        return key, self.version

    def check(self, who: int, key: Any, value: Any) -> None:
        if value is None:
            return
        owner, version = value
        assert owner == key, f"{key!r} has the value of {owner!r}"
        floor = max(self.deleted[key], self.owed[who][key])
        assert version > floor, f"{key!r} is {version}, and all up to {floor} were deleted"

    # -- Reads ---------------------------------------------------------------------

    @rule(who=CLIENTS, key=st.sampled_from(KEYS))
    def get(self, who: int, key: str) -> None:
        self.check(who, key, self.clients[who].get(key, None))

    @rule(who=CLIENTS)
    def read_all(self, who: int) -> None:
        for key, value in self.clients[who].get_multi(KEYS, None).items():
            self.check(who, key, value)
        for key, (value, _) in self.clients[who].get_ttl_multi(KEYS, None).items():
            self.check(who, key, value)

    # -- Writes --------------------------------------------------------------------

    @rule(who=CLIENTS, key=st.sampled_from(KEYS), ttl=TTLS)
    def put(self, who: int, key: str, ttl: float) -> None:
        self.clients[who].put(key, self.value(key), ttl, keep=1000)

    @rule(who=CLIENTS, keys=st.lists(st.sampled_from(KEYS), unique=True), ttl=TTLS)
    def put_multi(self, who: int, keys: list[str], ttl: float) -> None:
        self.clients[who].put_multi({key: self.value(key) for key in keys}, ttl, keep=1000)

    @rule(who=CLIENTS, key=st.sampled_from(KEYS), ttl=TTLS)
    def add(self, who: int, key: str, ttl: float) -> None:
        self.clients[who].add(key, self.value(key), ttl, keep=1000)

    @rule(who=CLIENTS, key=st.sampled_from(KEYS))
    def renew(self, who: int, key: str) -> None:
        self.clients[who].renew(key, 2000)

    @rule(who=CLIENTS, key=st.sampled_from(KEYS))
    def expire(self, who: int, key: str) -> None:
        self.clients[who].expire(key)

    # -- Deletes -------------------------------------------------------------------

    @rule(who=CLIENTS, key=st.sampled_from(KEYS))
    def delete(self, who: int, key: str) -> None:
        with self.deleting(who, [key]):
            self.clients[who].delete(key)

    @rule(who=CLIENTS, keys=st.lists(st.sampled_from(KEYS), unique=True))
    def delete_multi(self, who: int, keys: list[str]) -> None:
        with self.deleting(who, keys):
            self.clients[who].delete_multi(keys)

    def deleting(self, who: int, keys: list[str]) -> Any:
        return Deleting(self, who, keys)

    # -- Claims --------------------------------------------------------------------

    @rule(who=CLIENTS, key=st.sampled_from(KEYS))
    def claim(self, who: int, key: str) -> None:
        claim = self.clients[who].claim(key, 10_000)
        if claim is not None:
            self.version += 1  # what is computed from here on is of this version
            self.claims.append(Started(key, self.version, claim))

    # No bundle of claims: whether one is given hangs on the time that a server took to refuse.
    @rule(number=st.integers(0, 20), ttl=TTLS)
    def fill(self, number: int, ttl: float) -> None:
        if self.claims:
            started = self.claims.pop(number % len(self.claims))
            started.claim.fill((started.key, started.version), ttl, keep=1000)

    @rule(number=st.integers(0, 20))
    def give_back(self, number: int) -> None:
        if self.claims:
            self.claims.pop(number % len(self.claims)).claim.release()

    # -- Faults --------------------------------------------------------------------

    @rule(number=SERVERS)
    def die(self, number: int) -> None:
        kill(self.processes[number])

    @rule(number=SERVERS)
    def restart(self, number: int) -> None:
        process = self.processes[number]
        kill(process)
        process.start(process.port)

    @rule(who=CLIENTS, number=SERVERS, moment=st.sampled_from(["before", "after"]))
    def break_off(self, who: int, number: int, moment: str) -> None:
        self.faults[who][number].armed = moment

    @rule(seconds=PAUSES)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TextMachine(MemcachedMachine):
    """The same with servers that are taken for older ones."""

    meta_since = (9,)


def kill(process: PrivateMemcached) -> None:
    if process._process is not None:
        process._process.kill()  # who is asked to end takes a second for it
    process.stop()


class Deleting:
    """Notes in the model what a delete has come to."""

    def __init__(self, machine: MemcachedMachine, who: int, keys: list[str]) -> None:
        self.machine = machine
        self.who = who
        self.keys = keys

    def _failures(self) -> int:
        client = self.machine.clients[self.who]
        return client.stats.errors + sum(server.owed for server in client.stats.servers)

    def __enter__(self) -> None:
        self.before = self._failures()

    def __exit__(self, *_: object) -> None:
        machine = self.machine
        told = self._failures() == self.before
        floors = machine.deleted if told else machine.owed[self.who]
        for key in self.keys:
            floors[key] = machine.version


@pytest.fixture(scope="module", autouse=True)
def servers(memcached: PrivateMemcached) -> Iterator[None]:
    del memcached  # fails or skips where there is none to run
    with ExitStack() as stack:
        MemcachedMachine.processes = []
        for _ in range(2):
            port = stack.enter_context(kept_port())  # nobody takes it while the server is dead
            process = PrivateMemcached().start(port)
            stack.callback(process.stop)
            MemcachedMachine.processes.append(process)
        yield


TestMemcachedMachine = MemcachedMachine.TestCase
TestTextMachine = TextMachine.TestCase
TestTextMachine.settings = TestMemcachedMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
