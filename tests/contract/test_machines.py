"""The hypothesis state machine, on every client."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.coherent import coherent
from tests.conftest import SECRET, unique_prefix
from tests.fakes import RemoteFake, VersionedFake
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.background import AsyncWriteCacheClient
from tiered.clients.base import CacheClient
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.files import FilesCacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.namespace import NamespaceMirrorWrapper, NamespaceWrapper
from tiered.clients.synced import ReadWriteSyncAdapter, SyncAdapter
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.coherence.client import CoherentWrapperClient
from tiered.testing import ClientMachine, ManualClock

EXAMPLES = int(os.environ.get("TIERED_EXAMPLES", "40"))
STEPS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def inproc(clock: ManualClock, **options: Any) -> InprocCacheClient:
    return InprocCacheClient(100, clock=clock, **options)


def tiny(clock: ManualClock) -> InprocCacheClient:
    return InprocCacheClient(2, clock=clock)


def coherent_namespace(clock: ManualClock) -> CacheClient:
    client = coherent(clock, detection=1e15)
    return CoherentWrapperClient(NamespaceWrapper("ns", client.client), client.manager)


IN_PROCESS: dict[str, Callable[[ManualClock], CacheClient]] = {
    "lru": inproc,
    "lfu": lambda clock: inproc(clock, policy="lfu"),
    "fifo": lambda clock: inproc(clock, policy="fifo"),
    "rr": lambda clock: inproc(clock, policy="rr"),
    "dict": lambda clock: inproc(clock, store={}),
    "weighed": lambda clock: inproc(clock, weigher=lambda key, value: 1.5),
    "wrapper": lambda clock: Wrapper(inproc(clock)),
    "sync": lambda clock: SyncAdapter(inproc(clock)),
    "rwsync": lambda clock: ReadWriteSyncAdapter(inproc(clock)),
    "background": lambda clock: AsyncWriteCacheClient(inproc(clock)),
    "background remote": lambda clock: AsyncWriteCacheClient(RemoteFake(inproc(clock))),
    "background tiers": lambda clock: AsyncWriteCacheClient(
        TieredInclusiveClient(tiny(clock), inproc(clock))
    ),
    "full background": lambda clock: AsyncWriteCacheClient(inproc(clock), 1, 1),
    "namespace": lambda clock: NamespaceWrapper("ns", inproc(clock)),
    "mirror": lambda clock: NamespaceMirrorWrapper(
        NamespaceWrapper("ns", inproc(clock)), inproc(clock)
    ),
    "decorated": lambda clock: DecoratedWrapper(
        inproc(clock), lambda key: (key,), lambda value: [value], lambda boxed: boxed[0]
    ),
    "one tier": lambda clock: TieredInclusiveClient(inproc(clock)),
    "tiers": lambda clock: TieredInclusiveClient(inproc(clock), inproc(clock), inproc(clock)),
    "tiers, tiny first": lambda clock: TieredInclusiveClient(tiny(clock), inproc(clock)),
    "namespaced tiers": lambda clock: NamespaceWrapper(
        "ns", TieredInclusiveClient(tiny(clock), inproc(clock))
    ),
    "coherent": lambda clock: coherent(clock, detection=1e15),
    "coherent, tiny": lambda clock: coherent(clock, detection=1e15, size=2),
    "coherent, out of step": coherent,
    "coherent, alone": lambda clock: coherent(clock, detection=1e15, alone=True),
    "namespaced coherent": lambda clock: NamespaceWrapper("ns", coherent(clock, detection=1e15)),
    "namespaced coherent, out of step": lambda clock: NamespaceWrapper("ns", coherent(clock)),
    "coherent tier in a namespace": lambda clock: coherent(
        clock, NamespaceWrapper("ns", VersionedFake(inproc(clock)))
    ),
    "coherent namespace": coherent_namespace,
}


IN_FILES: dict[str, Callable[[ManualClock, FilesCacheClient], CacheClient]] = {
    "files": lambda clock, files: files,
    "tiered files": lambda clock, files: TieredInclusiveClient(tiny(clock), files),
    "namespaced tiered files": lambda clock, files: NamespaceWrapper(
        "ns", TieredInclusiveClient(tiny(clock), files)
    ),
}

ON_THE_SERVER: dict[str, Callable[[ManualClock, MemcachedClient], CacheClient]] = {
    "memcached": lambda clock, remote: remote,
    "background memcached": lambda clock, remote: AsyncWriteCacheClient(remote),
    "tiered background memcached": lambda clock, remote: TieredInclusiveClient(
        tiny(clock), AsyncWriteCacheClient(remote)
    ),
    "namespaced memcached": lambda clock, remote: NamespaceWrapper("ns", remote),
    "tiered memcached": lambda clock, remote: TieredInclusiveClient(tiny(clock), remote),
    "namespaced tiered memcached": lambda clock, remote: NamespaceWrapper(
        "ns", TieredInclusiveClient(tiny(clock), remote)
    ),
    "coherent memcached": lambda clock, remote: coherent(clock, remote, detection=1e15),
    "coherent memcached, out of step": coherent,
}


@pytest.mark.parametrize("name", IN_PROCESS)
def test_clients_in_process(name: str) -> None:
    class Machine(ClientMachine):
        def make_client(self, clock: ManualClock) -> CacheClient:
            return IN_PROCESS[name](clock)

    run_state_machine_as_test(Machine, settings=STEPS)


def test_tiers_with_fractions() -> None:
    class Machine(ClientMachine):
        exact_ttl = False
        # The nearer copy goes stale first, and is purged first.
        keeps_stale = False

        def make_client(self, clock: ManualClock) -> CacheClient:
            return TieredInclusiveClient(tiny(clock), inproc(clock), ttl_fractions=(0.25, 1.0))

    run_state_machine_as_test(Machine, settings=STEPS)


@pytest.mark.parametrize("size", [10**8, 10**7], ids=["packed", "apart"])
@pytest.mark.parametrize("name", IN_FILES)
def test_clients_in_files(name: str, size: int, tmp_path: Path) -> None:
    numbers = itertools.count()

    class Machine(ClientMachine):
        def make_client(self, clock: ManualClock) -> CacheClient:
            path = tmp_path / str(next(numbers))
            return IN_FILES[name](clock, FilesCacheClient(size, path, strict=True, clock=clock))

    run_state_machine_as_test(Machine, settings=STEPS)


@pytest.mark.parametrize("name", ON_THE_SERVER)
def test_clients_on_a_server(name: str, memcached: PrivateMemcached) -> None:
    class Machine(ClientMachine):
        def make_client(self, clock: ManualClock) -> CacheClient:
            remote = MemcachedClient(
                [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
            )
            return ON_THE_SERVER[name](clock, remote)

    run_state_machine_as_test(Machine, settings=STEPS)
