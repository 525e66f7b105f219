"""The contract of mutexes, on each of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.dogpile import FileMutex, KeyReentrantMutex, MemcachedMutex, ThreadMutex
from tiered.testing import MutexContract


class TestThreadMutex(MutexContract):
    @pytest.fixture(autouse=True)
    def shared(self) -> None:
        self.mutex = ThreadMutex()

    def make_mutex(self) -> Any:
        return self.mutex


class TestFileMutex(MutexContract):
    @pytest.fixture(autouse=True)
    def path(self, tmp_path: Path) -> None:
        self.file = tmp_path / "a lock"

    def make_mutex(self) -> Any:
        return FileMutex(self.file)


class TestOneFileMutex(TestFileMutex):
    @pytest.fixture(autouse=True)
    def mutex(self, path: None) -> None:
        self.shared = FileMutex(str(self.file))

    def make_mutex(self) -> Any:
        return self.shared


class TestFileMutexOfOneKey(TestFileMutex):
    def make_mutex(self) -> Any:
        return FileMutex(self.file, "a key")


class TestOneFileMutexOfOneKey(TestOneFileMutex):
    @pytest.fixture(autouse=True)
    def mutex(self, path: None) -> None:
        self.shared = FileMutex(self.file, "a key")


class TestKeyReentrantMutex(MutexContract):
    @pytest.fixture(autouse=True)
    def shared(self) -> None:
        self.of = KeyReentrantMutex.factory(threading.Lock())

    def make_mutex(self) -> Any:
        return self.of("a key")


class TestOneKeyReentrantMutex(TestKeyReentrantMutex):
    @pytest.fixture(autouse=True)
    def mutex(self, shared: None) -> None:
        self.one = self.of("a key")

    def make_mutex(self) -> Any:
        return self.one


class TestKeyReentrantFileMutex(TestFileMutex):
    """As in several processes, each of which has its own idea of who holds which keys."""

    def make_mutex(self) -> Any:
        return KeyReentrantMutex.factory(FileMutex(self.file))("a key")


class TestMemcachedMutex(MutexContract):
    @pytest.fixture(autouse=True)
    def server(self, memcached: PrivateMemcached) -> None:
        self.client = MemcachedClient(
            [memcached.address], checksum_key=SECRET, prefix=unique_prefix()
        )

    def make_mutex(self) -> Any:
        return MemcachedMutex(self.client, ("any", "key"), ttl=60)


class TestMemcachedMutexOfSeveralClients(MutexContract):
    @pytest.fixture(autouse=True)
    def server(self, memcached: PrivateMemcached) -> None:
        self.address = memcached.address
        self.prefix = unique_prefix()

    def make_mutex(self) -> Any:
        client = MemcachedClient([self.address], checksum_key=SECRET, prefix=self.prefix)
        return MemcachedMutex(TieredInclusiveClient(InprocCacheClient(10), client), "k", ttl=60)


class Open:
    """A mutex that keeps nobody out who is ready to wait."""

    def __init__(self) -> None:
        self.held = False

    def acquire(self, wait: bool = True) -> bool:
        if self.held and not wait:
            return False
        self.held = True
        return True

    def release(self) -> bool:
        self.held = False
        return True


class OnOpen(MutexContract):
    def __init__(self) -> None:
        self.mutex = Open()

    def make_mutex(self) -> Any:
        return self.mutex


def test_the_contract_finds_out_who_excludes_nobody() -> None:
    with pytest.raises(AssertionError):
        OnOpen().test_one_at_a_time()


class TestMutexOverMemory(MutexContract):
    @pytest.fixture(autouse=True)
    def memory(self) -> None:
        self.client = InprocCacheClient(10)

    def make_mutex(self) -> Any:
        return MemcachedMutex(self.client, "k")
