"""``client.aio``: near answers in the loop, all else in threads, and the loop goes on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import Held, RemoteFake, inproc, together
from tiered.clients.aio import AsyncView
from tiered.clients.background import AsyncWriteCacheClient
from tiered.clients.base import CacheClient, Entry
from tiered.clients.namespace import NamespaceMirrorWrapper, NamespaceWrapper
from tiered.clients.synced import ReadWriteSyncAdapter, SyncAdapter
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.lanes import Lane
from tiered.concurrency.pool import PoolRefuses, WorkerPool
from tiered.errors import CacheMissError
from tiered.testing import ManualClock
from tiered.typing import Key


class Refusing(WorkerPool):
    """Fails the test that touches a thread."""

    def submit_anyway(self, work: Any) -> Any:
        raise AssertionError("this needs no thread")


class Gated(RemoteFake):
    """A server that does not answer before it is told to; counts who asks it at a time."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.gate = threading.Event()
        self.asked = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.now = self.most = self.calls = 0

    def entry(self, key: Key) -> Entry | None:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
        self.asked.release()
        try:
            assert self.gate.wait(20)
            return super().entry(key)
        finally:
            with self.lock:
                self.now -= 1


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(16, name="views")
    yield pool
    assert pool.close(10)


@pytest.fixture
def near(clock: ManualClock) -> CacheClient:
    return inproc(clock)


@pytest.fixture
def far(clock: ManualClock) -> Iterator[Gated]:
    far = Gated(inproc(clock, 2000))
    yield far
    far.gate.set()


def lane_of(client: CacheClient) -> Lane:
    return client.aio._off.lane


def unheard(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What loops and futures say of errors that nobody took, and all that this thread says.

    Threads that other tests have left may say something else at any moment.
    """
    loops, ours = ("asyncio", "concurrent.futures"), threading.get_ident()
    return [record for record in caplog.records if record.name in loops or record.thread == ours]


# -- What needs no thread --------------------------------------------------------------


def test_a_client_in_memory_is_asked_in_the_loop(near: CacheClient) -> None:
    view = AsyncView(near, pool=Refusing(1))

    async def main() -> None:
        assert await view.put("k", 1, 60)
        assert await view.get("k") == 1
        assert await view.get("k", max_tiers=1, ttl_skip=2) == 1
        assert await view.get_multi(["k", "l"], None) == {"k": 1, "l": None}
        claim = await view.claim("k")
        assert claim is not None
        assert await claim.fill(2, 60)
        assert await view.wait("k")
        with pytest.raises(CacheMissError):
            await view.get("l")
        await view.clear()
        await view.close()

    asyncio.run(main())


def test_fresh_entries_of_a_near_tier_are_answered_in_the_loop(
    near: CacheClient, far: Gated, clock: ManualClock
) -> None:
    client = TieredInclusiveClient(near, far)
    client.put_multi({"a": 1, "b": None}, 60)
    view = AsyncView(client, pool=Refusing(1))
    before = client.stats.hits

    async def main() -> None:
        assert await view.get("a") == 1
        assert await view.get("b", 7) is None
        assert await view.get_ttl("a") == (1, 60)
        assert await view.contains("a")
        assert await view.get_multi(["b", "a"]) == {"b": None, "a": 1}
        assert await view.get_ttl_multi(iter(["b", "a", "b"])) == {"b": (None, 60), "a": (1, 60)}
        assert client.stats.hits == before + 7

    asyncio.run(main())


@pytest.mark.parametrize(
    ("operation", "arguments", "options"),
    [
        ("get", ["absent", None], {}),
        ("get", ["stale", None], {}),
        ("get", [[], None], {}),
        ("get", ["a"], {"max_tiers": 2}),
        ("get", ["a"], {"ttl_skip": 1}),
        ("get", ["a"], {"promote_callback": print}),
        ("get_ttl", ["stale"], {}),
        ("get_ttl", ["a"], {"max_tiers": 1}),
        ("get_multi", [["a", "absent"]], {}),
        ("get_multi", [["a"]], {"ttl_skip": 1}),
        ("get_multi", [[]], {}),
        ("get_ttl_multi", [["a", "stale"]], {}),
        ("get_ttl_multi", [["a"]], {"max_tiers": 1}),
        ("contains", ["absent"], {}),
        ("contains", ["a", 100], {}),
        ("contains", ["a"], {"max_tiers": 1}),
        ("entry", ["a"], {}),
        ("explain", ["a"], {}),
        ("promote", ["a"], {}),
        ("put", ["a", 1, 60], {}),
        ("put_multi", [{}, 60], {}),
        ("add", ["a", 1, 60], {}),
        ("renew", ["a", 60], {}),
        ("expire", ["a"], {}),
        ("delete", ["a"], {}),
        ("delete_multi", [["a"]], {}),
        ("purge", [], {}),
        ("clear", [], {}),
        ("claim", ["a"], {}),
        ("close", [], {}),
    ],
)
def test_all_else_needs_a_thread(
    near: CacheClient, far: Gated, operation: str, arguments: Any, options: Any
) -> None:
    client = TieredInclusiveClient(near, far)
    client.put("a", 1, 60)
    client.put("stale", 1, -1)
    view = AsyncView(client, pool=Refusing(1))
    with pytest.raises(AssertionError, match="needs no thread"):
        asyncio.run(getattr(view, operation)(*arguments, **options))


def test_a_near_tier_that_fails_is_the_threads_affair(near: CacheClient, far: Gated) -> None:
    class Failing(TieredInclusiveClient):
        def near(self, key: Key) -> Entry | None:
            raise RuntimeError("near")

    far.gate.set()
    client = Failing(near, far)
    client.put("k", 1, 60)
    assert asyncio.run(client.aio.get("k")) == 1


def test_waiting_for_a_background_write_is_done_in_a_thread(
    near: CacheClient, pool: WorkerPool
) -> None:
    held = Held()

    class Slow(Wrapper):
        def store(self, *args: Any, **options: Any) -> bool:
            held()
            return super().store(*args, **options)

    client = AsyncWriteCacheClient(Slow(near))
    view = AsyncView(client, pool=pool)
    client.put("k", 1, 60)
    assert held.started.wait(20)

    async def main() -> None:
        assert await view.wait("another")
        assert not await view.wait("k", 0.001)
        waiting = asyncio.create_task(view.wait("k"))
        await asyncio.sleep(0)
        assert not waiting.done()
        held.go.set()
        assert await waiting
        await view.close()

    asyncio.run(main())
    assert near.get("k") == 1


# -- near() itself ---------------------------------------------------------------------


def test_near_never_asks_a_server_for_the_revision_of_a_namespace(
    near: CacheClient, far: Gated, clock: ManualClock
) -> None:
    tiers = TieredInclusiveClient(near, far)
    far.gate.set()
    wrapper = NamespaceWrapper("ns", tiers, recheck=1.0)
    mirror = NamespaceMirrorWrapper(wrapper, near)
    wrapper.put("k", 1, 60)
    assert asyncio.run(wrapper.aio.get("k")) == 1
    calls = far.calls
    assert asyncio.run(AsyncView(wrapper, pool=Refusing(1)).get("k")) == 1
    assert asyncio.run(AsyncView(mirror, pool=Refusing(1)).get("k")) == 1
    clock.advance(1.5)
    assert wrapper.near("k") is mirror.near("k") is None
    assert far.calls == calls
    assert asyncio.run(wrapper.aio.get("k")) == 1  # in a thread, which confirms it
    assert far.calls > calls
    near_entry = wrapper.near("k")
    assert near_entry is not None
    assert near_entry.value == 1


def test_a_mirror_of_a_shared_namespace_may_block(near: CacheClient, far: Gated) -> None:
    far.gate.set()
    assert NamespaceMirrorWrapper(NamespaceWrapper("ns", far), near).capabilities.blocking
    assert not NamespaceWrapper("ns", near).capabilities.blocking


@pytest.mark.parametrize("kind", [SyncAdapter, ReadWriteSyncAdapter])
def test_near_does_not_wait_for_a_lock_that_is_held_while_a_server_is_asked(
    near: CacheClient, far: Gated, kind: type[SyncAdapter]
) -> None:
    adapter = kind(TieredInclusiveClient(near, far))
    near.put("k", 1, 60)
    reader = threading.Thread(
        target=adapter.get,
        args=(
            "absent",
            None,
        ),
        daemon=True,
    )
    writer = threading.Thread(target=adapter.put, args=("k", 2, 60), daemon=True)
    reader.start()
    assert far.asked.acquire(timeout=20)
    writer.start()
    found: list[Any] = []
    asker = threading.Thread(target=lambda: found.append(adapter.near("k")), daemon=True)
    asker.start()
    asker.join(20)
    assert found == [None]
    far.gate.set()
    reader.join(20)
    writer.join(20)


# -- The loop goes on ------------------------------------------------------------------


def test_the_loop_goes_on_while_a_server_does_not_answer(far: Gated) -> None:
    async def main() -> list[str]:
        events: list[str] = []

        async def read() -> None:
            events.append("asks")
            events.append(await far.aio.get("k", "nothing"))

        async def tick() -> None:
            while not far.calls:
                await asyncio.sleep(0.001)
            events.append("ticks")
            await asyncio.sleep(0)
            events.append("ticks")
            far.gate.set()

        await asyncio.gather(read(), tick())
        return events

    assert asyncio.run(main()) == ["asks", "ticks", "ticks", "nothing"]


def test_errors_are_those_of_the_client(near: CacheClient) -> None:
    far = RemoteFake(near)

    async def main() -> None:
        with pytest.raises(CacheMissError, match="absent") as caught:
            await far.aio.get("absent")
        assert isinstance(caught.value, KeyError)
        with pytest.raises(CacheMissError):
            await far.aio.get_ttl("absent")
        with pytest.raises(TypeError, match="unhashable"):
            await far.aio.get([])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unhashable"):
            await far.aio.get_multi([[]])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="max_tiers must be a positive int, not 0"):
            await far.aio.get("k", max_tiers=0)
        with pytest.raises(TypeError, match="ttl must be"):
            await far.aio.put("k", 1, "soon")  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_miss_leaves_nothing_for_the_garbage_collector(near: CacheClient) -> None:
    far = RemoteFake(near)

    async def garbage() -> int:
        async def miss() -> None:
            try:
                await far.aio.get("absent")
            except CacheMissError:
                pass

        await miss()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await miss()
            return gc.collect()
        finally:
            gc.enable()

    # A thread that another test has left may let go of something in one round.
    assert min(asyncio.run(garbage()) for _ in range(3)) < 50


def test_a_client_that_was_awaited_is_freed_when_it_is_dropped(clock: ManualClock) -> None:
    client = RemoteFake(inproc(clock))
    pool = WorkerPool(1)
    assert asyncio.run(AsyncView(client, pool=pool).get("k", 1)) == 1
    assert asyncio.run(client.aio.get("k", max_tiers=1, default=1)) == 1
    lane = lane_of(client)
    assert pool.close(20)
    gone = weakref.ref(client)
    gc.disable()
    try:
        del client
        ends = SYSTEM_CLOCK.monotonic() + 20
        while gone() is not None:  # the thread that ended its job forgets it a moment later
            assert SYSTEM_CLOCK.monotonic() < ends
            lane.submit(lambda: None).result(20)
    finally:
        gc.enable()


def test_context_variables_are_carried(near: CacheClient) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    class Personal(RemoteFake):
        def inner_key(self, key: Key) -> Key:
            return (user.get(), key)

    client = Personal(near)

    async def write(name: str) -> None:
        user.set(name)
        await client.aio.put("k", name, 60)

    async def main() -> None:
        await asyncio.gather(*(write(f"user {number}") for number in range(50)))

    asyncio.run(main())
    assert near.get(("user 7", "k")) == "user 7"
    assert near.usage == 50


def test_what_is_given_is_taken_as_it_is_now(near: CacheClient) -> None:
    far = RemoteFake(near)

    async def main() -> None:
        items, keys = {"a": 1}, ["a"]
        writing = asyncio.create_task(far.aio.put_multi(items, 60))
        await asyncio.sleep(0)
        items["b"] = 2
        assert await writing == {"a": True}
        reading = asyncio.create_task(far.aio.get_multi(keys, None))
        deleting = asyncio.create_task(far.aio.delete_multi(keys))
        await asyncio.sleep(0)
        keys.append("c")
        assert set(await reading) == set(await deleting) == {"a"}

    asyncio.run(main())


# -- How many at a time ----------------------------------------------------------------


class Narrow(Gated):
    """Has three connections."""

    @property
    def concurrency(self) -> float:
        return 3


def test_a_thousand_calls_use_no_more_threads_than_there_are_connections(
    clock: ManualClock,
) -> None:
    far = Narrow(inproc(clock, 2000))
    far.put_multi({number: number for number in range(1000)}, 60)

    async def main() -> None:
        calls = [asyncio.create_task(far.aio.get(number)) for number in range(1000)]
        while far.calls < 3:
            await asyncio.sleep(0.001)
        far.gate.set()
        assert await asyncio.gather(*calls) == list(range(1000))

    asyncio.run(main())
    assert far.most == 3
    assert far.calls == 1000


def test_all_views_over_one_server_share_its_connections(clock: ManualClock) -> None:
    far = Narrow(inproc(clock))
    views = [
        far.aio,
        NamespaceWrapper("ns", far).aio,
        TieredInclusiveClient(inproc(clock), Wrapper(far)).aio,
    ]
    assert {id(view._off.lane) for view in views} == {id(lane_of(far))}
    assert lane_of(far).width == 3
    apart = AsyncView(far, concurrency=2)
    assert apart._off.lane is not lane_of(far)
    assert apart._off.lane.width == 2


def test_a_narrower_tier_narrows_what_all_share(clock: ManualClock) -> None:
    far = RemoteFake(inproc(clock))
    assert lane_of(far).width == 8
    tiers = TieredInclusiveClient(Narrow(inproc(clock)), far)
    assert tiers.concurrency == 3
    assert lane_of(tiers) is lane_of(far)
    assert lane_of(far).width == 3


def test_a_server_that_hangs_leaves_threads_to_the_others(far: Gated, clock: ManualClock) -> None:
    other = RemoteFake(inproc(clock))

    async def main() -> None:
        hanging = [asyncio.create_task(far.aio.get(number, None)) for number in range(100)]
        while far.calls < 8:
            await asyncio.sleep(0.001)
        assert await other.aio.put("k", 1, 60)
        assert await other.aio.get("k") == 1
        far.gate.set()
        await asyncio.gather(*hanging)

    asyncio.run(main())
    assert far.most == 8


def test_a_full_pool_is_waited_for(far: Gated) -> None:
    pool = WorkerPool(1, max_queue=1)
    held = Held()
    running = pool.submit(held)
    assert held.started.wait(20)
    queued = pool.submit(lambda: None)
    with pytest.raises(PoolRefuses):
        pool.submit(lambda: None)
    view = AsyncView(far, pool=pool)
    far.gate.set()

    async def main() -> None:
        calls = [asyncio.create_task(view.get(number, number)) for number in range(100)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        assert len(pool._jobs.waiting) == 1 + view._off.lane.width
        held.go.set()
        assert await asyncio.gather(*calls) == list(range(100))

    asyncio.run(main())
    assert running.result(20) == "done"
    queued.result(20)
    assert pool.close(20)


def test_a_loop_in_a_worker_of_the_same_pool_does_not_wait_for_itself(near: CacheClient) -> None:
    pool = WorkerPool(1)
    view = AsyncView(RemoteFake(near), pool=pool)
    assert pool.submit(lambda: asyncio.run(view.get("k", 1))).result(20) == 1
    assert pool.close(20)


# -- Loops -----------------------------------------------------------------------------


def test_several_loops_in_several_threads(clock: ManualClock) -> None:
    client = RemoteFake(inproc(clock, 1000))

    def work(number: int) -> int:
        async def main() -> int:
            keys = [(number, index) for index in range(50)]
            await asyncio.gather(*(client.aio.put(key, key[1], 60) for key in keys))
            return sum(await asyncio.gather(*(client.aio.get(key) for key in keys)))

        return asyncio.run(main())

    assert together(work, 6) == [sum(range(50))] * 6


def test_a_loop_that_is_closed_while_a_call_runs(
    far: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what other tests have left may be reported when it goes
    caplog.clear()
    loop = asyncio.new_event_loop()
    call = far.aio.get("k", None)
    task = loop.create_task(call)
    loop.run_until_complete(asyncio.sleep(0))
    assert far.asked.acquire(timeout=20)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    far.gate.set()
    assert asyncio.run(far.aio.get("k", 1)) == 1
    call.close()
    assert not unheard(caplog)


# -- Cancelled -------------------------------------------------------------------------


def test_a_cancelled_call_does_not_hold_its_task_and_breaks_nothing(
    far: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what other tests have left may be reported when it goes
    caplog.clear()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: list[Any] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        call = asyncio.create_task(far.aio.get("absent"))  # which will raise
        while not far.calls:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not far.gate.is_set()  # its thread still waits
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(far.aio.get("absent"), 0.001)
        far.gate.set()
        assert await far.aio.get("k", 1) == 1
        del call
        gc.collect()
        assert not told

    asyncio.run(main())
    assert not unheard(caplog)


def test_what_had_not_begun_when_it_was_cancelled_is_not_done(clock: ManualClock) -> None:
    far = Gated(inproc(clock))
    view = AsyncView(far, concurrency=1)

    async def main() -> None:
        first = asyncio.create_task(view.get("k", 1))
        while not far.calls:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(view.put("k", 2, 60))
        third = asyncio.create_task(view.get("k", 3))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        far.gate.set()
        assert list(await asyncio.gather(first, third)) == [1, 3]

    asyncio.run(main())


class Claiming(RemoteFake):
    """Takes its time to give a claim, and to take one back."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.held = Held()

    def claim(self, key: Key, ttl: float = 10.0) -> Any:
        claim = super().claim(key, ttl)
        if key == "slow":
            self.held()
        return claim


def test_a_claim_that_nobody_waits_for_any_more_is_given_back(clock: ManualClock) -> None:
    far = Claiming(inproc(clock))

    async def main() -> None:
        call = asyncio.create_task(far.aio.claim("slow", 1000))
        while not far.held.started.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        far.held.go.set()
        async with asyncio.timeout(20):
            while (claim := far.client.claim("slow", 1000)) is None:
                await asyncio.sleep(0.001)
        claim.release()

    asyncio.run(main())


def test_a_claim_is_released_even_by_a_task_that_is_cancelled_meanwhile(
    clock: ManualClock,
) -> None:
    far = Gated(inproc(clock))
    view = AsyncView(far, concurrency=1)

    async def main() -> None:
        claim = await view.claim("k", 1000)
        assert claim is not None
        reading = asyncio.create_task(view.get("other", None))  # has the only thread
        while not far.calls:
            await asyncio.sleep(0.001)
        leaving = asyncio.create_task(claim.release())
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        far.gate.set()
        await reading
        async with asyncio.timeout(20):
            while far.claim("k") is None:
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_a_claim_is_a_context_and_shows_itself(near: CacheClient) -> None:
    far = RemoteFake(near)

    async def main() -> None:
        async with await far.aio.claim("k") or pytest.fail("taken") as claim:
            assert await far.aio.claim("k") is None
            assert claim.key == "k"
            assert repr(claim) == f"<AsyncClaim {claim.token} of 'k'>"
            assert await claim.fill("v", 60, keep=1)
        assert claim.released
        assert not await claim.release()
        assert await far.aio.get("k") == "v"

    asyncio.run(main())


# -- Pools that end --------------------------------------------------------------------


def test_a_closed_pool_refuses_those_who_wait_and_those_who_come(clock: ManualClock) -> None:
    far = Gated(inproc(clock))
    pool = WorkerPool(2)
    view = AsyncView(far, pool=pool, concurrency=1)
    crowded = AsyncView(far, pool=pool, concurrency=3)

    async def main() -> None:
        running = asyncio.create_task(view.get("k", 1))
        in_line = asyncio.create_task(view.get("k", 2))
        others = [asyncio.create_task(crowded.get("k", 3)) for _ in range(5)]
        while far.calls < 2:
            await asyncio.sleep(0.001)
        assert not pool.close(0)
        far.gate.set()
        assert await running == 1
        with pytest.raises(PoolRefuses, match="was closed before it came to this"):
            await in_line
        with pytest.raises(PoolRefuses, match="is closed"):
            await view.get("k", 4)
        done = await asyncio.gather(*others, return_exceptions=True)
        assert done[0] == 3
        assert all(isinstance(one, PoolRefuses) for one in done[1:])
        # Who did the work tells of it before he has left the lane.
        while view._off.lane._out or crowded._off.lane._out:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert pool.close(20)


def test_arguments_that_cannot_be_right_are_refused(far: Gated, near: CacheClient) -> None:
    with pytest.raises(TypeError, match="pool must be a WorkerPool, not 3"):
        AsyncView(far, pool=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pool must have threads, not <WorkerPool 'tiered' of 0>"):
        AsyncView(far, pool=WorkerPool(0))
    with pytest.raises(ValueError, match="pool must have threads"):
        AsyncView(AsyncWriteCacheClient(near), pool=WorkerPool(0))
    AsyncView(near, pool=WorkerPool(0))
    for wrong in (0, 1.5, True, "2"):
        with pytest.raises((TypeError, ValueError), match="concurrency must be a whole number, 1"):
            AsyncView(far, concurrency=wrong)  # type: ignore[arg-type]
    assert repr(near.aio) == f"<AsyncView of {near!r}>"
