"""The file backend in several processes: forked, spawned, killed."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Held
from tests.integration.test_fork import in_child
from tiered.region.api import NO_VALUE
from tiered.region.backends.file import DBMBackend, FileLock
from tiered.region.region import CacheRegion

# Python 3.12 and later warn of what is done here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class OfAUser(FileLock):
    """So that there is one lock for all keys."""


@pytest.fixture(params=["a lock for each key", "one lock"])
def arguments(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    more = {} if request.param == "a lock for each key" else {"lock_factory": OfAUser}
    return {"filename": str(tmp_path / "cache"), **more}


def region_of(arguments: dict[str, Any]) -> CacheRegion:
    return CacheRegion().configure("dbm", arguments=arguments)


def test_a_child_waits_for_what_its_parent_makes(arguments: dict[str, Any]) -> None:
    region, held = region_of(arguments), Held()
    maker = threading.Thread(target=region.get_or_create, args=("k", held))
    maker.start()
    assert held.started.wait(10)

    def child() -> None:
        assert region.key_is_locked("k")
        assert region.get("k") is NO_VALUE
        # Not its own: it gives nothing back that is the parent's.
        mutex: Any = region.backend.get_mutex("k")
        assert not mutex.release()
        assert not mutex.acquire(False)
        region.set("another", "value")

    in_child(child)
    assert region.key_is_locked("k")
    held.go.set()
    maker.join(10)
    in_child(lambda: _equal(region.get_or_create("k", _never), "done"))
    assert region.get("another") == "value"


def test_a_child_does_not_hold_what_its_parent_does(arguments: dict[str, Any]) -> None:
    backend = DBMBackend(arguments)
    mutex: Any = backend.get_mutex("k")
    lock: Any = backend._lock
    assert mutex.acquire()
    lock.acquire_read_lock(True)

    def child() -> None:
        assert not mutex.release()
        assert not lock.is_open
        assert not mutex.acquire(False)
        other: Any = backend.get_mutex("other")
        assert other.acquire(False) == ("lock_factory" not in arguments)

    in_child(child)
    assert lock.is_open
    lock.release_read_lock()
    assert mutex.locked()
    assert mutex.release()


def test_a_fork_in_the_middle_of_an_operation(arguments: dict[str, Any]) -> None:
    backend = DBMBackend(arguments)
    backend.set_serialized("k", b"v")
    lock = backend._lock
    lock.acquire_read_lock(True)
    in_child(lambda: _equal(backend.get_serialized("k"), b"v"))
    in_child(lambda: _equal(lock.acquire_write_lock(False), False))
    lock.release_read_lock()
    in_child(lambda: backend.set_serialized("k", b"w"))
    assert backend.get_serialized("k") == b"w"


def _equal(found: object, wanted: object) -> None:
    assert found == wanted


def _never() -> Any:
    raise AssertionError("it is there")


def _create(arguments: dict[str, Any], start: Any, made: Any) -> None:
    region = region_of(arguments)

    def create(*keys: str) -> list[str]:
        for key in keys:
            made.put(key)
        return [f"value of {key}" for key in keys]

    start.wait()
    for turn in range(10):
        assert region.get_or_create(f"k{turn}", lambda turn=turn: create(f"k{turn}")[0])
        names = [f"m{turn} {n}" for n in range(3)]
        found = region.get_or_create_multi(names, create)
        assert found == [f"value of {name}" for name in names]


def test_processes_make_each_value_once(arguments: dict[str, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    start, made = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_create, args=(arguments, start, made)) for _ in range(3)]
    for process in processes:
        process.start()
    names = [made.get(timeout=60) for _ in range(40)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert made.empty()
    assert sorted(names) == sorted(
        [f"k{turn}" for turn in range(10)] + [f"m{t} {n}" for t in range(10) for n in range(3)]
    )


def _hang(arguments: dict[str, Any], told: Any) -> None:
    def create() -> None:
        told.send("creating")
        told.recv()  # for ever

    region_of(arguments).get_or_create("k", create)


def test_who_is_killed_while_he_makes_a_value_is_replaced(arguments: dict[str, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    maker = context.Process(target=_hang, args=(arguments, theirs), daemon=True)
    maker.start()
    try:
        assert ours.poll(60)
        region = region_of(arguments)
        assert region.key_is_locked("k")
        waiter = threading.Thread(target=region.get_or_create, args=("k", lambda: "made"))
        waiter.start()
        maker.kill()
        waiter.join(30)
        assert not waiter.is_alive()
        assert region.get("k") == "made"
    finally:
        maker.kill()
        maker.join(20)
