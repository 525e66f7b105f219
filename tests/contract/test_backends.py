"""The contracts of backends and their mutexes, on each of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import cachetools
import pytest

from tests.conftest import SECRET, unique_prefix
from tests.unit.test_region_file import OfThreads
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.files import FilesCacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.null import NullCacheClient
from tiered.dogpile import KeyReentrantMutex, ThreadMutex
from tiered.region.api import BackendArguments, BackendFormatted, BackendSetType, KeyType
from tiered.region.backends.file import FileLock
from tiered.region.backends.memcached import MemcachedBackend, PyMemcacheBackend
from tiered.region.backends.memory import MemoryBackend
from tiered.region.backends.null import NullBackend
from tiered.region.proxy import ProxyBackend
from tiered.testing import BackendContract, BackendMutexContract


class Through(ProxyBackend):
    """Changes nothing."""


WRAPPED: Mapping[str, Any] = {"wrap": [Through, Through()]}


class TestNull(BackendContract):
    backend = "null"
    keeps = False


class TestMemory(BackendContract):
    backend = "memory"


class TestMemoryInAMapping(BackendContract):
    backend = "memory"

    @pytest.fixture(autouse=True)
    def _mapping(self) -> None:
        self.arguments = {"cache_dict": cachetools.LRUCache(1000)}


class TestWrappedMemory(BackendContract):
    backend = "dogpile.cache.memory"
    config_args = WRAPPED


class TestMemoryPickle(BackendContract):
    backend = "memory_pickle"


class TestWrappedMemoryPickle(BackendContract):
    backend = "memory_pickle"
    config_args = WRAPPED


class OnAFile:
    """For the backends over a dbm file."""

    backend: ClassVar[str] = "dbm"
    kind: ClassVar[str] = ""
    more: ClassVar[Mapping[str, Any]] = {}
    arguments: Mapping[str, Any]

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        path = str(tmp_path / "cache")
        if self.kind:
            pytest.importorskip(self.kind).open(path, "c", 0o600).close()
        self.arguments = {"filename": path, **self.more}


class TestDBM(OnAFile, BackendContract):
    pass


class TestDBMMutexes(OnAFile, BackendMutexContract):
    pass


class TestGnuDBM(OnAFile, BackendContract):
    kind = "dbm.gnu"


class TestNewDBM(OnAFile, BackendContract):
    kind = "dbm.ndbm"


class TestDumbDBM(OnAFile, BackendContract):
    kind = "dbm.dumb"


class TestSqliteDBM(OnAFile, BackendContract):
    kind = "dbm.sqlite3"


class TestDBMWithoutLocks(OnAFile, BackendContract):
    backend = "file"
    more: ClassVar[Mapping[str, Any]] = {"rw_lockfile": False, "dogpile_lockfile": False}


class TestWrappedDBM(OnAFile, BackendContract):
    config_args = WRAPPED


class TestWrappedDBMMutexes(OnAFile, BackendMutexContract):
    config_args = WRAPPED


class TestDBMWithALockOfThreads(OnAFile, BackendContract):
    more: ClassVar[Mapping[str, Any]] = {"lock_factory": OfThreads}


class TestMutexesOfOneLockOfThreads(OnAFile, BackendMutexContract):
    more: ClassVar[Mapping[str, Any]] = {"lock_factory": OfThreads}
    one_lock = True
    shared = False


class OfAUser(FileLock):
    """So that there is one lock for all keys."""


class TestDBMWithALockOfAUser(OnAFile, BackendContract):
    more: ClassVar[Mapping[str, Any]] = {"lock_factory": OfAUser}


class TestMutexesOfOneLockOfAFile(OnAFile, BackendMutexContract):
    more: ClassVar[Mapping[str, Any]] = {"lock_factory": OfAUser}
    one_lock = True


# -- Over clients ----------------------------------------------------------------------


class TestInproc(BackendContract):
    backend = "inproc"


class TestWrappedInproc(BackendContract):
    backend = "inproc"
    config_args = WRAPPED


class TestInprocMutexes(BackendMutexContract):
    backend = "inproc"
    arguments: Mapping[str, Any] = {"distributed_lock": True, "policy": "s3fifo"}
    shared = False


class OnAClient:
    """For the backends over a client, which several regions share."""

    client: Any
    arguments: Mapping[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _client(self) -> Iterator[None]:
        with self.make_client() as self.client:
            yield

    def make_client(self) -> CacheClient:
        return InprocCacheClient(1000)

    def configured(self) -> Any:
        return self.client


class TestInprocClient(OnAClient, BackendContract):
    pass


class TestInprocClientMutexes(OnAClient, BackendMutexContract):
    arguments: Mapping[str, Any] = {"distributed_lock": True}


class TestLockingInprocClient(OnAClient, BackendContract):
    arguments: Mapping[str, Any] = {"distributed_lock": True}


class TestNullClient(OnAClient, BackendContract):
    keeps = False

    def make_client(self) -> CacheClient:
        return NullCacheClient()


class OnMemcached(OnAClient):
    """For those that end at a real server."""

    server: PrivateMemcached

    @pytest.fixture(autouse=True)
    def _server(self, memcached: PrivateMemcached) -> None:
        self.server = memcached

    @pytest.fixture(autouse=True)
    def _client(self, _server: None) -> Iterator[None]:
        with self.make_client() as self.client:
            yield

    def make_client(self) -> CacheClient:
        return MemcachedClient(
            [self.server.address],
            checksum_key=SECRET,
            prefix=unique_prefix(),
            timeout=10,
            connect_timeout=10,
        )


class TestMemcachedClient(OnMemcached, BackendContract):
    pass


class TestMemcachedClientWithoutMutexes(OnMemcached, BackendContract):
    arguments: Mapping[str, Any] = {"distributed_lock": False}


class TestWrappedMemcachedClient(OnMemcached, BackendContract):
    config_args = WRAPPED


class TestMemcachedClientMutexes(OnMemcached, BackendMutexContract):
    pass


class TestWrappedMemcachedClientMutexes(OnMemcached, BackendMutexContract):
    config_args = WRAPPED


class Tiers(OnMemcached):
    """A store of each region's own in front of the server that they share."""

    def configured(self) -> Any:
        return [InprocCacheClient(100), self.client]


class TestTiers(Tiers, BackendContract):
    pass


class TestTiersWithoutMutexes(Tiers, BackendContract):
    arguments: Mapping[str, Any] = {"distributed_lock": False}


class TestWrappedTiers(Tiers, BackendContract):
    config_args = WRAPPED


class TestTiersMutexes(Tiers, BackendMutexContract):
    pass


class TestTiersByName(OnMemcached, BackendContract):
    backend = "tiered"

    @pytest.fixture(autouse=True)
    def _clients(self, _client: None) -> None:
        self.arguments = {"clients": [InprocCacheClient(100), self.client]}

    def configured(self) -> Any:
        return self.backend


class TestTinyTiers(OnMemcached, BackendContract):
    """Where hardly anything is near."""

    def configured(self) -> Any:
        return [InprocCacheClient(1), self.client]


# -- In the files of a host ------------------------------------------------------------


class InADirectory:
    """For the backend that makes a client of its own for each region, of one directory."""

    backend: ClassVar[str] = "files"
    more: ClassVar[Mapping[str, Any]] = {}
    arguments: Mapping[str, Any]

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.arguments = {"path": str(tmp_path / "cache"), "size_bytes": 10**8, **self.more}


class TestFiles(InADirectory, BackendContract):
    pass


class TestFilesMutexes(InADirectory, BackendMutexContract):
    pass


class TestWrappedFiles(InADirectory, BackendContract):
    config_args = WRAPPED


class TestFilesOfBytes(InADirectory, BackendContract):
    more: ClassVar[Mapping[str, Any]] = {"checksum_key": SECRET, "serializer": "raw"}


class TestTieredFiles(InADirectory, BackendContract):
    arguments: Mapping[str, Any] = {}
    path: Path

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.path = tmp_path

    def configured(self) -> Any:
        return [InprocCacheClient(100), FilesCacheClient(10**8, self.path / "cache")]


# -- On memcached, by name -------------------------------------------------------------


class ByName:
    """For the backends that make clients of their own, one for each region."""

    more: ClassVar[Mapping[str, Any]] = {}
    arguments: Mapping[str, Any]

    @pytest.fixture(autouse=True)
    def _server(
        self, memcached: PrivateMemcached, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        self.arguments = {
            "url": memcached.address,
            "checksum_key": SECRET,
            "prefix": unique_prefix(),
            "timeout": 10,
            "connect_timeout": 10,
            **self.more,
        }
        with contextlib.ExitStack() as clients:
            made_client = MemcachedBackend.made_client

            def closed(backend: MemcachedBackend, arguments: BackendArguments) -> CacheClient:
                return clients.enter_context(made_client(backend, arguments))

            for cls in (MemcachedBackend, PyMemcacheBackend):
                monkeypatch.setattr(cls, "made_client", closed)
            yield


class TestMemcachedByName(ByName, BackendContract):
    backend = "memcached"


class TestMemcachedByDogpileCachesName(ByName, BackendContract):
    backend = "dogpile.cache.pymemcache"
    more: ClassVar[Mapping[str, Any]] = {"not_known_at_all": True, "socket_keepalive": None}


class TestLockingMemcachedByName(ByName, BackendContract):
    backend = "memcached"
    more: ClassVar[Mapping[str, Any]] = {"distributed_lock": True, "memcached_expire_time": 3600}


class TestWrappedMemcachedByName(ByName, BackendContract):
    backend = "memcached"
    config_args = WRAPPED


class TestMemcachedOfJson(ByName, BackendContract):
    backend = "memcached"
    more: ClassVar[Mapping[str, Any]] = {"distributed_lock": True, "checksum_key": None}


class TestMemcachedMutexesByName(ByName, BackendMutexContract):
    backend = "memcached"
    more: ClassVar[Mapping[str, Any]] = {"distributed_lock": True}


class TestWrappedMemcachedMutexesByName(ByName, BackendMutexContract):
    backend = "memcached"
    config_args = WRAPPED
    more: ClassVar[Mapping[str, Any]] = {"distributed_lock": True}


# -- What the contracts are for --------------------------------------------------------


class Faulty(MemoryBackend):
    """Has the faults that it is told to have."""

    def __init__(self, arguments: BackendArguments) -> None:
        super().__init__({})
        self.fault = arguments["fault"]
        self.mutex = KeyReentrantMutex.factory(threading.Lock())

    def get(self, key: KeyType) -> BackendFormatted:
        if self.fault == "fails" and key not in self.cache:
            raise LookupError(key)
        return super().get(key[:40] if self.fault == "mixes up keys" else key)

    def set(self, key: KeyType, value: BackendSetType) -> None:
        if self.fault == "cuts values" and isinstance(value, bytes):
            value = value[:1000]
        super().set(key[:40] if self.fault == "mixes up keys" else key, value)

    def delete(self, key: KeyType) -> None:
        if self.fault != "keeps all":
            super().delete(key)

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        for key in keys:
            if self.fault != "knows nothing of many":
                self.delete(key)

    def get_mutex(self, key: KeyType) -> Any:
        if self.fault == "keeps nobody out":
            return NullBackend({}).get_mutex(key)
        if self.fault == "has many mutexes":
            return ThreadMutex()
        return self.mutex(key)


class OfFaults(BackendContract, BackendMutexContract):
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def configured(self) -> Any:
        return Faulty({"fault": self.fault})


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("fails", "what_is_not_there_is_no_value"),
        ("mixes up keys", "many_bytes_come_back_in_the_order_of_the_keys"),
        ("cuts values", "bytes_come_back"),
        ("keeps all", "bytes_that_are_deleted_are_gone_and_no_others"),
        ("knows nothing of many", "bytes_that_are_deleted_are_gone_and_no_others"),
        ("keeps nobody out", "it_is_held_once"),
        ("has many mutexes", "all_mutexes_of_a_key_are_one"),
    ],
)
def test_faults_are_found(fault: str, test: str) -> None:
    def run(fault: str) -> None:
        suite = OfFaults(fault)
        getattr(suite, f"test_{test}")(suite.make_region().backend, "k" * 40)

    run("none")
    with pytest.raises((AssertionError, LookupError)):
        run(fault)


def test_a_suite_says_why_it_cannot_run() -> None:
    class Unavailable(BackendContract):
        def unavailable(self) -> str:
            return "no server"

    assert Unavailable().reason_to_skip("test_bytes_come_back") == "no server"
    assert TestNull().reason_to_skip("test_bytes_come_back") == "the backend keeps nothing"
    assert TestNull().reason_to_skip("test_a_creator_gets_its_arguments") is None
    assert TestMemory().reason_to_skip("test_bytes_come_back") is None
