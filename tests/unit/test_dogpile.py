"""The dogpile lock, its older form, registries and read-write mutexes."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import inproc, together
from tiered.dogpile import (
    Dogpile,
    FileMutex,
    Lock,
    MemcachedMutex,
    NameRegistry,
    NeedRegenerationException,
    ReadWriteMutex,
    SyncReaderDogpile,
    ThreadMutex,
)
from tiered.testing import ManualClock

NONSENSE: Any = object()


class Resource:
    """A value and when it was made, as a cache holds it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.held: tuple[Any, float] | None = None
        self.made = 0
        self.reads = 0
        self.error: BaseException | None = None

    def create(self) -> tuple[Any, float]:
        self.made += 1
        if self.error is not None:
            raise self.error
        self.held = (f"value {self.made}", self.clock.wall())
        return self.held

    def read(self) -> tuple[Any, float]:
        self.reads += 1
        if self.held is None:
            raise NeedRegenerationException
        return self.held


@pytest.fixture
def resource(clock: ManualClock) -> Resource:
    return Resource(clock)


def lock(resource: Resource, mutex: Any = None, expiretime: float | None = 10, **more: Any) -> Any:
    return Lock(
        mutex or ThreadMutex(),
        resource.create,
        resource.read,
        expiretime,
        clock=resource.clock,
        **more,
    )


def test_the_value_is_created_when_it_is_missing_or_expired(
    resource: Resource, clock: ManualClock
) -> None:
    dogpile = lock(resource)
    with dogpile as value:
        assert value == "value 1"
    clock.advance(10)
    with dogpile as value:
        assert value == "value 1"
    clock.advance(0.1)
    with dogpile as value:
        assert value == "value 2"
    resource.held = None  # it may disappear at any time
    with dogpile as value:
        assert value == "value 3"
    resource.held = ("nothing yet", 0.0)
    with dogpile as value:
        assert value == "value 4"
    resource.held = ("nothing yet", 0.0)
    with lock(resource, expiretime=None) as value:
        assert value == "value 5"


def test_it_may_never_expire(resource: Resource, clock: ManualClock) -> None:
    dogpile = lock(resource, expiretime=None)
    with dogpile:
        clock.advance(1e9)
    with dogpile as value:
        assert value == "value 1"


def test_a_plain_lock_will_do(resource: Resource) -> None:
    mutex = threading.Lock()
    with lock(resource, mutex) as value:
        assert value == "value 1"
        assert not mutex.locked()


def test_first_callers_wait_for_the_one_creator(resource: Resource) -> None:
    mutex = ThreadMutex()
    create = resource.create
    waiting: list[int] = []

    class Counted:
        """Knows who is about to wait."""

        def acquire(self, wait: bool) -> bool:
            waiting.append(1)
            return mutex.acquire(wait)

        def release(self) -> None:
            mutex.release()

    def slow() -> tuple[Any, float]:
        while len(waiting) < 16:
            pass
        return create()

    resource.create = slow  # type: ignore[method-assign]
    dogpile = lock(resource, Counted())

    def enter(_: int) -> Any:
        with dogpile as value:
            return value

    assert together(enter, 16) == ["value 1"] * 16
    assert resource.made == 1


def test_later_callers_get_the_old_value_at_once(resource: Resource, clock: ManualClock) -> None:
    dogpile = lock(resource)
    create = resource.create
    with dogpile:
        clock.advance(11)
    seen: list[Any] = []

    def slow() -> tuple[Any, float]:
        seen.extend(together(lambda _: enter(), 8))
        return create()

    def enter() -> Any:
        with dogpile as value:
            return value

    dogpile.creator = slow
    assert enter() == "value 2"
    assert seen == ["value 1"] * 8


@pytest.mark.parametrize("expired", [True, False])
def test_what_another_has_just_made_is_used(
    resource: Resource, clock: ManualClock, expired: bool
) -> None:
    inner = ThreadMutex()
    if expired:
        resource.create()
        clock.advance(11)

    class Late:
        """By the time it is taken, somebody has made a value and gone."""

        def acquire(self, wait: bool) -> bool:
            resource.create()
            return inner.acquire(wait)

        def release(self) -> bool:
            return inner.release()

    with lock(resource, Late()) as value:
        assert value == f"value {resource.made}"
    assert resource.made == (2 if expired else 1)
    assert not inner.locked()


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit()])
@pytest.mark.parametrize("expired", [True, False])
def test_a_creators_exception_reaches_its_caller_and_frees_the_mutex(
    resource: Resource, clock: ManualClock, error: BaseException, expired: bool
) -> None:
    mutex = ThreadMutex()
    if expired:
        resource.create()
        clock.advance(11)
    resource.error = error
    with pytest.raises(type(error)), lock(resource, mutex):
        raise AssertionError("unreachable")
    assert not mutex.locked()
    resource.error = None
    with lock(resource, mutex) as value:
        assert value == f"value {resource.made}"


def test_an_error_of_the_reader_frees_the_mutex(resource: Resource) -> None:
    mutex = ThreadMutex()
    reads: list[int] = []

    def read() -> Any:
        reads.append(1)
        if len(reads) == 2:
            raise OSError("down")
        raise NeedRegenerationException

    with pytest.raises(OSError, match="down"), Lock(mutex, resource.create, read, 10):
        pass
    assert not mutex.locked()


def test_an_error_in_the_block_is_the_callers(resource: Resource) -> None:
    mutex = ThreadMutex()
    with pytest.raises(ValueError, match="in the block"), lock(resource, mutex):
        raise ValueError("in the block")
    assert not mutex.locked()


def test_a_mutex_that_gives_up_leaves_each_to_himself(resource: Resource) -> None:
    class Never:
        def acquire(self, wait: bool) -> bool:
            return False

        def release(self) -> None:
            raise AssertionError("it was not taken")

    with lock(resource, Never()) as value:
        assert value == "value 1"


class Overtaken:
    """While we ask for it, somebody has stored a value that is old already."""

    def __init__(self, resource: Resource, mutex: ThreadMutex, given: bool) -> None:
        self.resource, self.mutex, self.given = resource, mutex, given

    def acquire(self, wait: bool) -> bool:
        self.resource.held = ("old", self.resource.clock.wall() - 100)
        return self.given and self.mutex.acquire(wait)

    def release(self) -> bool:
        return self.mutex.release()


def test_an_old_value_that_came_while_we_waited_is_handed_on(resource: Resource) -> None:
    mutex = ThreadMutex()
    handed: list[Any] = []
    overtaken = Overtaken(resource, mutex, given=True)
    with lock(resource, overtaken, async_creator=handed.append) as value:
        assert value == "old"
    assert handed == [overtaken]
    assert mutex.locked()  # it is for the other one to release
    assert resource.made == 0
    mutex.release()
    with lock(resource, overtaken) as value:
        assert value == "value 1"


def test_without_the_mutex_an_old_value_will_do(resource: Resource) -> None:
    with lock(resource, Overtaken(resource, ThreadMutex(), given=False)) as value:
        assert value == "old"
    assert resource.made == 0


def test_another_may_create_later_and_release_then(resource: Resource, clock: ManualClock) -> None:
    mutex = ThreadMutex()
    handed: list[Any] = []
    dogpile = lock(resource, mutex, async_creator=handed.append)
    with dogpile as value:
        assert value == "value 1"  # nothing to use meanwhile: created here
    clock.advance(11)
    with dogpile as value:
        assert value == "value 1"
    assert handed == [mutex]
    assert mutex.locked()
    with dogpile as value:
        assert value == "value 1"
    resource.create()
    assert mutex.release()
    with dogpile as value:
        assert value == "value 2"
    clock.advance(11)
    dogpile.async_creator = lambda mutex: 1 // 0
    with pytest.raises(ZeroDivisionError), dogpile:
        pass
    assert not mutex.locked()
    resource.held = None
    with dogpile as value:
        assert value == "value 3"


# -- Dogpile ---------------------------------------------------------------------------


def test_a_dogpile_remembers_when_it_was_made(clock: ManualClock) -> None:
    made: list[int] = []
    dogpile = Dogpile(10, clock=clock)
    assert (dogpile.has_value, dogpile.is_expired) == (False, True)
    with dogpile.acquire(lambda: made.append(1)):
        assert made == [1]
    assert (dogpile.has_value, dogpile.is_expired) == (True, False)
    assert dogpile.createdtime == clock.wall()
    with dogpile.acquire(lambda: made.append(2)):
        assert made == [1]
    clock.advance(11)
    assert dogpile.is_expired
    with dogpile.acquire(lambda: made.append(3)):
        assert made == [1, 3]
    there = Dogpile(None, init=True, clock=clock)
    clock.advance(1e9)
    assert not there.is_expired
    with there.acquire(lambda: made.append(4)):
        assert made == [1, 3]


def test_a_dogpile_yields_the_value(clock: ManualClock) -> None:
    cache: dict[str, Any] = {}

    def create() -> str:
        cache["k"] = f"value {len(made)}"
        made.append(1)
        return str(cache["k"])

    def read() -> Any:
        if "k" not in cache:
            raise NeedRegenerationException
        return cache["k"]

    made: list[int] = []
    dogpile = Dogpile(10, lock=threading.Lock(), clock=clock)
    for _ in range(2):
        with dogpile.acquire(create, read) as value:
            assert value == "value 0"
    cache.clear()
    with dogpile.acquire(create, read) as value:
        assert value == "value 1"


def test_a_dogpile_may_keep_its_time_with_others(resource: Resource, clock: ManualClock) -> None:
    one, other = Dogpile(10, clock=clock), Dogpile(10, clock=clock)

    def enter(dogpile: Dogpile) -> Any:
        with dogpile.acquire(resource.create, value_and_created_fn=resource.read) as value:
            return value

    assert enter(one) == enter(other) == "value 1"
    clock.advance(11)
    assert enter(other) == enter(one) == "value 2"
    assert one.createdtime == other.createdtime == clock.wall()


def test_an_old_value_is_not_taken_for_the_new_one(clock: ManualClock) -> None:
    dogpile = Dogpile(10, init=True, clock=clock)
    clock.advance(11)
    values = ["old"]

    def read() -> str:
        value = values[-1]
        if len(values) == 1:  # another thread makes the new one just now
            values.append("new")
            dogpile.createdtime = clock.wall()
        return value

    with dogpile.acquire(lambda: "newer", read) as value:
        assert value == "new"


def test_blocks_may_be_nested_while_a_creator_waits_for_them(clock: ManualClock) -> None:
    dogpile = SyncReaderDogpile(None, init=True, clock=clock)
    order: list[str] = []

    def write() -> None:
        with dogpile.acquire_write_lock():
            order.append("write")

    def read() -> None:
        with dogpile.acquire(lambda: None):
            writer.start()
            while not dogpile._users._writers_waiting:
                pass
            with dogpile.acquire(lambda: None):
                order.append("read")

    writer = threading.Thread(target=write, daemon=True)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(20)
    writer.join(20)
    assert order == ["read", "write"]


def test_a_block_that_would_wait_for_itself_is_refused(clock: ManualClock) -> None:
    dogpile = SyncReaderDogpile(10, clock=clock)

    def create() -> None:
        with dogpile.acquire_write_lock():
            pass

    refused = pytest.raises(RuntimeError, match="cannot become a writer")
    with dogpile.acquire(create):
        clock.advance(11)
        with refused, dogpile.acquire(create):
            pass
        assert dogpile.is_expired
    with dogpile.acquire(create):  # the refusal has left nothing behind
        assert not dogpile.is_expired


def test_a_synchronised_creator_waits_for_readers(clock: ManualClock) -> None:
    dogpile = SyncReaderDogpile(10, clock=clock)
    resource: list[Any] = [None]
    reading, changing, done = threading.Event(), threading.Event(), threading.Event()

    def create() -> None:
        changing.set()
        with dogpile.acquire_write_lock():
            resource[0] = object()

    with dogpile.acquire(create):
        first = resource[0]
        assert first is not None
    clock.advance(11)

    def renew() -> None:
        reading.wait(20)
        with dogpile.acquire(create):
            done.set()

    thread = threading.Thread(target=renew)
    thread.start()
    dogpile.createdtime = clock.wall()
    with dogpile.acquire(create):
        clock.advance(11)
        reading.set()
        assert changing.wait(20)
        assert resource[0] is first  # it is not pulled away from under us
        assert not done.is_set()
    thread.join(20)
    assert done.is_set()
    assert resource[0] is not first


def test_a_block_that_fails_reads_no_more(clock: ManualClock) -> None:
    dogpile = SyncReaderDogpile(10, clock=clock)
    with pytest.raises(ValueError, match="mine"), dogpile.acquire(lambda: None):
        raise ValueError("mine")
    with dogpile.acquire_write_lock():  # refused to a reader
        pass


# -- Registry --------------------------------------------------------------------------


class Named:
    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        self.more = (args, kwargs)


def test_one_object_for_a_name_while_anybody_has_it() -> None:
    registry = NameRegistry(Named)
    one = registry.get("a", 1, x=2)
    assert one.more == ((1,), {"x": 2})
    assert registry.get("a", 3) is one
    assert registry.get("b") is not one
    identity = id(one)
    del one
    gc.collect()
    again = registry.get("a", 4)
    assert again.more == ((4,), {})
    assert identity != id(again) or again.more[0] == (4,)


def test_threads_get_the_same_object() -> None:
    made: list[str] = []
    asking: list[int] = []

    def create(name: str) -> Named:
        made.append(name)
        while len(asking) < 16:
            pass
        return Named(name)

    def ask(number: int) -> Named:
        asking.append(number)
        return registry.get("a")

    registry = NameRegistry(create)
    objects = together(ask, 16)
    assert len(set(map(id, objects))) == 1
    assert made == ["a"]


def test_a_creator_may_ask_the_registry() -> None:
    def create(name: str) -> Named:
        named = Named(name)
        if name == "outer":
            named.more = ((registry.get("inner"),), {})
        elif name == "self":
            depth.append(1)
            if len(depth) < 2:
                inner.append(registry.get("self"))
        return named

    depth: list[int] = []
    inner: list[Named] = []
    registry: NameRegistry[Named] = NameRegistry(create)
    assert registry.get("outer").more[0][0].name == "inner"
    assert registry.get("self") is inner[0]
    assert registry.get("self") is inner[0]


# -- Read-write mutex ------------------------------------------------------------------


def test_readers_together_or_one_writer() -> None:
    mutex = ReadWriteMutex()
    assert mutex.acquire_read_lock()
    assert mutex.acquire_read_lock(False)
    assert not mutex.acquire_write_lock(False)
    mutex.release_read_lock()
    assert not mutex.acquire_write_lock(False)
    mutex.release_read_lock()
    assert mutex.acquire_write_lock(False)
    assert not mutex.acquire_write_lock(False)
    assert not mutex.acquire_read_lock(False)
    mutex.release_write_lock()
    assert mutex.acquire_read_lock(False)


def test_a_waiting_writer_comes_before_new_readers() -> None:
    mutex = ReadWriteMutex()
    mutex.acquire_read_lock()
    order: list[str] = []

    def write() -> None:
        mutex.acquire_write_lock()
        order.append("write")
        mutex.release_write_lock()

    def read() -> None:
        mutex.acquire_read_lock()
        order.append("read")
        mutex.release_read_lock()

    writer = threading.Thread(target=write)
    writer.start()
    while not mutex._writers_waiting:
        pass
    assert not mutex.acquire_read_lock(False)
    reader = threading.Thread(target=read)
    reader.start()
    mutex.release_read_lock()
    writer.join(20)
    reader.join(20)
    assert order == ["write", "read"]


@pytest.mark.parametrize("kind", ["read", "write"])
def test_the_end_of_writing_wakes_who_waits(kind: str) -> None:
    mutex = ReadWriteMutex()
    mutex.acquire_write_lock()
    waiter = threading.Thread(target=getattr(mutex, f"acquire_{kind}_lock"), daemon=True)
    waiter.start()
    while not mutex._changed._waiters:  # type: ignore[attr-defined]
        pass
    mutex.release_write_lock()
    waiter.join(20)
    assert not waiter.is_alive()


@pytest.mark.parametrize("release", ["release_read_lock", "release_write_lock"])
def test_releasing_what_nobody_has_is_an_error(release: str) -> None:
    with pytest.raises(RuntimeError, match=release):
        getattr(ReadWriteMutex(), release)()


# -- Mutexes ---------------------------------------------------------------------------


def test_a_lost_mutex_is_not_released_by_who_had_it(clock: ManualClock) -> None:
    client = inproc(clock)
    late, successor = MemcachedMutex(client, "k", ttl=5), MemcachedMutex(client, "k", ttl=5)
    assert late.acquire()
    clock.advance(4)
    assert not successor.acquire(False)
    clock.advance(2)
    assert successor.acquire(False)
    assert not late.release()
    assert late.locked()
    assert successor.release()


def test_a_late_holder_harms_nobody_who_came_after_through_the_same_object(
    clock: ManualClock,
) -> None:
    mutex = MemcachedMutex(inproc(clock), "k", ttl=5)
    assert mutex.acquire()
    clock.advance(6)
    other = threading.Thread(target=mutex.acquire)
    other.start()
    other.join(20)
    assert not mutex.release()
    assert mutex.locked()


def hold(mutex: MemcachedMutex, done: threading.Event) -> threading.Thread:
    """A thread that takes *mutex*, and lives until *done*."""
    held = threading.Event()

    def run() -> None:
        mutex.acquire()
        held.set()
        done.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(20)
    return thread


@pytest.mark.parametrize(("late", "lives"), [(6, True), (6, False), (60, True)])
def test_a_late_release_does_not_free_a_successor_of_the_same_object(
    clock: ManualClock, late: float, lives: bool
) -> None:
    mutex = MemcachedMutex(inproc(clock), "k", ttl=5)
    first_done, done = threading.Event(), threading.Event()
    first = hold(mutex, first_done)
    if not lives:
        first_done.set()
        first.join(20)
    clock.advance(late)
    second = hold(mutex, done)
    try:
        assert not mutex.release()  # we were handed what the first one took
        assert mutex.locked()
        assert mutex.release()  # and what the second one took
        assert not mutex.locked()
        assert not mutex.release()
    finally:
        first_done.set()
        done.set()
        first.join(20)
        second.join(20)


def test_a_thread_releases_what_it_took_itself(clock: ManualClock) -> None:
    mutex = MemcachedMutex(inproc(clock), "k", ttl=5)
    done = threading.Event()
    late = hold(mutex, done)
    clock.advance(6)
    try:
        assert mutex.acquire(False)
        assert mutex.release()
        assert not mutex.locked()
    finally:
        done.set()
        late.join(20)


def test_a_hold_that_is_never_released_is_forgotten(clock: ManualClock) -> None:
    mutex = MemcachedMutex(inproc(clock), "k", ttl=5)
    for _ in range(10):
        assert mutex.acquire(False)
        clock.advance(11)
    together(lambda _: mutex.acquire(False), 1)  # by a thread that ends
    clock.advance(11)
    assert mutex.acquire(False)
    assert len(mutex._holds) == 1
    assert mutex.release()
    assert not mutex.release()


def test_asking_whether_it_is_held_blocks_nobody_for_long(clock: ManualClock) -> None:
    client = inproc(clock)
    lives: list[float] = []
    claim = client.claim

    def recording(key: Any, ttl: float = 10.0) -> Any:
        lives.append(ttl)
        return claim(key, ttl)

    client.claim = recording  # type: ignore[method-assign]
    assert not MemcachedMutex(client, "k", ttl=3600).locked()
    assert not MemcachedMutex(client, "k", ttl=0.5).locked()
    assert lives == [1.0, 0.5]


def test_waiting_ends_with_the_holders_time(clock: ManualClock) -> None:
    client = inproc(clock)
    assert MemcachedMutex(client, "k", ttl=5).acquire()
    before = clock.monotonic()
    assert MemcachedMutex(client, "k", ttl=5).acquire()
    assert 5 <= clock.monotonic() - before < 5.1


def test_a_mutex_is_not_in_the_way_of_values(clock: ManualClock) -> None:
    client = inproc(clock)
    mutex = MemcachedMutex(client, "k")
    client.put("k", 1, 60)
    with mutex:
        assert client.get("k") == 1
        client.delete("k")
        assert mutex.locked()
        claim = client.claim("k")
        assert claim is not None
        claim.release()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda c: MemcachedMutex(NONSENSE, "k"), TypeError, "client must be a CacheClient"),
        (lambda c: MemcachedMutex(c, "k", ttl=0), ValueError, "ttl must be a finite number"),
        (lambda c: MemcachedMutex(c, "k", ttl=-1), ValueError, "ttl must be a finite number"),
        (lambda c: MemcachedMutex(c, "k", ttl=float("inf")), ValueError, "ttl must be a finite"),
        (lambda c: MemcachedMutex(c, "k", ttl=NONSENSE), TypeError, "ttl must be a finite number"),
        (lambda c: FileMutex(NONSENSE), TypeError, "PathLike"),
    ],
)
def test_mutexes_refuse_what_cannot_be_right(
    clock: ManualClock, make: Callable[[Any], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make(inproc(clock))


def test_a_file_is_opened_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "there" / "lock"
    mutex = FileMutex(path)
    with pytest.raises(FileNotFoundError):
        mutex.acquire()
    path.parent.mkdir()
    assert mutex.acquire(False)
    assert path.exists()
    assert mutex.release()
    assert path.exists()


def test_a_file_that_is_removed_divides_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = FileMutex(path)
    assert first.acquire()
    third = FileMutex(path)
    waiter = threading.Thread(target=third.acquire)
    waiter.start()
    while not third._file._open:
        pass
    path.unlink()  # some cleaner of old files
    second = FileMutex(path)
    assert second.acquire(False)  # another file, and another lock
    assert first.release()
    assert second.release()
    waiter.join(20)
    assert not FileMutex(path).acquire(False)  # the waiter holds the file that is there now
    assert third.release()


def test_a_copy_of_the_open_file_does_not_keep_it_locked(tmp_path: Path) -> None:
    mutex = FileMutex(tmp_path / "lock")
    assert mutex.acquire()
    assert mutex._file._locked is not None
    copy = os.dup(mutex._file._locked)  # as a child has that was forked at the wrong moment
    try:
        assert mutex.release()
        assert FileMutex(tmp_path / "lock").acquire(False)
    finally:
        os.close(copy)


def test_a_dropped_mutex_frees_its_file(tmp_path: Path) -> None:
    mutex = FileMutex(tmp_path / "lock")
    assert mutex.acquire()
    del mutex
    gc.collect()
    assert FileMutex(tmp_path / "lock").acquire(False)
