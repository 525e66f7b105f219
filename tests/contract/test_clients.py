"""The contract and the state machine, on every client."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import cachetools
import pytest

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
from tiered.clients.null import NullCacheClient
from tiered.clients.synced import ReadWriteSyncAdapter, SyncAdapter
from tiered.clients.tagged import TaggedView
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.coherence.client import CoherentWrapperClient
from tiered.testing import ClientContract, ManualClock


def inproc(clock: ManualClock) -> InprocCacheClient:
    return InprocCacheClient(1000, clock=clock)


def namespaced(client: CacheClient) -> NamespaceWrapper:
    return NamespaceWrapper("ns", client)


class TestLRU(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return inproc(clock)


class TestWeighedLRU(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return InprocCacheClient(1000, weigher=lambda key, value: 0.5, clock=clock)


class TestLFU(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return InprocCacheClient(1000, policy="lfu", clock=clock)


class TestFIFO(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return InprocCacheClient(1000, policy="fifo", clock=clock)


class TestRR(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return InprocCacheClient(1000, policy="rr", clock=clock)


class TestDict(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return InprocCacheClient(1000, store={}, clock=clock)


class TestForeignCachetools(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return InprocCacheClient(1000, store=cachetools.LRUCache, clock=clock)


class TestNull(ClientContract):
    holds = False

    def make_client(self, clock: ManualClock) -> CacheClient:
        client = NullCacheClient()
        client.clock = clock
        return client


class TestWrapper(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return Wrapper(inproc(clock))


class TestNamespace(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(inproc(clock))


class TestNamespaceMirror(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return NamespaceMirrorWrapper(namespaced(inproc(clock)), inproc(clock))


class TestDecorated(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return DecoratedWrapper(
            inproc(clock),
            key_decorator=lambda key: ("decorated", key),
            value_decorator=lambda value: ("boxed", value),
            value_undecorator=lambda boxed: boxed[1],
        )


class TestBackground(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return AsyncWriteCacheClient(inproc(clock))


class TestFullBackground(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return AsyncWriteCacheClient(inproc(clock), queue_size=1, workers=1)


class TestNamespacedBackgroundTier(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        far = AsyncWriteCacheClient(RemoteFake(inproc(clock)))
        return namespaced(TieredInclusiveClient(inproc(clock), far))


class TestVersions(ClientContract):
    gives_versions = True

    def make_client(self, clock: ManualClock) -> CacheClient:
        return VersionedFake(inproc(clock))


class TestTagged(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return TaggedView(inproc(clock))


class TestTaggedNamespacedTiers(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        far = RemoteFake(inproc(clock))
        return TaggedView(namespaced(TieredInclusiveClient(inproc(clock), far)))


class TestSync(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return SyncAdapter(inproc(clock))


class TestReadWriteSync(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return ReadWriteSyncAdapter(inproc(clock))


class TestOneTier(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return TieredInclusiveClient(inproc(clock))


class TestTiers(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return TieredInclusiveClient(inproc(clock), inproc(clock), inproc(clock))


class TestTiersWithFractions(ClientContract):
    exact_ttl = False

    def make_client(self, clock: ManualClock) -> CacheClient:
        return TieredInclusiveClient(inproc(clock), inproc(clock), ttl_fractions=(0.1, 1.0))


class TestTiersWithATinyFirst(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return TieredInclusiveClient(InprocCacheClient(1, clock=clock), inproc(clock))


class TestCoherent(ClientContract):
    gives_versions = True

    def make_client(self, clock: ManualClock) -> CacheClient:
        return coherent(clock, detection=1e15, size=1000)


class TestCoherentOutOfStep(ClientContract):
    gives_versions = True

    def make_client(self, clock: ManualClock) -> CacheClient:
        return coherent(clock, size=1000)


class TestCoherentAlone(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return coherent(clock, detection=1e15, size=1000, alone=True)


class TestNamespacedCoherent(ClientContract):
    gives_versions = True

    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(coherent(clock, detection=1e15, size=1000))


class TestNamespacedCoherentOutOfStep(ClientContract):
    gives_versions = True

    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(coherent(clock, size=1000))


class TestCoherentNamespace(ClientContract):
    gives_versions = True

    def make_client(self, clock: ManualClock) -> CacheClient:
        client = coherent(clock, detection=1e15, size=1000)
        return CoherentWrapperClient(namespaced(client.client), client.manager)


class TestNamespacedTiers(ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(TieredInclusiveClient(inproc(clock), inproc(clock)))


class InFiles:
    """For the clients that end at a directory."""

    path: Path
    size: ClassVar[int] = 100_000_000
    gives_versions: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "cache"

    def files(self, clock: ManualClock, **options: Any) -> FilesCacheClient:
        return FilesCacheClient(self.size, self.path, strict=True, clock=clock, **options)


class TestFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return self.files(clock)


class TestFilesWithoutPacks(InFiles, ClientContract):
    size: ClassVar[int] = 10_000_000

    def make_client(self, clock: ManualClock) -> CacheClient:
        return self.files(clock)


class TestSignedPackedFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return self.files(clock, checksum_key=SECRET)


class TestSignedFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return self.files(clock, checksum_key=SECRET, fsync=True)


class TestBackgroundFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return AsyncWriteCacheClient(self.files(clock))


class TestNamespacedFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(self.files(clock))


class TestTieredFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return TieredInclusiveClient(inproc(clock), self.files(clock))


class TestNamespacedTieredFiles(InFiles, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(TieredInclusiveClient(inproc(clock), self.files(clock)))


class OnTheServer:
    """For the clients that end at a real memcached."""

    server: PrivateMemcached
    claims_follow_clock = False
    gives_versions: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _server(self, memcached: PrivateMemcached) -> None:
        self.server = memcached

    def remote(self, clock: ManualClock) -> MemcachedClient:
        return MemcachedClient(
            [self.server.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
        )


class TestMemcached(OnTheServer, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return self.remote(clock)


class TestBackgroundMemcached(OnTheServer, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return AsyncWriteCacheClient(self.remote(clock))


class TestTwoMemcached(OnTheServer, ClientContract):
    second: PrivateMemcached

    @pytest.fixture(autouse=True)
    def _second(self, second_memcached: PrivateMemcached) -> None:
        self.second = second_memcached

    def make_client(self, clock: ManualClock) -> CacheClient:
        return MemcachedClient(
            [self.server.address, self.second.address],
            checksum_key=SECRET,
            prefix=unique_prefix(),
            clock=clock,
        )


class TestJsonMemcached(OnTheServer, ClientContract):
    values: ClassVar[list[Any]] = [None, False, 0, 1.5, "text", [1, [2]], {"a": {"b": 1}}]

    def make_client(self, clock: ManualClock) -> CacheClient:
        # The suite stores tuples here and there; the decorator makes them JSON's lists.
        return DecoratedWrapper(
            MemcachedClient(
                [self.server.address], serializer="json", prefix=unique_prefix(), clock=clock
            ),
            value_decorator=lambda v: {"tuple": list(v)} if isinstance(v, tuple) else v,
            value_undecorator=lambda v: (
                tuple(v["tuple"]) if isinstance(v, dict) and "tuple" in v else v
            ),
        )


class TestNamespacedMemcached(OnTheServer, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(self.remote(clock))


class TestTaggedMemcached(OnTheServer, ClientContract):
    gives_versions = False

    def make_client(self, clock: ManualClock) -> CacheClient:
        return TaggedView(namespaced(self.remote(clock)))


class TestTaggedTieredMemcached(OnTheServer, ClientContract):
    gives_versions = False

    def make_client(self, clock: ManualClock) -> CacheClient:
        return TaggedView(namespaced(TieredInclusiveClient(inproc(clock), self.remote(clock))))


class TestTieredMemcached(OnTheServer, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return TieredInclusiveClient(inproc(clock), self.remote(clock))


class TestCoherentMemcached(OnTheServer, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return coherent(clock, self.remote(clock), size=1000)


class TestNamespacedTieredMemcached(OnTheServer, ClientContract):
    def make_client(self, clock: ManualClock) -> CacheClient:
        return namespaced(TieredInclusiveClient(inproc(clock), self.remote(clock)))
