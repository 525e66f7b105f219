"""asyncio: plain functions through ``aio``, and coroutine functions, share every rule."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import tiered
from tests.fakes import RemoteFake, inproc, waiting
from tiered import (
    AsyncCachedFunction,
    CachedFunction,
    CacheMissError,
    TieredInclusiveClient,
    WorkerPool,
    cached,
)
from tiered.clients.base import CacheClient
from tiered.testing import ManualClock


@pytest.fixture
def client(clock: ManualClock) -> CacheClient:
    return inproc(clock)


@pytest.fixture
def far(clock: ManualClock) -> CacheClient:
    return TieredInclusiveClient(inproc(clock), RemoteFake(inproc(clock)))


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(2, name="aio")
    yield pool
    assert pool.close()


class Refusing(WorkerPool):
    """Fails the test that touches a thread."""

    def submit(self, work: Any, *, delay: float = 0.0) -> Any:
        raise AssertionError("this needs no thread")


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until *condition* holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


class Coroutines:
    """A coroutine function that can be held up, and made to fail."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: BaseException | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self, x: Any) -> tuple[Any, int]:
        self.calls.append(x)
        number = len(self.calls)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return (x, number)


@pytest.fixture
def source() -> Coroutines:
    return Coroutines()


# -- Every operation -------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["near", "far"])
def test_a_coroutine_function_has_every_operation(
    request: pytest.FixtureRequest, source: Coroutines, pool: WorkerPool, distance: str
) -> None:
    client: CacheClient = request.getfixturevalue({"near": "client", "far": "far"}[distance])
    f = cached(client, 60, pool=pool)(source)
    assert isinstance(f, AsyncCachedFunction)

    async def main() -> None:
        with pytest.raises(CacheMissError):
            await f.peek(1)
        with pytest.raises(CacheMissError):
            await f.get_ttl(1)
        assert await f(1) == (1, 1)
        assert await f(x=1) == await f.peek(1) == await f.lazy(1) == (1, 1)
        assert await f.get_ttl(1) == ((1, 1), 60)
        assert await f.refresh(1) == (1, 2)
        assert await f.put(1, _cache_put=(1, 0))
        assert await f(1) == await f.aio(1) == await f.bg()(1) == (1, 0)
        assert await f.expire(1)
        assert (await f.get_ttl(1))[1] < 0
        assert await f(1) == (1, 3)
        assert await f.invalidate(1)
        assert not await f.invalidate(1)
        with pytest.raises(CacheMissError):
            await f.lazy(1)
        await until(lambda: len(source.calls) == 4)
        await until(lambda: not len(f._core.engine.flights))
        assert await f.peek(1) == (1, 4)
        await f.aio.clear()
        assert await f(1) == (1, 5)
        assert f.uncached is source
        assert "fresh" in repr(f.explain(1))

    asyncio.run(main())


@pytest.mark.parametrize("distance", ["near", "far"])
def test_a_plain_function_has_every_operation(
    request: pytest.FixtureRequest, pool: WorkerPool, distance: str
) -> None:
    client: CacheClient = request.getfixturevalue({"near": "client", "far": "far"}[distance])
    calls: list[int] = []

    @cached(client, 60, pool=pool)
    def f(x: int) -> tuple[int, int]:
        assert threading.current_thread().name.startswith("aio")
        calls.append(x)
        return (x, len(calls))

    assert isinstance(f, CachedFunction)

    async def main() -> None:
        with pytest.raises(CacheMissError):
            await f.aio.peek(1)
        assert await f.aio(1) == await f.aio(x=1) == await f.aio.peek(1) == (1, 1)
        assert await f.aio.refresh(1) == (1, 2)
        assert await f.aio.put(1, _cache_put=(1, 0))
        assert f(1) == (1, 0)
        assert await f.aio.expire(1)
        assert await f.aio(1) == (1, 0)  # stale, and computed behind
        await until(lambda: len(calls) == 3)
        await until(lambda: not len(f._core.engine.flights))
        assert await f.aio.get_ttl(1) == ((1, 3), 60)
        assert await f.aio.invalidate(1)
        with pytest.raises(CacheMissError):
            await f.aio.lazy(1)
        await until(lambda: len(calls) == 4)
        await until(lambda: not len(f._core.engine.flights))
        assert await f.aio(1) == (1, 4)

    asyncio.run(main())


def test_a_wrong_call_is_the_callers_mistake(client: CacheClient, source: Coroutines) -> None:
    f = cached(client, 60)(source)

    async def main() -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
            await f(1, y=2)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
            await f.peek(1, y=2)  # type: ignore[call-arg]
        assert await f([1]) == ([1], 1)  # has no key: computed by each caller
        assert await f([1]) == ([1], 2)
        with pytest.raises(CacheMissError):
            await f.peek([1])

    asyncio.run(main())


def test_methods_are_bound(client: CacheClient) -> None:
    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached(client, 60, ignore=("self",))
        async def read(self, x: int) -> str:
            return f"{self.name}{x}"

        @cached(client, 60)
        def plain(self, x: int) -> str:
            return f"{self.name}-{x}"

    one = Service("a")

    async def main() -> None:
        assert await one.read(1) == await Service("b").read(1) == "a1"
        assert await one.read.peek(1) == await one.read.aio(1) == await one.read.bg()(1) == "a1"
        assert await one.read.multi([1, 2]) == {1: "a1", 2: "a2"}
        assert await one.read.invalidate(1)
        assert await asyncio.wrap_future(one.read.future()(3)) == "a3"
        assert await one.plain.aio(1) == one.plain.peek(1) == "a-1"
        assert await one.plain.aio.multi([1, 2]) == one.plain.multi([1, 2]) == {1: "a-1", 2: "a-2"}
        assert one.read.callkey(1) == Service.read.callkey(one, 1)

    asyncio.run(main())


def test_others_see_a_coroutine_function(client: CacheClient, source: Coroutines) -> None:
    @cached(client, 60)
    async def f(x: int) -> int:
        return x

    assert asyncio.iscoroutinefunction(f)
    assert inspect.iscoroutinefunction(f.__call__)
    assert inspect.signature(f) == inspect.signature(f.uncached)

    async def main() -> None:
        task = asyncio.create_task(f(1))
        assert await task == 1
        assert await asyncio.wait_for(f(1), 20) == 1
        assert list(await asyncio.gather(f(1), f(2))) == [1, 2]

    asyncio.run(main())
    assert asyncio.run(f(1)) == 1


# -- Threads ---------------------------------------------------------------------------


def test_over_memory_a_coroutine_function_touches_no_thread(
    client: CacheClient, clock: ManualClock, source: Coroutines
) -> None:
    f = cached(client, 60, async_ttl=20, keep=10, pool=Refusing(1))(source)

    async def main() -> None:
        assert await f(1) == (1, 1)
        clock.advance(50)
        assert await f(1) == (1, 1)
        await until(lambda: len(source.calls) == 2)
        assert await f.refresh(1) == (1, 3)
        await f.invalidate(1), await f.multi([1, 2]), await f.multi.refresh([1])
        with pytest.raises(CacheMissError):
            await f.lazy(9)

    asyncio.run(main())


def test_a_hit_in_the_nearest_tier_touches_no_thread(far: CacheClient) -> None:
    @cached(far, 60, pool=Refusing(1))
    def f(x: int) -> int:
        return x

    f(1)
    assert asyncio.run(f.aio(1)) == 1
    assert f.stats.near_hits == 1

    async def main() -> int:
        return await f.aio(1) + f.future()(1).result(0)

    assert asyncio.run(main()) == 2


def test_a_hit_runs_one_frame(client: CacheClient, source: Coroutines) -> None:
    import sys

    f = cached(client, 60)(source)
    asyncio.run(f(1))
    frames: list[str] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            frames.append(frame.f_code.co_filename)

    async def main() -> None:
        sys.setprofile(profile)
        try:
            await f(1)
        finally:
            sys.setprofile(None)

    gc.collect()
    gc.disable()  # what it frees may run functions of ours too
    try:
        asyncio.run(main())
    finally:
        gc.enable()
    ours = [name for name in frames if "tiered" in name and "clock" not in name]
    assert len(ours) == (0 if tiered.accelerated else 1)


# -- One computation -------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["near", "far"])
def test_tasks_share_one_computation(
    request: pytest.FixtureRequest, source: Coroutines, distance: str
) -> None:
    client: CacheClient = request.getfixturevalue({"near": "client", "far": "far"}[distance])
    f = cached(client, 60)(source)

    async def main() -> None:
        source.gate = asyncio.Event()
        tasks = [asyncio.create_task(f(1)) for _ in range(64)]
        await until(lambda: source.calls)
        for _ in range(5):
            await asyncio.sleep(0)
        source.gate.set()
        assert await asyncio.gather(*tasks) == [(1, 1)] * 64

    asyncio.run(main())
    assert source.calls == [1]
    assert len(f._core.engine.flights) == 0
    assert not f._core.awaiting._tasks


def test_threads_and_tasks_share_one_computation(client: CacheClient, pool: WorkerPool) -> None:
    calls: list[int] = []
    release = threading.Event()

    @cached(client, 60, pool=pool)
    def f(x: int) -> int:
        calls.append(x)
        assert release.wait(20)
        return x * 2

    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(f(1))) for _ in range(4)]

    async def main() -> None:
        tasks = [asyncio.create_task(f.aio(1)) for _ in range(8)]
        for thread in threads:
            thread.start()
        await until(lambda: calls and waiting(f) >= 3)
        release.set()
        assert await asyncio.gather(*tasks) == [2] * 8

    asyncio.run(main())
    for thread in threads:
        thread.join(20)
    assert results == [2] * 4
    assert calls == [1]


def test_loops_in_several_threads_share_one_computation(client: CacheClient) -> None:
    calls: list[int] = []
    everybody = threading.Barrier(4)

    @cached(client, 60)
    async def f(x: int) -> int:
        calls.append(x)
        flight = f._core.engine.flights._running[1]
        while len(flight._callbacks) < 4:
            await asyncio.sleep(0.001)
        return x * 2

    results: list[int] = []

    def loop() -> None:
        async def main() -> None:
            everybody.wait(20)
            results.append(await f(1))

        asyncio.run(main())

    threads = [threading.Thread(target=loop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [2] * 4
    assert calls == [1]


def test_an_error_is_everybodys_who_waited(client: CacheClient, source: Coroutines) -> None:
    f = cached(client, 60)(source)
    source.error = ValueError("for all")

    async def main() -> None:
        source.gate = asyncio.Event()
        tasks = [asyncio.create_task(f(1)) for _ in range(20)]
        await until(lambda: source.calls)
        source.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, ValueError) for result in results)
        assert len(results) == 20

    asyncio.run(main())
    assert source.calls == [1]


@pytest.mark.parametrize("error", [StopIteration(5), StopAsyncIteration(), RuntimeError("x")])
def test_any_exception_reaches_the_caller(
    client: CacheClient, pool: WorkerPool, error: Exception
) -> None:
    @cached(client, 60, pool=pool)
    def f(x: int) -> int:
        raise error

    def called(call: Any) -> Any:
        answer = call(1)
        return answer.result(20)

    for call in (f, f.bg(), f.refresh, f.bg(), f.future().refresh, f.future()):
        with pytest.raises(type(error)):
            called(call)
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        asyncio.run(f.aio(1))  # what a coroutine cannot raise, Python turns into RuntimeError
    assert isinstance(f.multi([1]).errors[1], type(error))


# -- Cancellation and other ends -------------------------------------------------------


def test_a_cancelled_waiter_stops_waiting_and_nothing_else(
    client: CacheClient, source: Coroutines
) -> None:
    f = cached(client, 60)(source)

    async def main() -> None:
        source.gate = asyncio.Event()
        first = asyncio.create_task(f(1))
        await until(lambda: source.calls)
        others = [asyncio.create_task(f(1)) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()
        others[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(asyncio.CancelledError):
            await others[0]
        source.gate.set()
        assert await asyncio.gather(*others[1:]) == [(1, 1)] * 4
        assert await f.peek(1) == (1, 1)

    asyncio.run(main())
    assert source.calls == [1]


def test_a_computation_goes_on_when_nobody_waits_any_more(
    client: CacheClient, source: Coroutines
) -> None:
    f = cached(client, 60)(source)

    async def main() -> None:
        source.gate = asyncio.Event()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(f(1), 0.01)
        source.gate.set()
        await until(lambda: not len(f._core.engine.flights))
        assert await f.peek(1) == (1, 1)

    asyncio.run(main())


def test_a_plain_function_goes_on_when_nobody_waits_any_more(
    client: CacheClient, pool: WorkerPool
) -> None:
    release = threading.Event()

    @cached(client, 60, pool=pool)
    def f(x: int) -> int:
        assert release.wait(20)
        return x

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(f.aio(1), 0.01)
        release.set()
        await until(lambda: not len(f._core.engine.flights))

    asyncio.run(main())
    assert f.peek(1) == 1


def test_a_function_that_cancels_itself_does_so_to_its_caller_alone(
    client: CacheClient, source: Coroutines
) -> None:
    f = cached(client, 60)(source)
    source.error = asyncio.CancelledError("by the function")

    async def main() -> None:
        source.gate = asyncio.Event()
        tasks = [asyncio.create_task(f(1)) for _ in range(3)]
        await until(lambda: source.calls)
        source.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(main())
    assert len(source.calls) == 3  # each tried for himself
    assert len(f._core.engine.flights) == 0


def test_a_loop_that_ends_leaves_its_computation_to_others(client: CacheClient) -> None:
    calls: list[int] = []

    @cached(client, 60)
    async def f(x: int) -> int:
        calls.append(x)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return x

    async def abandoned() -> None:
        task = asyncio.create_task(f(1))
        await until(lambda: calls)
        task.cancel()

    asyncio.run(abandoned())
    assert len(f._core.engine.flights) == 0
    assert asyncio.run(f(1)) == 1
    assert calls == [1, 1]


@pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning")
def test_a_loop_that_is_closed_under_a_computation_is_noticed(client: CacheClient) -> None:
    calls: list[int] = []

    @cached(client, 60)
    async def f(x: int) -> int:
        calls.append(x)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return x

    loop = asyncio.new_event_loop()
    task = loop.create_task(f(1))
    while not calls:
        loop.run_until_complete(asyncio.sleep(0))
    waiter = threading.Thread(target=lambda: results.append(asyncio.run(f(1))))
    results: list[int] = []
    waiter.start()
    flight = f._core.engine.flights._running[1]
    while len(flight._callbacks) < 2:
        pass
    loop.close()
    assert asyncio.run(f(1)) == 1
    waiter.join(20)
    assert results == [1]
    assert calls == [1, 1]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    for left in f._core.awaiting._tasks:
        left._log_destroy_pending = False  # type: ignore[attr-defined]


def test_nothing_is_left_behind(client: CacheClient, source: Coroutines) -> None:
    f = cached(client, 60)(source)

    async def main() -> None:
        await asyncio.gather(*(f(x) for x in range(50)))
        source.error = ValueError()
        await asyncio.gather(*(f.refresh(x) for x in range(50)), return_exceptions=True)

    asyncio.run(main())
    gc.collect()
    assert len(f._core.engine.flights) == 0
    assert not f._core.awaiting._tasks


# -- Recursion -------------------------------------------------------------------------


def test_a_coroutine_function_may_ask_for_what_it_is_computing(client: CacheClient) -> None:
    depth: list[int] = []

    @cached(client, 60)
    async def f(x: int) -> int:
        depth.append(x)
        return await f(x) + 1 if len(depth) < 3 else 0

    assert asyncio.run(f(1)) == 2
    depth.clear()
    f.clear()

    @cached(client, 60)
    async def g(x: int) -> int:
        depth.append(x)
        if len(depth) >= 3:
            return 0
        return sum(await asyncio.gather(g(x), asyncio.create_task(g(x)))) + 1

    assert asyncio.run(asyncio.wait_for(g(1), 20)) > 0


def test_recursion_computes_each_value_once(client: CacheClient) -> None:
    @cached(client, 60)
    async def fibonacci(n: int) -> int:
        if n < 2:
            return n
        return sum(await asyncio.gather(fibonacci(n - 1), fibonacci(n - 2)))

    assert asyncio.run(fibonacci(30)) == 832040
    assert fibonacci.stats.computations == 31


def test_computations_that_ask_for_each_other_do_not_wait_for_ever(client: CacheClient) -> None:
    together: list[int] = []

    @cached(client, 60)
    async def f(x: int) -> int:
        together.append(x)
        if len(together) <= 2:
            await until(lambda: len(together) >= 2)
            return await f(1 - x) + 1
        return 0

    async def main() -> None:
        assert sorted(await asyncio.gather(f(0), f(1))) in ([1, 1], [1, 2])

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_plain_function_may_ask_through_a_loop_of_its_own(
    client: CacheClient, pool: WorkerPool
) -> None:
    depth: list[int] = []

    @cached(client, 60, pool=pool)
    def f(x: int) -> int:
        depth.append(x)
        return asyncio.run(f.aio(x)) + 1 if len(depth) < 3 else 0

    assert f(1) == 2


def test_a_function_may_wait_for_a_future_of_itself(client: CacheClient, pool: WorkerPool) -> None:
    depth: list[int] = []

    @cached(client, 60, pool=pool)
    def f(x: int) -> int:
        depth.append(x)
        return f.future()(x).result(20) + 1 if len(depth) < 3 else 0

    assert f(1) == 2


# -- Rules ----------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["invalidate", "put", "expire", "refresh", "clear"])
def test_what_was_computed_before_a_change_is_not_stored_after_it(
    client: CacheClient, act: str
) -> None:
    started: list[int] = []
    gate: list[asyncio.Event] = []

    @cached(client, 60)
    async def f(x: int) -> str:
        started.append(x)
        if len(started) == 1:
            await gate[0].wait()
            return "old"
        return "new"

    async def main() -> None:
        gate.append(asyncio.Event())
        early = asyncio.create_task(f(1))
        await until(lambda: started)
        if act == "put":
            await f.put(1, _cache_put="new")
        elif act == "clear":
            await f.aio.clear()
        else:
            operation: Callable[[int], Awaitable[Any]] = getattr(f, act)
            await operation(1)
        gate[0].set()
        assert await early == "old"  # who asked before may get what was true then
        assert await f(1) == "new"

    asyncio.run(main())


def test_an_awaited_call_is_stale_only_within_keep(
    client: CacheClient, clock: ManualClock, source: Coroutines
) -> None:
    strict = cached(client, 10)(source)
    lenient = cached(client, 10, keep=5, namespace="lenient")(source)

    async def main() -> None:
        assert (await strict(1))[1] == 1
        assert (await lenient(1))[1] == 2
        clock.advance(12)
        assert (await strict(1))[1] == 3
        assert (await lenient(1))[1] == 2
        await until(lambda: len(source.calls) == 4)
        await until(lambda: not len(lenient._core.engine.flights))
        assert (await lenient(1))[1] == 4
        clock.advance(16)
        assert (await lenient(1))[1] == 5

    asyncio.run(main())


def test_what_is_due_is_refreshed_behind(
    client: CacheClient, clock: ManualClock, source: Coroutines
) -> None:
    f = cached(client, 60, async_ttl=-40)(source)

    async def main() -> None:
        await f(1)
        clock.advance(39)
        assert await f(1) == (1, 1)
        assert source.calls == [1]
        clock.advance(2)
        assert await f(1) == await f(1) == (1, 1)
        await until(lambda: len(source.calls) == 2)
        await until(lambda: not len(f._core.engine.flights))
        assert await f(1) == (1, 2)

    asyncio.run(main())


def test_a_refresh_that_fails_is_logged_and_nobody_hears_of_it(
    client: CacheClient, clock: ManualClock, source: Coroutines, caplog: pytest.LogCaptureFixture
) -> None:
    f = cached(client, 60, async_ttl=20)(source)

    async def main() -> None:
        await f(1)
        clock.advance(45)
        source.error = ValueError("behind")
        assert await f(1) == (1, 1)
        await until(lambda: len(source.calls) == 2)

    asyncio.run(main())
    assert "failed behind its caller: ValueError('behind')" in caplog.text


def test_the_computation_runs_in_its_first_callers_context(client: CacheClient) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

    @cached(client, 60)
    async def f(x: int) -> str:
        return user.get()

    @cached(client, 60)
    def g(x: int) -> str:
        return user.get()

    async def main() -> None:
        user.set("me")
        assert await f(1) == "me"
        assert await g.aio(1) == "me"

    asyncio.run(main())
    user.set("thread")
    assert g.future()(2).result(20) == "thread"


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_closed_pool_leaves_the_work_to_the_caller(far: CacheClient, kind: str) -> None:
    pool = WorkerPool(1)
    pool.close()

    def plain(x: int) -> int:
        return x

    async def coroutine(x: int) -> int:
        return x

    async def main() -> None:
        if kind == "plain":
            f = cached(far, 60, pool=pool)(plain)
            assert await f.aio(1) == await f.aio.refresh(1) == f.future()(2).result(0) - 1 == 1
            assert f.bg()(3) == 3
        else:
            g = cached(far, 60, pool=pool)(coroutine)
            assert (await asyncio.to_thread(lambda: g.future()(7))).result(0) == 7
            with pytest.raises(CacheMissError):
                (await asyncio.to_thread(lambda: g.future().peek(8))).result(0)
            assert await g(1) == await g.refresh(1) == await g.peek(1) == 1

    asyncio.run(main())


def test_a_pool_that_closes_lets_nobody_wait_for_ever(far: CacheClient) -> None:
    pool = WorkerPool(1)
    started, release = threading.Event(), threading.Event()

    @cached(far, 60, pool=pool)
    def f(x: int) -> int:
        started.set()
        assert release.wait(20)
        return x

    async def main() -> None:
        tasks = [asyncio.create_task(f.aio(x)) for x in range(4)]
        await asyncio.to_thread(started.wait, 20)
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.to_thread(pool.close)
        assert await asyncio.wait_for(asyncio.gather(*tasks), 20) == [0, 1, 2, 3]

    asyncio.run(main())


# -- Futures of coroutine functions ----------------------------------------------------


def test_a_coroutine_function_has_futures_too(
    client: CacheClient, clock: ManualClock, source: Coroutines
) -> None:
    f = cached(client, 60, async_ttl=20)(source)
    assert f.future()(1).result(20) == (1, 1)  # in a loop of its own
    assert f.future()(1).done()
    assert f.future().peek(1).result(20) == (1, 1)
    with pytest.raises(CacheMissError):
        f.future().peek(2).result(20)
    clock.advance(45)
    assert f.future()(1).result(20) == (1, 1)
    while len(source.calls) < 2 or len(f._core.engine.flights):
        pass  # the refresh, in the same loop
    source.error = ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        f.future().refresh(1).result(20)

    async def main() -> None:
        source.error = None
        future = f.future()(7)
        assert (await asyncio.wrap_future(future))[0] == 7
        source.error = asyncio.CancelledError()
        cancelled = f.future()(8)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wrap_future(cancelled)
        assert cancelled.done()

    asyncio.run(main())
