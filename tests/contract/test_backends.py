"""The contracts of backends and their mutexes, on each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import cachetools
import pytest

from tests.unit.test_region_file import OfThreads
from tiered.region.backends.file import FileLock
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

    backend = "dbm"
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
