"""The backend over a dbm file, and its locks."""

from __future__ import annotations

import dbm
import importlib
import multiprocessing
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import together
from tiered.clock import SYSTEM_CLOCK
from tiered.dogpile import FileMutex, KeyReentrantMutex, ReadWriteMutex
from tiered.region.api import NO_VALUE, CacheMutex
from tiered.region.backends.file import AbstractFileLock, DBMBackend, FileLock
from tiered.region.exception import ValidationError

KINDS = ["dbm.gnu", "dbm.ndbm", "dbm.dumb", "dbm.sqlite3"]


class OfThreads(AbstractFileLock):
    """A user's lock."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.mutex = ReadWriteMutex()

    def acquire_read_lock(self, wait: bool) -> bool:
        return self.mutex.acquire_read_lock(wait)

    def acquire_write_lock(self, wait: bool) -> bool:
        return self.mutex.acquire_write_lock(wait)

    def release_read_lock(self) -> None:
        self.mutex.release_read_lock()

    def release_write_lock(self) -> None:
        self.mutex.release_write_lock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.dbm"


def mutex(backend: DBMBackend, key: str) -> Any:
    """The mutex of *key*, of whichever class."""
    return backend.get_mutex(key)


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


# -- Values ----------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def of_a_kind(path: Path, request: pytest.FixtureRequest) -> DBMBackend:
    """On a file of that kind."""
    pytest.importorskip(request.param).open(str(path), "c", 0o600).close()
    return DBMBackend({"filename": str(path)})


def test_values_of_any_kind_of_file(of_a_kind: DBMBackend) -> None:
    backend = of_a_kind
    assert backend.get_serialized("a") is NO_VALUE
    backend.delete("a")
    backend.set_serialized("a", b"x\0\xff")
    backend.set_serialized_multi({"b": b"1", "é\n\udc80": b"v" * 3000})
    assert backend.get_serialized_multi(["a", "no", "b", "é\n\udc80"]) == [
        b"x\0\xff",
        NO_VALUE,
        b"1",
        b"v" * 3000,
    ]
    backend.set_serialized("a", b"longer" * 200)
    assert backend.get_serialized("a") == b"longer" * 200
    backend.delete_multi(["a", "no"])
    assert backend.get_serialized_multi(["a", "b"]) == [NO_VALUE, b"1"]
    other = DBMBackend({"filename": Path(backend.filename)})
    assert other.get_serialized("b") == b"1"


def test_threads_do_not_disturb_one_another(of_a_kind: DBMBackend) -> None:
    def work(number: int) -> list[Any]:
        backend = of_a_kind if number % 2 else DBMBackend({"filename": of_a_kind.filename})
        found = []
        for turn in range(15):
            key = f"{number} {turn}"
            backend.set_serialized(key, key.encode() * 50)
            found.append(backend.get_serialized(key) == key.encode() * 50)
            backend.get_serialized_multi(["0 0", "1 1"])
        return found

    assert together(work, 4) == [[True] * 15] * 4
    assert of_a_kind.get_serialized_multi(["0 0", "1 1"]) == [b"0 0" * 50, b"1 1" * 50]


def test_the_file_is_made_when_it_is_needed_for_its_owner_only(path: Path) -> None:
    backend = DBMBackend({"filename": path})
    assert not files(path)
    assert backend.get_serialized("k") is NO_VALUE
    assert backend.get_serialized_multi(["k", "l"]) == [NO_VALUE, NO_VALUE]
    backend.delete("k")
    backend.delete_multi(["k", "l"])
    assert files(path) == {"cache.dbm.rw.lock"}
    backend.set_serialized("k", b"v")
    with mutex(backend, "k"):
        pass
    assert dbm.whichdb(str(path))
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_it_stays_so_whatever_is_done(
    of_a_kind: DBMBackend, path: Path, umask_of_a_group: None
) -> None:
    of_a_kind.set_serialized_multi({"a": b"1", "b": b"2"})
    of_a_kind.delete("a")
    of_a_kind.set_serialized("c", b"3")
    of_a_kind.delete_multi(["b"])
    assert of_a_kind.get_serialized("c") == b"3"
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.fixture
def umask_of_a_group() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


def test_files_are_opened_one_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, clashes = threading.Lock(), []
    usual = dbm.open

    def watched(*args: Any) -> Any:
        alone = inside.acquire(False)
        clashes.append(not alone)
        for _ in range(20):  # whoever can get in, gets in now
            SYSTEM_CLOCK.sleep(0)
        if alone:
            inside.release()
        return usual(*args)

    backend = DBMBackend({"filename": path})
    backend.set_serialized("k", b"v")
    monkeypatch.setattr(dbm, "open", watched)
    assert together(lambda _: backend.get_serialized("k"), 4) == [b"v"] * 4
    assert clashes == [False] * 4


def test_a_relative_path_is_of_the_folder_of_now(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    backend = DBMBackend({"filename": path.name, "rw_lockfile": "rw", "dogpile_lockfile": "dog"})
    monkeypatch.chdir("/")
    backend.set_serialized("k", b"v")
    assert mutex(backend, "k").acquire()
    assert {"rw", "dog"} < files(path)


def test_a_damaged_file_is_an_error(path: Path) -> None:
    path.write_bytes(b"nothing that any dbm knows")
    path.chmod(0o600)
    backend = DBMBackend({"filename": path})
    for operation in (
        lambda: backend.get_serialized("k"),
        lambda: backend.set_serialized("k", b"v"),
        lambda: backend.delete("k"),
    ):
        with pytest.raises(dbm.error):
            operation()
    path.unlink()
    backend.set_serialized("k", b"v")  # no lock was left behind
    assert backend.get_serialized("k") == b"v"


def _write(path: str, number: int) -> None:
    backend = DBMBackend({"filename": path})
    for turn in range(15):
        backend.set_serialized(f"{number} {turn}", f"{number} {turn}".encode() * 50)


def test_processes_do_not_disturb_one_another(path: Path) -> None:
    dumb = importlib.import_module("dbm.dumb")  # the one that would be disturbed
    dumb.open(str(path), "c", 0o600).close()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(path), number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    keys = [f"{number} {turn}" for number in range(2) for turn in range(15)]
    found = DBMBackend({"filename": path}).get_serialized_multi(keys)
    assert found == [key.encode() * 50 for key in keys]


# -- Arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "filename must be the path of a file, not None"),
        ({"filename": ""}, "filename must be the path"),
        ({"filename": 3}, "filename must be the path of a file, not 3"),
        ({"filename": b"bytes"}, "filename must be the path"),
        ({"filename": "no/such/folder"}, "filename: .*no/such/folder.* make the folder"),
        ({"filename": "f", "rw_lockfile": True}, "rw_lockfile must be the path .* not True"),
        ({"filename": "f", "rw_lockfile": "no/such"}, "rw_lockfile: .*no/such"),
        ({"filename": "f", "dogpile_lockfile": 1}, "dogpile_lockfile must be the path"),
        ({"filename": "f", "lock_factory": 3}, "lock_factory must be a class .* not 3"),
        ({"filename": "f", "lock_factory": str}, "lock_factory must be a class"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match=match):
        DBMBackend(arguments)


OPERATIONS: list[Callable[[DBMBackend], Any]] = [
    lambda backend: backend.get_serialized("k"),
    lambda backend: backend.set_serialized("k", b"v"),
    lambda backend: backend.delete("k"),
]


@pytest.mark.parametrize("suffix", ["", ".dat", ".dir", ".pag", ".db", "-wal"])
@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_what_others_can_write_is_refused(path: Path, suffix: str, mode: int) -> None:
    backend = DBMBackend({"filename": path})
    file = path.with_name(path.name + suffix)
    file.touch()
    file.chmod(mode)
    refused = pytest.raises(ValidationError, match=f"{file.name}' can be written by others.*chmod")
    with refused:
        DBMBackend({"filename": path})
    for operation in OPERATIONS:
        with refused:
            operation(backend)
    file.chmod(0o644)
    DBMBackend({"filename": path})


def test_what_belongs_to_another_user_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = DBMBackend({"filename": path})
    backend.set_serialized("k", b"v")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    refused = pytest.raises(ValidationError, match=r"belongs to another user.*of your own")
    with refused:
        DBMBackend({"filename": path})
    for operation in OPERATIONS:
        with refused:
            operation(backend)


def test_links_are_followed_to_what_may_be_read(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.symlink_to(target)
    DBMBackend({"filename": path})  # there is nothing yet
    target.touch()
    target.chmod(0o622)
    with pytest.raises(ValidationError, match="can be written by others"):
        DBMBackend({"filename": path})


def test_a_link_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.with_name("mine").touch(mode=0o600)
    path.symlink_to("mine")
    mine = os.lstat

    def theirs(name: Any) -> os.stat_result:
        found: list[Any] = list(mine(name))
        found[stat.ST_UID] += stat.S_ISLNK(found[stat.ST_MODE])
        return os.stat_result(found)

    monkeypatch.setattr(os, "lstat", theirs)
    with pytest.raises(ValidationError, match="belongs to another user"):
        DBMBackend({"filename": path})


def test_a_folder_of_a_similar_name_is_none_of_its_files(path: Path) -> None:
    path.with_name(path.name + ".db").mkdir(mode=0o777)
    DBMBackend({"filename": path})


# -- Locks -----------------------------------------------------------------------------


def test_each_key_has_a_mutex_of_its_own(path: Path) -> None:
    backend = DBMBackend({"filename": path})
    one, other = mutex(backend, "k"), mutex(backend, "l")
    assert isinstance(one, CacheMutex)
    assert one.acquire(False)
    assert together(lambda _: other.acquire(False), 1) == [True]
    again = DBMBackend({"filename": path, "lock_factory": FileLock})
    assert not mutex(again, "k").acquire(False)
    assert not backend.has_lock_timeout()


def test_without_a_file_for_mutexes_they_are_the_regions(path: Path) -> None:
    assert DBMBackend({"filename": path, "dogpile_lockfile": False}).get_mutex("k") is None


def test_a_lock_of_the_users_is_one_for_all_keys(path: Path) -> None:
    made: list[OfThreads] = []

    def factory(filename: str) -> OfThreads:
        made.append(OfThreads(filename))
        return made[-1]

    backend = DBMBackend(
        {"filename": path, "lock_factory": factory, "rw_lockfile": str(path) + "x"}
    )
    assert [lock.filename for lock in made] == [f"{path}x", f"{path}.dogpile.lock"]
    one = mutex(backend, "k")
    assert isinstance(one, KeyReentrantMutex)
    assert one.acquire()
    assert mutex(backend, "l").acquire(False)
    assert together(lambda _: mutex(backend, "m").acquire(False), 1) == [False]
    backend.set_serialized("k", b"v")
    assert backend.get_serialized("k") == b"v"
    assert files(path) & {f"{path.name}x", f"{path.name}.dogpile.lock"} == set()


def test_without_a_lock_file_threads_are_still_kept_apart(path: Path) -> None:
    dumb = importlib.import_module("dbm.dumb")
    dumb.open(str(path), "c", 0o600).close()
    backend = DBMBackend({"filename": path, "rw_lockfile": False})

    def work(number: int) -> None:
        for turn in range(15):
            backend.set_serialized(f"{number} {turn}", f"{number} {turn}".encode() * 50)

    assert together(work, 4) == [None] * 4
    keys = [f"{number} {turn}" for number in range(4) for turn in range(15)]
    assert backend.get_serialized_multi(keys) == [key.encode() * 50 for key in keys]
    assert not [name for name in files(path) if name.endswith(".lock")]


@pytest.fixture(params=["one object", "two objects"])
def locks(path: Path, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    one = FileLock(str(path))
    return one, one if request.param == "one object" else FileLock(str(path))


def test_readers_together_or_one_writer(locks: tuple[Any, Any]) -> None:
    one, other = locks
    assert not one.is_open
    assert one.acquire_read_lock()
    assert other.acquire_read_lock(False)
    assert one.is_open
    assert not one.acquire_write_lock(False)
    one.release_read_lock()
    assert not one.acquire_write_lock(False)
    assert not other.acquire(False)
    other.release_read_lock()
    assert not one.is_open
    assert one.acquire(False)
    assert one.is_open
    assert not other.acquire_write_lock(False)
    assert not other.acquire_read_lock(False)
    one.release()
    with other.read(), one.read():
        assert not other.acquire(False)
    with one.write():
        assert not other.acquire_read_lock(False)


def test_another_thread_may_give_it_back(locks: tuple[Any, Any]) -> None:
    one, other = locks
    assert one.acquire()
    together(lambda _: one.release(), 1)
    assert other.acquire(False)


def test_a_writer_waits_for_readers(locks: tuple[Any, Any]) -> None:
    one, other = locks
    order: list[str] = []
    begun = threading.Event()

    def write() -> None:
        begun.set()
        with other.write():
            order.append("write")

    one.acquire_read_lock()
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert begun.wait(20)
    order.append("read")
    one.release_read_lock()
    writer.join(20)
    assert order == ["read", "write"]


@pytest.mark.parametrize("release", ["release_read_lock", "release_write_lock", "release"])
def test_releasing_what_nobody_has_is_an_error(path: Path, release: str) -> None:
    with pytest.raises(RuntimeError, match="nobody"):
        getattr(FileLock(str(path)), release)()


def test_a_block_always_gives_it_back(path: Path) -> None:
    lock = FileLock(str(path))
    for context in (lock.read, lock.write):
        with pytest.raises(KeyboardInterrupt), context():
            raise KeyboardInterrupt
        assert not lock.is_open
    assert FileLock(str(path)).acquire(False)


def test_a_child_does_not_hold_what_its_parent_does(path: Path) -> None:
    lock = FileLock(str(path))
    with lock.read():
        readers = lock._readers
        lock.after_fork()
        assert not lock.is_open
        lock._readers = readers


def test_a_lock_of_the_users_says_what_it_lacks() -> None:
    class Empty(AbstractFileLock):
        def __init__(self) -> None:
            pass

    calls: list[Callable[[Empty], Any]] = [
        lambda lock: lock.acquire(),
        lambda lock: lock.release(),
        lambda lock: lock.acquire_read_lock(True),
        lambda lock: lock.release_read_lock(),
        lambda lock: lock.is_open,
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="Empty must define"):
            call(Empty())
    with pytest.raises(NotImplementedError, match="AbstractFileLock must define __init__"):
        AbstractFileLock("name")


def test_it_is_the_lock_that_dogpile_cache_uses(path: Path) -> None:
    their: Any = pytest.importorskip("dogpile.cache.backends.file")
    theirs = their.FileLock(str(path))
    ours = FileLock(str(path))
    with theirs.read():
        assert ours.acquire_read_lock(False)
        assert not ours.acquire_write_lock(False)
        ours.release_read_lock()
    with ours.write():
        assert not theirs.acquire_read_lock(False)


def test_locks_of_dogpile_cache_can_be_used(path: Path) -> None:
    their: Any = pytest.importorskip("dogpile.cache.backends.file")
    backend = DBMBackend({"filename": path, "lock_factory": their.FileLock})
    backend.set_serialized("k", b"v")
    assert backend.get_serialized("k") == b"v"
    with mutex(backend, "k"), mutex(backend, "l"):
        assert together(lambda _: mutex(backend, "m").acquire(False), 1) == [False]
    assert mutex(backend, "m").acquire(False)


def test_a_file_of_dogpile_caches_is_read(path: Path) -> None:
    their: Any = pytest.importorskip("dogpile.cache.backends.file")
    theirs = their.DBMBackend({"filename": str(path)})
    theirs.set_serialized("k", b"v")
    for file in path.parent.iterdir():
        file.chmod(0o644)
    ours = DBMBackend({"filename": path})
    assert ours.get_serialized("k") == b"v"
    ours.set_serialized("l", b"w")
    assert theirs.get_serialized("l") == b"w"


def test_a_mutex_of_a_key_ends_with_its_object(path: Path) -> None:
    backend = DBMBackend({"filename": path})
    assert isinstance(mutex(backend, "k"), FileMutex)
    assert mutex(backend, "k").acquire()
    assert mutex(backend, "k").acquire(False)
