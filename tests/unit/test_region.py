"""get_or_create: once, whoever asks; what failures and old values come to; changes meanwhile."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from tests.regions import (
    PATIENCE,
    DictBackend,
    FailingBackend,
    HeldUp,
    MutexBackend,
    cached,
    entered,
    gathered,
    in_threads,
)
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.region import (
    NO_VALUE,
    CacheRegion,
    DefaultInvalidationStrategy,
    DogpileCacheException,
    ProxyBackend,
    RegionAlreadyConfigured,
    RegionNotConfigured,
    ValidationError,
    make_region,
)
from tiered.testing import ManualClock

KINDS = ("memory", "memory_pickle", "inproc", "tiers", "dict", "mutex")


def backend_of(kind: str, clock: ManualClock) -> Any:
    makers: dict[str, Callable[[], Any]] = {
        "inproc": lambda: InprocCacheClient(100, clock=clock),
        "tiers": lambda: [InprocCacheClient(size, clock=clock) for size in (10, 100)],
        "dict": lambda: DictBackend({}),
        "mutex": lambda: MutexBackend({}),
    }
    return makers[kind]() if kind in makers else kind


@pytest.fixture(params=KINDS)
def region(request: pytest.FixtureRequest, clock: ManualClock) -> CacheRegion:
    return make_region(clock=clock).configure(backend_of(request.param, clock), 10)


@pytest.fixture
def memory(clock: ManualClock) -> CacheRegion:
    return make_region(clock=clock).configure("memory", 10)


def failing() -> Any:
    raise OSError("the source is down")


# -- Once ------------------------------------------------------------------------


def test_threads_on_a_cold_key_create_once(region: CacheRegion) -> None:
    creator = HeldUp()
    join = in_threads(*[lambda: region.get_or_create("k", creator)] * 8)
    assert creator.began.wait(PATIENCE)
    creator.go.set()
    assert join() == ["made"] * 8
    assert creator.calls == 1


def test_waiters_share_the_exception_of_the_creator(region: CacheRegion) -> None:
    creator = HeldUp(error=OSError("down"))
    all_in = entered(region, 8)
    join = in_threads(*[lambda: region.get_or_create("k", creator)] * 8)
    assert all_in.wait(PATIENCE)
    creator.go.set()
    assert [type(answer) for answer in join()] == [OSError] * 8
    assert creator.calls == 1
    assert not region.key_is_locked("k")
    assert region.get_or_create("k", lambda: "works again") == "works again"


def test_while_one_creates_the_others_get_the_old_value(
    region: CacheRegion, clock: ManualClock
) -> None:
    region.set("k", "old")
    clock.advance(11)
    creator = HeldUp("new")
    join = in_threads(lambda: region.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    assert region.get_or_create("k", failing) == "old"
    assert region.key_is_locked("k")
    creator.go.set()
    assert join() == ["new"]
    assert region.get("k") == "new"
    assert region.stats.stale == 1


def test_a_creator_that_asks_for_its_own_key_calls_through(region: CacheRegion) -> None:
    inner = region.get_or_create

    assert inner("k", lambda: inner("k", lambda: 1) + 1) == 2
    assert inner("k", failing) == 2


def test_two_creators_that_ask_for_each_other_s_key_do_not_deadlock(memory: CacheRegion) -> None:
    met = threading.Barrier(2)

    def creator(other: str) -> Any:
        def create() -> Any:
            met.wait(PATIENCE)
            return memory.get_or_create(other, lambda: "inner")

        return create

    answers = gathered(
        lambda: memory.get_or_create("a", creator("b")),
        lambda: memory.get_or_create("b", creator("a")),
    )
    assert all(answer == "inner" for answer in answers)


def test_key_is_locked_knows_the_mangler(clock: ManualClock) -> None:
    region = make_region(key_mangler=lambda key: f"<{key}>", clock=clock).configure("memory")
    creator = HeldUp()
    join = in_threads(lambda: region.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    assert region.key_is_locked("k")
    assert not region.key_is_locked("other")
    creator.go.set()
    join()
    assert not region.key_is_locked("k")


def test_a_dead_thread_leaves_no_lock(memory: CacheRegion) -> None:
    def die() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.get_or_create("k", die)
    assert not memory.key_is_locked("k")
    assert memory.get_or_create("k", lambda: 1) == 1


def test_the_null_backend_lets_everybody_create(clock: ManualClock) -> None:
    region = make_region(clock=clock).configure("null")
    together = threading.Barrier(2)
    assert gathered(*[lambda: region.get_or_create("k", lambda: together.wait(PATIENCE) >= 0)] * 2)
    assert region.get("k") is NO_VALUE
    assert region.get_or_create_multi(["a", "b"], lambda *keys: list(keys)) == ["a", "b"]


# -- Failures --------------------------------------------------------------------


@pytest.mark.parametrize("where", ["region", "call", "function"])
def test_stale_if_error(region: CacheRegion, clock: ManualClock, where: str) -> None:
    region.set("k", "old")
    clock.advance(11)
    if where == "region":
        region.stale_if_error = True
        assert region.get_or_create("k", failing) == "old"
    elif where == "call":
        assert region.get_or_create("k", failing, stale_if_error=True) == "old"
    else:
        key: Any = lambda namespace, function: lambda: "k"
        decorate = region.cache_on_arguments(function_key_generator=key, stale_if_error=True)
        assert decorate(failing)() == "old"
    assert region.stats.rescued == 1


def test_without_it_the_one_who_creates_gets_the_error(
    region: CacheRegion, clock: ManualClock
) -> None:
    region.set("k", "old")
    clock.advance(11)
    with pytest.raises(OSError, match="the source is down"):
        region.get_or_create("k", failing)
    with pytest.raises(OSError, match="the source is down"):
        region.get_or_create("none", failing, stale_if_error=True)


def test_a_backend_that_fails_is_a_miss(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FailingBackend({})
    region = make_region(clock=clock).configure(backend, 10)
    backend.error = OSError("no connection")
    with caplog.at_level(logging.WARNING, "tiered.region"):
        assert region.get_or_create("k", lambda: 1) == 1
        region.set("k", 2)
        region.delete("k")
        region.delete_multi(["k"])
        assert region.get("k") is NO_VALUE
        assert region.get_multi(["k", "l"]) == [NO_VALUE, NO_VALUE]
        assert region.get_or_create_multi(["k", "l"], lambda *keys: [3, 4]) == [3, 4]
    assert region.stats.errors >= 8
    assert len([line for line in caplog.messages if "no connection" in line]) < 3
    backend.error = None
    assert region.get_or_create("k", lambda: 5) == 5


def test_a_mutex_that_fails_keeps_nobody_from_the_value(clock: ManualClock) -> None:
    class Broken(DictBackend):
        def get_mutex(self, key: str) -> Any:
            class Mutex:
                def acquire(self, wait: bool = True) -> bool:
                    raise OSError("no lock server")

                def release(self) -> None:
                    raise AssertionError("was never taken")

                def locked(self) -> bool:
                    raise OSError("no lock server")

            return Mutex()

    region = make_region(clock=clock).configure(Broken({}))
    assert region.get_or_create("k", lambda: 1) == 1
    assert region.get_or_create("k", failing) == 1
    assert not region.key_is_locked("k")


@pytest.mark.parametrize(
    "foreign",
    [None, "text", b"bytes", 7, (1, 2, 3), ("payload", None), ("payload", {"ct": "x"}), []],
)
def test_a_foreign_value_is_a_miss(clock: ManualClock, foreign: Any) -> None:
    held: dict[str, Any] = {"k": foreign}
    region = make_region(clock=clock).configure("memory", 10, {"cache_dict": held})
    assert region.get("k") is NO_VALUE
    assert region.get_value_metadata("k") is None
    assert region.get_or_create("k", lambda: "new") == "new"
    assert region.get_or_create("k", failing) == "new"


def test_a_value_of_another_version_is_made_anew(clock: ManualClock) -> None:
    held: dict[str, Any] = {"k": cached("old", clock.wall())._replace(metadata={"ct": 1.0, "v": 1})}
    region = make_region(clock=clock).configure("memory", None, {"cache_dict": held})
    assert region.get("k") == "old"  # as dogpile.cache has it
    assert region.get_or_create("k", lambda: "new") == "new"


@pytest.mark.parametrize("data", [b"", b"|", b"{}|x", b'{"ct": 1.0}|x', b"\x80\x05|", b"[1]|2"])
def test_bytes_that_no_region_wrote_are_a_miss(clock: ManualClock, data: bytes) -> None:
    region = make_region(clock=clock).configure("memory_pickle", 10)
    region.actual_backend.set_serialized("k", data)
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: "new") == "new"
    assert region.get("k") == "new"


def test_what_cannot_be_serialised_is_returned_all_the_same(clock: ManualClock) -> None:
    region = make_region(clock=clock).configure("memory_pickle", 10)
    value = region.get_or_create("k", lambda: threading.Lock)
    assert value is threading.Lock or value
    lock = region.get_or_create("lock", threading.Lock)
    assert lock is not None
    assert region.get("lock") is NO_VALUE
    assert region.stats.errors == 1


# -- Changes while a value is made -------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda region: region.delete("k"),
        lambda region: region.delete_multi(["j", "k"]),
        lambda region: region.invalidate(),
        lambda region: region.invalidate(hard=False),
    ],
)
def test_what_was_begun_before_a_change_is_not_kept(
    region: CacheRegion, change: Callable[[CacheRegion], None]
) -> None:
    if isinstance(region.actual_backend, MutexBackend):
        pytest.skip("its mutex is held until the first creator has ended")
    creator = HeldUp("from before")
    join = in_threads(lambda: region.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    change(region)
    # Who asks from now on does not get it either.
    assert region.get_or_create("k", lambda: "from after") == "from after"
    creator.go.set()
    assert join() == ["from before"]
    assert region.get("k") == "from after"


def test_what_was_set_meanwhile_stays(region: CacheRegion) -> None:
    creator = HeldUp("from before")
    join = in_threads(lambda: region.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    region.set("k", "set")
    creator.go.set()
    assert join() == ["from before"]
    assert region.get("k") == "set"


def test_the_creators_of_many_are_overtaken_too(region: CacheRegion) -> None:
    creator = HeldUp(["from before", "also"])
    join = in_threads(lambda: region.get_or_create_multi(["k", "l"], creator))
    assert creator.began.wait(PATIENCE)
    region.delete("k")
    creator.go.set()
    assert join() == [["from before", "also"]]
    assert region.get_multi(["k", "l"]) == [NO_VALUE, "also"]


# -- Invalidation ----------------------------------------------------------------


def test_hard_invalidation(region: CacheRegion) -> None:
    region.set("k", "old")
    region.invalidate()
    assert region.get("k") is NO_VALUE
    assert region.get("k", ignore_expiration=True) == "old"
    assert region.region_invalidator.was_hard_invalidated()
    assert region.get_or_create("k", lambda: "new") == "new"
    assert region.get("k") == "new"


def test_soft_invalidation_serves_the_old_value_while_one_creates(region: CacheRegion) -> None:
    region.set("k", "old")
    region.invalidate(hard=False)
    assert region.get("k") is NO_VALUE
    creator = HeldUp("new")
    join = in_threads(lambda: region.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    assert region.get_or_create("k", failing) == "old"
    creator.go.set()
    assert join() == ["new"]
    assert region.get("k") == "new"


def test_a_soft_invalidation_does_not_undo_a_hard_one(memory: CacheRegion) -> None:
    memory.set("k", "old")
    memory.invalidate()
    memory.invalidate(hard=False)
    memory.set("l", "newer")
    with pytest.raises(OSError, match="the source is down"):
        memory.get_or_create("k", failing, stale_if_error=True)


def test_soft_invalidation_needs_an_expiration_time(clock: ManualClock) -> None:
    region = make_region(clock=clock).configure("memory")
    region.set("k", "old")
    region.invalidate(hard=False)
    for call in (
        lambda: region.get_or_create("k", failing),
        lambda: region.get_or_create("k", failing, -1),
        lambda: region.get_or_create("none", failing),
        lambda: region.get_or_create_multi(["k"], failing),
        lambda: region.get_or_create_multi(["none"], failing),
    ):
        with pytest.raises(DogpileCacheException, match="expiration_time must be given"):
            call()
    assert region.get_or_create("k", lambda: "new", 10) == "new"
    assert not region.key_is_locked("k")


def test_a_clock_set_back_does_not_invalidate_what_is_made_now(
    memory: CacheRegion, clock: ManualClock
) -> None:
    memory.set("k", "old")
    memory.invalidate()
    clock.step_wall(-3600)
    memory.set("k", "new")
    assert memory.get("k") == "new"


# -- Many ------------------------------------------------------------------------


def test_many_are_made_in_one_call_and_in_order(region: CacheRegion) -> None:
    calls: list[tuple[str, ...]] = []

    def creator(*keys: str) -> list[str]:
        calls.append(keys)
        return [key.upper() for key in keys]

    region.set("b", "kept")
    assert region.get_or_create_multi(["c", "b", "a", "c"], creator) == ["C", "kept", "A", "C"]
    assert calls == [("a", "c")]
    assert region.get_or_create_multi([], failing) == []
    assert region.get_multi([]) == []


def test_waiters_for_many_do_not_create_again(region: CacheRegion) -> None:
    creator = HeldUp(["A", "B"])
    all_in = entered(region, 10)
    join = in_threads(*[lambda: region.get_or_create_multi(["a", "b"], creator)] * 5)
    assert all_in.wait(PATIENCE)
    creator.go.set()
    assert join() == [["A", "B"]] * 5
    assert creator.calls == 1


def test_who_wants_one_waits_for_who_makes_many_and_the_other_way_round(
    region: CacheRegion,
) -> None:
    many, one = HeldUp(["A", "B"]), HeldUp("C")
    join = in_threads(
        lambda: region.get_or_create_multi(["a", "b"], many),
        lambda: region.get_or_create("c", one),
    )
    assert many.began.wait(PATIENCE)
    assert one.began.wait(PATIENCE)
    joined = in_threads(
        lambda: region.get_or_create("a", failing),
        lambda: region.get_or_create_multi(["b", "c", "d"], lambda *keys: [keys]),
    )
    many.go.set()
    one.go.set()
    assert join() == [["A", "B"], "C"]
    assert joined() == ["A", ["B", "C", ("d",)]]


def test_keys_in_opposite_orders_do_not_deadlock(region: CacheRegion) -> None:
    together = threading.Barrier(4)

    def ask(keys: list[str]) -> Any:
        together.wait(PATIENCE)
        return region.get_or_create_multi(keys, lambda *missing: [key * 2 for key in missing])

    keys = [str(number) for number in range(20)]
    answers = gathered(*[lambda: ask(keys), lambda: ask(keys[::-1])] * 2)
    assert all(sorted(answer) == sorted(key * 2 for key in keys) for answer in answers)


def test_a_flight_that_another_one_begins_first_is_his(region: CacheRegion) -> None:
    flights = region.core.flights
    enter = flights.enter
    one, joins = HeldUp("one"), []

    def overtaken(key: Any) -> Any:
        entered = enter(key)
        flights.enter = enter  # type: ignore[method-assign]
        joins.append(in_threads(lambda: region.get_or_create("a", one)))
        assert one.began.wait(PATIENCE)
        return entered

    flights.enter = overtaken  # type: ignore[method-assign]
    many = HeldUp(["B"])
    join = in_threads(lambda: region.get_or_create_multi(["a", "b"], many))
    assert many.began.wait(PATIENCE)
    # What was begun before this delete is not kept, whoever has begun it.
    region.delete("a")
    one.go.set()
    many.go.set()
    assert join() == [["one", "B"]]
    assert joins[0]() == ["one"]
    assert region.get_multi(["a", "b"]) == [NO_VALUE, "B"]


def test_an_error_leaves_none_of_the_locks(region: CacheRegion) -> None:
    with pytest.raises(OSError, match="the source is down"):
        region.get_or_create_multi(["a", "b"], lambda *keys: failing())
    assert not region.key_is_locked("a")
    assert not region.key_is_locked("b")
    assert region.get_or_create_multi(["a", "b"], lambda *keys: [1, 2]) == [1, 2]


@pytest.mark.parametrize("wrong", [[1], [1, 2, 3], None])
def test_a_creator_of_many_must_answer_for_each(region: CacheRegion, wrong: Any) -> None:
    with pytest.raises((DogpileCacheException, TypeError)):
        region.get_or_create_multi(["a", "b"], lambda *keys: wrong)
    assert not region.key_is_locked("a")


def test_many_with_old_values(region: CacheRegion, clock: ManualClock) -> None:
    region.set_multi({"a": "old a", "b": "old b"})
    clock.advance(11)
    creator = HeldUp(["A"])
    join = in_threads(lambda: region.get_or_create_multi(["a"], creator))
    assert creator.began.wait(PATIENCE)
    assert region.get_or_create_multi(["a", "b"], lambda *keys: ["B"]) == ["old a", "B"]
    creator.go.set()
    assert join() == [["A"]]
    clock.advance(11)
    made = region.get_or_create_multi(["a", "b"], failing, stale_if_error=True)
    assert made == ["A", "B"]


def test_many_that_ask_for_their_own(region: CacheRegion) -> None:
    def creator(*keys: str) -> list[Any]:
        return [region.get_or_create(key, lambda key=key: key) for key in keys]

    assert region.get_or_create_multi(["a", "b"], creator) == ["a", "b"]


def test_the_creator_of_many_may_raise_anything(region: CacheRegion) -> None:
    def creator(*keys: str) -> Any:
        raise StopIteration(5)

    @region.cache_multi_on_arguments()
    def function(*keys: str) -> Any:
        raise StopIteration(5)

    for call in (lambda: region.get_or_create_multi(["a"], creator), lambda: function("a")):
        with pytest.raises(StopIteration) as ended:
            call()
        assert ended.value.value == 5


def test_many_while_the_mangler_is_changed(memory: CacheRegion) -> None:
    def creator(*keys: str) -> Any:
        memory.key_mangler = str.upper
        return keys

    assert memory.get_or_create_multi(["a", "b"], creator) == ["a", "b"]
    memory.key_mangler = None

    @memory.cache_multi_on_arguments()
    def function(*keys: str) -> Any:
        return creator(*keys)

    assert function("c") == ["c"]


@pytest.mark.parametrize("many", [False, True])
def test_nothing_is_locked_while_somebody_says_what_is_wanted(
    region: CacheRegion, many: bool
) -> None:
    asked = []

    def wanted(value: Any) -> bool:
        asked.append(value)
        in_threads(lambda: region.delete("a"))()
        return True

    if many:
        region.get_or_create_multi(["a", "b"], lambda *keys: keys, should_cache_fn=wanted)
        assert region.get("b") == "b"
    else:
        region.get_or_create("a", lambda: "a", should_cache_fn=wanted)
    assert asked
    assert region.get("a") is NO_VALUE


@pytest.mark.parametrize("many", [False, True])
def test_who_waits_gets_what_the_leader_s_should_cache_fn_raised(
    region: CacheRegion, many: bool
) -> None:
    creator = HeldUp(["A"])
    all_in = entered(region, 5)

    def wanted(_value: Any) -> bool:
        raise OSError("no")

    def ask() -> Any:
        if many:
            return region.get_or_create_multi(["a"], creator, should_cache_fn=wanted)
        return region.get_or_create("a", creator, should_cache_fn=wanted)

    join = in_threads(*[ask] * 5)
    assert all_in.wait(PATIENCE)
    creator.go.set()
    assert [type(answer) for answer in join()] == [OSError] * 5
    assert creator.calls == 1


@pytest.mark.parametrize("many", [False, True])
def test_a_backend_that_asks_for_what_it_is_to_keep(clock: ManualClock, many: bool) -> None:
    class Asking(DictBackend):
        def set(self, key: str, value: Any) -> None:
            if key not in seen:
                seen[key] = None
                seen[key] = region.get_or_create(key, lambda: "for itself")
            super().set(key, value)

    seen: dict[str, Any] = {}
    region = make_region(clock=clock).configure(Asking({}), 10)
    if many:
        join = in_threads(lambda: region.get_or_create_multi(["a", "b"], lambda *keys: keys))
    else:
        join = in_threads(lambda: [region.get_or_create("a", lambda: "a")])
    assert join()[0][0] == "a"
    assert set(seen.values()) == {"for itself"}


def test_what_is_not_wanted_is_returned_and_not_kept(region: CacheRegion) -> None:
    assert region.get_or_create("k", lambda: None, should_cache_fn=lambda one: one is not None) is (
        None
    )
    assert region.get("k") is NO_VALUE
    made = region.get_or_create_multi(
        ["a", "b"], lambda *keys: [None, 2], should_cache_fn=lambda one: one is not None
    )
    assert made == [None, 2]
    assert region.get_multi(["a", "b"]) == [NO_VALUE, 2]
    assert region.get_or_create("none", lambda: None) is None
    assert region.get_or_create("none", failing) is None


# -- Mutexes of strangers ----------------------------------------------------------


def test_a_value_that_somebody_else_makes_is_waited_for(clock: ManualClock) -> None:
    backend = MutexBackend({})
    # The pauses of who waits move the clock: no value is to end through that.
    region = make_region(clock=clock).configure(backend, 10**9)
    mutex = backend.get_mutex("k")
    assert mutex.acquire()
    assert region.key_is_locked("k")
    looked = threading.Event()
    find = backend.get

    def get(key: str) -> Any:
        if backend.held.get(key) is None and region.key_is_locked(key):
            looked.set()
        return find(key)

    backend.get = get  # type: ignore[method-assign]
    join = in_threads(lambda: region.get_or_create("k", failing))
    assert looked.wait(PATIENCE)
    backend.set("k", cached("theirs", clock.wall()))
    assert join() == ["theirs"]  # before it is released
    mutex.release()


def test_an_old_value_is_served_while_somebody_else_makes_a_new_one(clock: ManualClock) -> None:
    backend = MutexBackend({})
    region = make_region(clock=clock).configure(backend, 10)
    region.set_multi({"k": "old", "l": "old too"})
    clock.advance(11)
    for key in ("k", "l"):
        assert backend.get_mutex(key).acquire()
    assert gathered(
        lambda: region.get_or_create("k", failing),
        lambda: region.get_or_create_multi(["k", "l"], failing),
    ) == ["old", ["old", "old too"]]


# -- async_creation_runner ---------------------------------------------------------


class Runner:
    """Writes down what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def __call__(self, *given: Any) -> None:
        self.given.append(given)


@pytest.fixture(params=["memory", "mutex", "inproc"])
def runner_region(request: pytest.FixtureRequest, clock: ManualClock) -> CacheRegion:
    region = make_region(async_creation_runner=Runner(), clock=clock)
    region.configure(backend_of(request.param, clock), 10)
    return region


def test_the_runner_is_called_only_where_there_is_an_old_value(
    runner_region: CacheRegion, clock: ManualClock
) -> None:
    region, runner = runner_region, runner_region.async_creation_runner
    assert isinstance(runner, Runner)
    assert region.get_or_create("k", lambda: "first") == "first"
    assert runner.given == []
    clock.advance(11)
    creator = HeldUp("second")
    assert region.get_or_create("k", creator) == "first"
    assert region.get_or_create("k", failing) == "first"
    ((given, key, create, mutex),) = runner.given
    assert (given, key, create) == (region, "k", creator)
    assert region.key_is_locked("k")
    creator.go.set()
    region.set(key, create())
    mutex.release()
    assert not region.key_is_locked("k")
    assert region.get("k") == "second"
    mutex.release()  # a second time harms nobody
    clock.advance(11)
    region.get_or_create("k", creator)
    assert len(runner.given) == 2


def test_the_runner_gets_a_creator_without_arguments(
    runner_region: CacheRegion, clock: ManualClock
) -> None:
    runner = runner_region.async_creation_runner
    assert isinstance(runner, Runner)

    @runner_region.cache_on_arguments()
    def double(number: int) -> int:
        """Twice."""
        return number * 2

    assert double(4) == 8
    clock.advance(11)
    assert double(4) == 8
    ((_, _, create, mutex),) = runner.given
    assert create() == 8
    assert create.__name__ == "double"
    mutex.release()


def test_a_runner_that_dies_has_released_the_mutex(
    runner_region: CacheRegion, clock: ManualClock
) -> None:
    runner = runner_region.async_creation_runner
    assert isinstance(runner, Runner)
    runner_region.set("k", "old")
    clock.advance(11)
    assert runner_region.get_or_create("k", failing) == "old"
    runner.given.clear()
    gc.collect()
    assert not runner_region.key_is_locked("k")
    assert runner_region.get_or_create("k", failing) == "old"
    assert len(runner.given) == 1


def test_a_runner_that_raises_tells_the_caller(clock: ManualClock) -> None:
    def refuse(*_given: Any) -> None:
        raise RuntimeError("the queue is full")

    region = make_region(async_creation_runner=refuse, clock=clock).configure("memory", 10)
    region.set("k", "old")
    clock.advance(11)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the queue is full"):
            region.get_or_create("k", failing)
    assert not region.key_is_locked("k")


# -- Configuration -----------------------------------------------------------------


def test_a_region_without_a_backend_says_so() -> None:
    region = make_region("users")
    assert not region.is_configured
    for use in (
        lambda: region.backend,
        lambda: region.actual_backend,
        lambda: region.get("k"),
        lambda: region.get_multi(["k"]),
        lambda: region.set("k", 1),
        lambda: region.delete("k"),
        lambda: region.get_or_create("k", failing),
        lambda: region.get_or_create_multi(["k"], failing),
        lambda: region.wrap(ProxyBackend),
        lambda: region.cache_on_arguments()(failing)(),
    ):
        with pytest.raises(RegionNotConfigured, match=r"'users' has no backend yet.*configure"):
            use()


def test_an_invalidation_before_there_is_a_backend_counts(clock: ManualClock) -> None:
    held = {"k": cached("from before", clock.wall()), "l": cached("later", clock.wall() + 1)}
    region = make_region(clock=clock)
    region.invalidate()
    region.configure("memory", 10, {"cache_dict": held})
    assert region.get_multi(["k", "l"]) == [NO_VALUE, "later"]
    assert region.region_invalidator.was_hard_invalidated()


def test_a_region_is_configured_once_unless_one_says_so(memory: CacheRegion) -> None:
    memory.set("k", 1)
    with pytest.raises(RegionAlreadyConfigured, match="replace_existing_backend=True"):
        memory.configure("memory")
    previous = memory.actual_backend
    memory.configure("memory", replace_existing_backend=True)
    assert memory.actual_backend is not previous
    assert memory.get("k") is NO_VALUE


def test_settings(clock: ManualClock) -> None:
    settings = {
        "cache.backend": "dogpile.cache.memory",
        "cache.expiration_time": " 10 ",
        "cache.stale_if_error": "true",
        "cache.arguments.some_option_of_theirs": "1",
        "other.backend": "null",
    }
    region = make_region(clock=clock).configure_from_config(settings, "cache.")
    assert region.expiration_time == 10
    assert region.stale_if_error
    region.set("k", "old")
    clock.advance(11)
    assert region.get_or_create("k", failing) == "old"
    with pytest.raises(ValidationError, match=r"cache\.stale_if_error must be true or false"):
        make_region().configure_from_config({**settings, "cache.stale_if_error": "x"}, "cache.")


@pytest.mark.parametrize("wrong", ["10", float("nan"), object(), True, [1]])
def test_a_time_that_is_none(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="expiration_time must be"):
        make_region().configure("memory", wrong)
    region = make_region().configure("memory")
    with pytest.raises(ValidationError, match="expiration_time must be"):
        region.get_or_create("k", failing, wrong)
    with pytest.raises(ValidationError, match="expiration_time must be"):
        region.expiration_time = wrong


@pytest.mark.parametrize("wrong", [7, object(), int, InprocCacheClient, ["memory"], None])
def test_a_backend_that_is_none(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        make_region().configure(wrong)


def test_clients_and_lists_of_clients_are_backends(clock: ManualClock) -> None:
    client = InprocCacheClient(10, clock=clock)
    region = make_region().configure(client, 10)
    region.set("k", 1)
    assert client.get("k")[0] == 1
    assert "ClientBackend" in repr(region)
    near, far = (InprocCacheClient(10, clock=clock) for _ in range(2))
    for given in (
        {"backend": [near, far]},
        {"backend": "tiered", "arguments": {"clients": [near, far]}},
        {"backend": TieredInclusiveClient(near, far)},
    ):
        region = make_region().configure(expiration_time=10, **given)
        region.set("k", 1)
        near.clear()
        assert region.get("k") == 1
        assert near.get("k")[0] == 1


def test_proxies_see_everything(clock: ManualClock) -> None:
    seen: list[str] = []

    class Noting(ProxyBackend):
        def get(self, key: str) -> Any:
            seen.append(f"{self.name} get")
            return super().get(key)

        def set(self, key: str, value: Any) -> None:
            seen.append(f"{self.name} set")
            super().set(key, value)

        def __init__(self, name: str = "class") -> None:
            self.name = name

    region = make_region(clock=clock).configure("memory", 10, wrap=[Noting("outer"), Noting])
    region.get_or_create("k", lambda: 1)
    assert seen == ["outer get", "class get"] * 2 + ["outer set", "class set"]
    assert region.get("k") == 1
    assert seen[-2:] == ["outer get", "class get"]
    assert type(region.actual_backend).__name__ == "MemoryBackend"
    assert make_region().configure("memory", wrap=Noting).backend.name == "class"  # type: ignore[attr-defined]
    region.wrap(Noting("latest"))
    del seen[:]
    assert region.get("k") == 1
    assert seen == ["latest get", "outer get", "class get"]
    with pytest.raises(TypeError, match="ProxyBackend"):
        region.wrap(dict)  # type: ignore[arg-type]


def test_the_clock_of_the_client_counts(clock: ManualClock) -> None:
    region = make_region().configure(InprocCacheClient(10, clock=clock), 10)
    region.set("k", 1)
    found = region.get_value_metadata("k")
    assert found is not None
    assert found.cached_time == clock.wall()
    clock.advance(10)
    assert region.get("k") == 1
    clock.advance(1)
    assert region.get("k") is NO_VALUE
    assert region.get("k", ignore_expiration=True) == 1
    assert region.get("k", 12) == 1
    assert region.get("k", -1) == 1


def test_a_decorator_without_its_call_is_refused(memory: CacheRegion) -> None:
    for decorate in (memory.cache_on_arguments, memory.cache_multi_on_arguments):
        with pytest.raises(TypeError, match=r"with parentheses, such as @region\."):
            decorate(lambda x: x)


def test_a_coroutine_is_no_value(memory: CacheRegion) -> None:
    async def create() -> int:
        return 1

    with pytest.raises(TypeError, match=r"await region\.aio\.get_or_create"):
        memory.get_or_create("k", create)
    assert memory.get("k") is NO_VALUE


def test_stats(memory: CacheRegion) -> None:
    memory.get("k")
    memory.get_or_create("k", lambda: 1)
    memory.get_or_create("k", failing)
    memory.get_multi(["k", "l"])
    stats = memory.stats
    assert (stats.hits, stats.misses, stats.computations) == (2, 3, 1)


def test_functions_that_are_gone_leave_their_hits_and_nothing_else(memory: CacheRegion) -> None:
    for _ in range(10):

        @memory.cache_on_arguments()
        def answer() -> int:
            return 42

        answer()
        answer()
        del answer
    gc.collect()
    assert memory.stats.near_hits == 19
    assert len(memory._hit_counts) == 0


def test_what_is_asked_for_together_goes_through_the_methods_for_many() -> None:
    seen: list[str] = []

    class Many(ProxyBackend):
        def get_multi(self, keys: Any) -> Any:
            seen.append("get_multi")
            return super().get_multi(keys)

        def set_multi(self, mapping: Any) -> None:
            seen.append("set_multi")
            super().set_multi(mapping)

        def delete_multi(self, keys: Any) -> None:
            seen.append("delete_multi")
            super().delete_multi(keys)

    region = make_region().configure("memory", wrap=[Many])
    region.set_multi({"k": 1})
    assert region.get_multi(["k"]) == [1]
    region.delete_multi(["k"])
    assert seen == ["set_multi", "get_multi", "delete_multi"]
    del seen[:]
    assert region.get_or_create_multi(["k"], lambda *keys: [2]) == [2]
    assert seen == ["get_multi", "get_multi", "set_multi"]
    del seen[:]
    region.set("k", 3)
    assert region.get("k") == 3
    region.delete("k")
    assert seen == []


def test_what_was_invalidated_stays_so_in_the_next_backend(clock: ManualClock) -> None:
    values: dict[str, Any] = {}
    region = make_region(clock=clock).configure("memory", arguments={"cache_dict": values})
    region.set("k", "old")
    region.invalidate()
    region.configure("memory", arguments={"cache_dict": values}, replace_existing_backend=True)
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: "new") == "new"


def test_a_configuration_that_fails_changes_nothing(memory: CacheRegion) -> None:
    strategy = memory.region_invalidator
    wrong: Any = object()
    with pytest.raises(TypeError, match="ProxyBackend"):
        memory.configure(
            "null",
            wrap=[wrong],
            replace_existing_backend=True,
            region_invalidator=DefaultInvalidationStrategy(),
        )
    assert memory.region_invalidator is strategy
    assert memory.get_or_create("k", lambda: 1) == memory.get("k") == 1


@pytest.mark.parametrize("backend", ["memory", "memory_pickle", "inproc"])
@pytest.mark.parametrize("later", [False, True], ids=["configured", "wrapped"])
def test_proxies_that_were_written_for_dogpile(
    clock: ManualClock, backend: str, later: bool
) -> None:
    theirs = pytest.importorskip("dogpile.cache.proxy")

    class Noting(theirs.ProxyBackend):  # type: ignore[misc, name-defined]
        def get(self, key: str) -> Any:
            seen.append(key)
            return self.proxied.get(key)

        def get_serialized(self, key: str) -> Any:
            seen.append(key)
            return self.proxied.get_serialized(key)

    seen: list[str] = []
    region = make_region(clock=clock)
    if later:
        region.configure(backend_of(backend, clock)).wrap(Noting)
    else:
        region.configure(backend_of(backend, clock), wrap=Noting())
    assert region.get_or_create("k", lambda: 1) == region.get("k") == 1
    assert set(seen) == {"k"}
    assert not hasattr(region.actual_backend, "proxied")
    assert region.stats.errors == 0


def test_settings_that_mean_nothing_are_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"c.backend": "memory", "c.expiration_tme": "60", "other": 1}
    make_region().configure_from_config(settings, "c.")
    # Threads that earlier tests have left may log something, too.
    (told,) = [line for line in caplog.messages if "mean nothing" in line]
    assert "'c.expiration_tme' mean nothing" in told
    assert "other" not in told


def test_generator_functions_are_refused(memory: CacheRegion) -> None:
    def numbers() -> Any:
        yield 1

    async def later() -> Any:
        yield 1

    for function in (numbers, later):
        for decorate in (memory.cache_on_arguments, memory.cache_multi_on_arguments):
            with pytest.raises(TypeError, match="generator function"):
                decorate()(function)


def test_a_mutex_that_says_nothing_when_it_is_taken(clock: ManualClock) -> None:
    class Silent(DictBackend):
        takers: ClassVar[list[str]] = []

        def get_mutex(self, key: str) -> Any:
            class Mutex:
                def acquire(self, wait: bool = True) -> bool | None:
                    if Silent.takers:
                        return False
                    Silent.takers.append(key)
                    return None

                def release(self) -> None:
                    Silent.takers.remove(key)

                def locked(self) -> bool:
                    return bool(Silent.takers)

            return Mutex()

    region = make_region(clock=clock).configure(Silent({}))
    assert region.get_or_create("k", lambda: region.key_is_locked("k")) is True
    assert Silent.takers == []


@pytest.mark.parametrize("many", [False, True])
def test_what_is_deleted_during_a_refresh_is_not_kept(region: CacheRegion, many: bool) -> None:
    creator = HeldUp(["from before"] if many else "from before")
    function: Any
    if many:

        @region.cache_multi_on_arguments()
        def function(*keys: int) -> Any:
            return creator()

    else:

        @region.cache_on_arguments()
        def function(key: int) -> Any:
            return creator()

    join = in_threads(lambda: function.refresh(1))
    assert creator.began.wait(PATIENCE)
    function.invalidate(1)
    creator.go.set()
    assert join() == [["from before"] if many else "from before"]
    assert function.get(1) == ([NO_VALUE] if many else NO_VALUE)
    assert function.refresh(1) == function(1)
    assert creator.calls == 2


def test_who_finds_no_value_waits_for_a_refresh(region: CacheRegion) -> None:
    creator = HeldUp("new")

    @region.cache_on_arguments()
    def function(key: int) -> Any:
        return creator()

    join = in_threads(lambda: function.refresh(1))
    assert creator.began.wait(PATIENCE)
    all_in = entered(region, 1)
    waiter = in_threads(lambda: function(1))
    assert all_in.wait(PATIENCE)
    creator.go.set()
    assert join() == waiter() == ["new"]
    assert creator.calls == 1


def test_a_refresh_that_fails_leaves_no_lock_and_the_old_value(region: CacheRegion) -> None:
    broken: list[bool] = []
    asked: list[int] = []

    @region.cache_on_arguments()
    def function(key: int) -> str:
        if broken:
            failing()
        return "old"

    @region.cache_on_arguments()
    def recursive(key: int) -> int:
        if asked:
            return 1
        asked.append(key)
        return recursive(key) + 1

    assert function(1) == "old"
    broken.append(True)
    with pytest.raises(OSError, match="the source is down"):
        function.refresh(1)
    assert function(1) == "old"
    assert recursive.refresh(1) == 2
    assert not region.core.flights
