"""A region on event loops: the same answers, and one lock domain with threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.fakes import RemoteFake
from tests.regions import PATIENCE, DictBackend, HeldUp, MutexBackend, entered, in_threads
from tiered.clients.inproc import InprocCacheClient
from tiered.region import NO_VALUE, CacheRegion, make_region
from tiered.testing import ManualClock


@pytest.fixture(params=["memory", "inproc", "remote", "mutex", "memory_pickle"])
def region(request: pytest.FixtureRequest, clock: ManualClock) -> CacheRegion:
    client = InprocCacheClient(100, clock=clock)
    backends: dict[str, Any] = {
        "inproc": client,
        "remote": RemoteFake(client),
        "mutex": MutexBackend({}),
    }
    region = make_region(clock=clock)
    return region.configure(backends.get(request.param, request.param), 10)


async def failing() -> Any:
    raise OSError("the source is down")


class Held:
    """A coroutine function that runs until it is let go."""

    def __init__(self, value: Any = "made", error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self.calls = 0
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, *_args: Any) -> Any:
        self.calls += 1
        self.began.set()
        await asyncio.wait_for(self.go.wait(), PATIENCE)
        if self.error is not None:
            raise self.error
        return self.value


async def test_the_operations(region: CacheRegion, clock: ManualClock) -> None:
    aio = region.aio
    assert await aio.get("k") is NO_VALUE
    await aio.set("k", 1)
    assert await aio.get("k") == 1
    found = await aio.get_value_metadata("k")
    assert found is not None
    assert found.cached_time == clock.wall()
    assert await aio.get_value_metadata("none") is None
    await aio.set_multi({"a": 1, "b": 2})
    assert await aio.get_multi(["a", "none", "b"]) == [1, NO_VALUE, 2]
    await aio.delete("k")
    await aio.delete_multi(["a"])
    assert await aio.get_multi(["k", "a", "b"]) == [NO_VALUE, NO_VALUE, 2]
    clock.advance(11)
    assert await aio.get("b") is NO_VALUE
    assert await aio.get("b", ignore_expiration=True) == 2
    await aio.set("k", 1)
    await aio.invalidate()
    assert await aio.get("k") is NO_VALUE
    assert not await aio.key_is_locked("k")


@pytest.mark.parametrize("kind", ["coroutine function", "lambda", "plain"])
async def test_creators_of_all_kinds(region: CacheRegion, kind: str) -> None:
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return "made"

    creators: dict[str, Any] = {
        "coroutine function": coroutine,
        "lambda": lambda: coroutine(),
        "plain": lambda: "made",
    }
    assert await region.aio.get_or_create("k", creators[kind]) == "made"
    assert await region.aio.get_or_create("k", failing) == "made"
    assert region.get("k") == "made"


async def test_a_plain_creator_does_not_stop_the_loop(region: CacheRegion) -> None:
    creator = HeldUp()
    task = asyncio.create_task(region.aio.get_or_create("k", creator))
    await asyncio.to_thread(creator.began.wait, PATIENCE)
    assert await region.aio.get("other") is NO_VALUE
    creator.go.set()
    assert await task == "made"


async def test_tasks_on_a_cold_key_create_once(region: CacheRegion) -> None:
    creator = Held()
    tasks = [asyncio.create_task(region.aio.get_or_create("k", creator)) for _ in range(8)]
    await creator.began.wait()
    creator.go.set()
    assert await asyncio.gather(*tasks) == ["made"] * 8
    assert creator.calls == 1


async def test_threads_wait_for_a_task(region: CacheRegion) -> None:
    creator = Held()
    task = asyncio.create_task(region.aio.get_or_create("k", creator))
    await creator.began.wait()
    joined = entered(region, 1)
    join = in_threads(lambda: region.get_or_create("k", lambda: "of the thread"))
    assert await asyncio.to_thread(joined.wait, PATIENCE)
    creator.go.set()
    assert await asyncio.to_thread(join) == ["made"]
    assert await task == "made"


async def test_tasks_wait_for_a_thread(region: CacheRegion) -> None:
    creator = HeldUp(error=OSError("down"))
    join = in_threads(lambda: region.get_or_create("k", creator))
    assert await asyncio.to_thread(creator.began.wait, PATIENCE)
    joined = entered(region, 2)
    tasks = [asyncio.create_task(region.aio.get_or_create("k", failing)) for _ in range(2)]
    assert await asyncio.to_thread(joined.wait, PATIENCE)
    creator.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["down", "down"]
    assert [str(answer) for answer in await asyncio.to_thread(join)] == ["down"]


async def test_a_cancelled_task_does_not_cancel_what_others_wait_for(region: CacheRegion) -> None:
    creator = Held()
    first = asyncio.create_task(region.aio.get_or_create("k", creator))
    await creator.began.wait()
    # Who comes later finds the value, and does not wait until its lock is given back.
    joined = entered(region, 1)
    second = asyncio.create_task(region.aio.get_or_create("k", failing))
    assert await asyncio.to_thread(joined.wait, PATIENCE)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    creator.go.set()
    assert await second == "made"
    assert creator.calls == 1
    assert not region.key_is_locked("k")


async def test_while_one_creates_the_others_get_the_old_value(
    region: CacheRegion, clock: ManualClock
) -> None:
    region.set("k", "old")
    clock.advance(11)
    creator = Held("new")
    task = asyncio.create_task(region.aio.get_or_create("k", creator))
    await creator.began.wait()
    assert await region.aio.get_or_create("k", failing) == "old"
    assert await asyncio.to_thread(region.get_or_create, "k", failing) == "old"
    assert await region.aio.key_is_locked("k")
    creator.go.set()
    assert await task == "new"


async def test_stale_if_error(region: CacheRegion, clock: ManualClock) -> None:
    region.set("k", "old")
    clock.advance(11)
    assert await region.aio.get_or_create("k", failing, stale_if_error=True) == "old"
    with pytest.raises(OSError, match="the source is down"):
        await region.aio.get_or_create("k", failing)
    assert not region.key_is_locked("k")


@pytest.mark.parametrize("plain", [False, True])
async def test_a_creator_that_asks_for_its_own_key_calls_through(
    region: CacheRegion, plain: bool
) -> None:
    async def inner() -> int:
        return 1

    async def outer() -> int:
        found: int = await region.aio.get_or_create("k", inner)
        return found + 1

    def blocking() -> int:
        found: int = region.get_or_create("k", lambda: 1)
        return found + 1

    assert await region.aio.get_or_create("k", blocking if plain else outer) == 2


async def test_many(region: CacheRegion) -> None:
    calls: list[Any] = []

    async def creator(*keys: str) -> list[str]:
        calls.append(keys)
        await asyncio.sleep(0)
        return [key.upper() for key in keys]

    region.set("b", "kept")
    answers = await asyncio.gather(
        *[region.aio.get_or_create_multi(["c", "b", "a"], creator) for _ in range(3)]
    )
    assert answers == [["C", "kept", "A"]] * 3
    assert calls == [("a", "c")]
    assert await region.aio.get_or_create_multi(["d"], lambda *keys: [1]) == [1]
    with pytest.raises(OSError, match="the source is down"):
        await region.aio.get_or_create_multi(["e"], lambda *keys: failing())
    assert not region.key_is_locked("e")


async def test_many_whose_task_is_cancelled(region: CacheRegion) -> None:
    creator = Held(["A", "B"])
    task = asyncio.create_task(region.aio.get_or_create_multi(["a", "b"], creator))
    await creator.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    joined = entered(region, 1)
    waiter = asyncio.create_task(region.aio.get_or_create("a", failing))
    assert await asyncio.to_thread(joined.wait, PATIENCE)
    creator.go.set()
    assert await waiter == "A"


async def test_a_loop_that_dies_leaves_no_lock(region: CacheRegion) -> None:
    began = threading.Event()

    async def never() -> None:
        began.set()
        await asyncio.Event().wait()

    def run() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(region.aio.get_or_create_multi(["k", "l"], lambda *_keys: never()))
        loop.call_later(0, lambda: None)
        while not began.is_set():
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()  # with the tasks in it
        del task

    if region.core.keeping.backend.get_mutex("k") is not None:
        pytest.skip("a mutex of a stranger's is held as long as its holder lives")
    await asyncio.to_thread(run)
    assert await asyncio.to_thread(region.get_or_create, "k", lambda: "made") == "made"


async def test_the_runner_on_a_loop(clock: ManualClock) -> None:
    given: list[Any] = []
    region = make_region(
        async_creation_runner=lambda *arguments: given.append(arguments), clock=clock
    ).configure("memory", 10)

    async def creator() -> str:
        await asyncio.sleep(0)
        return "new"

    region.set("k", "old")
    clock.advance(11)
    assert await region.aio.get_or_create("k", creator) == "old"
    ((_, key, create, mutex),) = given
    with pytest.raises(RuntimeError, match="another thread"):
        create()
    assert await asyncio.to_thread(create) == "new"
    await region.aio.set(key, "new")
    mutex.release()
    assert await region.aio.get_or_create("k", failing) == "new"


# -- Functions -------------------------------------------------------------------


@pytest.mark.parametrize("through_aio", [False, True])
async def test_coroutine_functions(region: CacheRegion, through_aio: bool) -> None:
    calls: list[int] = []
    face: Any = region.aio if through_aio else region

    @face.cache_on_arguments()  # type: ignore[untyped-decorator]
    async def double(number: int, more: int = 0) -> int:
        """Twice."""
        calls.append(number)
        await asyncio.sleep(0)
        return number * 2 + more

    assert asyncio.iscoroutinefunction(double)
    assert double.__doc__ == "Twice."
    assert await asyncio.gather(*[double(4) for _ in range(3)]) == [8] * 3
    assert await double(number=4) == 8
    assert calls == [4]
    assert await double.get(4) == 8
    assert await double.refresh(4) == 8
    assert calls == [4, 4]
    await double.set(9, 4)
    assert await double(4) == 9
    await double.invalidate(4, 0)
    assert await double.get(4) is NO_VALUE
    assert await double.original(4) == 8


async def test_a_plain_function_for_loops(region: CacheRegion) -> None:
    @region.aio.cache_on_arguments()
    def where(_number: int) -> int:
        return threading.get_ident()

    assert await where(1) != threading.get_ident()
    assert await where(1) == await where(1)
    assert await where.refresh(1) is not None


async def test_functions_of_many(region: CacheRegion) -> None:
    calls: list[Any] = []

    @region.cache_multi_on_arguments(asdict=True)
    async def load(*keys: int) -> dict[int, int]:
        calls.append(keys)
        return {key: key * 2 for key in keys if key != 3}

    assert await load(1, 2, 3) == {1: 2, 2: 4}
    assert await load(1, 2, 3) == {1: 2, 2: 4}
    assert calls == [(1, 2, 3), (3,)]
    assert await load.get(1, 3) == [2, NO_VALUE]
    await load.set({3: 6})
    assert await load(3) == {3: 6}
    assert await load.refresh(3, 1) == {1: 2}
    await load.invalidate(1)
    assert await load.get(1) == [NO_VALUE]


class SlowMutexBackend(DictBackend):
    """With one mutex, which is taken no sooner than it is let."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked, self.let, self.released = (threading.Event() for _ in range(3))
        self._lock = threading.Lock()

    def get_mutex(self, key: str) -> Any:
        return self

    def acquire(self, wait: bool = True) -> bool:
        self.asked.set()
        assert self.let.wait(PATIENCE)
        return self._lock.acquire(wait)

    def release(self) -> None:
        self._lock.release()
        self.released.set()

    def locked(self) -> bool:
        return self._lock.locked()


@pytest.mark.parametrize("way", ["one", "many", "runner"])
def test_who_is_cancelled_while_he_takes_a_mutex_does_not_keep_it(
    clock: ManualClock, way: str
) -> None:
    backend = SlowMutexBackend()
    runner = Held if way == "runner" else None  # which is not called
    region = make_region(clock=clock, async_creation_runner=runner).configure(backend, 10)
    if runner is not None:
        region.set("k", "old")
        clock.advance(11)

    async def main() -> None:
        ask: Any = region.aio.get_or_create("k", failing)
        if way == "many":
            ask.close()
            ask = region.aio.get_or_create_multi(["k"], failing)
        task = asyncio.ensure_future(ask)
        assert await asyncio.to_thread(backend.asked.wait, PATIENCE)
        task.cancel()

    asyncio.run(main())  # which cancels all that is left
    assert not backend.released.is_set()
    backend.let.set()
    assert backend.released.wait(PATIENCE)
    assert not region.key_is_locked("k")
    region.delete("k")
    assert region.get_or_create("k", lambda: "new") == "new"


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("through", [False, True], ids=["directly", "through a thread"])
def test_a_plain_call_does_not_wait_for_the_loop_that_it_stops(
    region: CacheRegion, many: bool, through: bool
) -> None:
    def plain(key: str, creator: Any) -> Any:
        if many:
            return region.get_or_create_multi([key], lambda *keys: [creator()])[0]
        return region.get_or_create(key, creator)

    async def main() -> Any:
        held = Held(["made"] if many else "made")
        ask: Any = region.aio.get_or_create_multi if many else region.aio.get_or_create
        task = asyncio.ensure_future(ask(["k"] if many else "k", held))
        await held.began.wait()
        works: list[Any] = []
        if through:
            waits = entered(region, 2)
            works = [lambda: plain("j", lambda: plain("k", lambda: "by himself"))]
        join = in_threads(*works)
        if through:
            assert await asyncio.to_thread(waits.wait, PATIENCE)
        made = plain("j" if through else "k", lambda: "by itself")
        held.go.set()
        await task
        return made, await asyncio.to_thread(join)

    ((made, others),) = in_threads(lambda: asyncio.run(main()))()
    # Of two, the one who closes the circle calls through.
    assert (made, others) in (
        [("by itself", ["made"]), ("by himself", ["by himself"])]
        if through
        else [("by itself", [])]
    )
    assert region.get("k") == "made"
