"""Callers who do not wait for ever: soft and hard timeouts, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import RemoteFake, inproc, together, until
from tiered import CacheMissError, ComputationTimeout, TieredInclusiveClient, WorkerPool, cached
from tiered.clients.base import CacheClient
from tiered.testing import ManualClock

SOON = 0.02
"""A timeout that is met: what is waited for comes only when the test says so."""
LATE = 20.0
"""A timeout that is not met."""


class Gate:
    """A function that waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, x: Any) -> tuple[Any, int]:
        self.calls.append(x)
        number = len(self.calls)
        assert self.open.wait(LATE)
        if self.error is not None:
            raise self.error
        return (x, number)


@pytest.fixture
def gate(pool: WorkerPool) -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(2, name="timeouts")
    yield pool
    assert pool.close(LATE)


@pytest.fixture(params=["near", "far"])
def client(request: pytest.FixtureRequest, clock: ManualClock) -> CacheClient:
    if request.param == "near":
        return inproc(clock)
    return TieredInclusiveClient(inproc(clock), RemoteFake(inproc(clock)))


def settle(pool: WorkerPool, gate: Gate, function: Any) -> None:
    """Let what is being computed end and be stored."""
    gate.open.set()
    until(lambda: not len(function._core.engine.flights))


def test_a_fast_function_is_as_without_timeouts(
    client: CacheClient, gate: Gate, pool: WorkerPool
) -> None:
    f = cached(client, 10, soft_timeout=10, hard_timeout=LATE, keep=5, pool=pool)(gate)
    assert f(1) == f(1) == (1, 1)
    assert f.refresh(1) == (1, 2)
    assert together(lambda _: f(2), 16) == [(2, 3)] * 16
    gate.error = ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        f(3)
    assert f.stats.timeouts == 0


def test_after_the_soft_timeout_a_stale_value_is_returned(
    client: CacheClient, clock: ManualClock, gate: Gate, pool: WorkerPool
) -> None:
    f = cached(client, 10, keep=60, soft_timeout=SOON, pool=pool)(gate)
    assert f(1) == (1, 1)
    clock.advance(11)
    gate.open.clear()
    assert f(1) == (1, 1)
    assert f(1) == (1, 1)
    until(lambda: len(gate.calls) == 2)
    with pytest.raises(CacheMissError):
        f.peek(1)
    settle(pool, gate, f)
    assert f(1) == (1, 2)  # it went on behind, and was stored
    assert len(gate.calls) == 2
    assert f.stats.stale == 2


def test_without_a_stale_value_the_hard_timeout_ends_the_wait(
    client: CacheClient, gate: Gate, pool: WorkerPool
) -> None:
    f = cached(client, 10, keep=5, soft_timeout=SOON / 2, hard_timeout=SOON, pool=pool)(gate)
    gate.open.clear()
    for _ in range(2):
        with pytest.raises(ComputationTimeout) as caught:
            f(1)
        assert isinstance(caught.value, TimeoutError)
        assert str(caught.value).endswith(f".Gate has taken longer than {SOON} s for 1")
    with pytest.raises(ComputationTimeout):
        f.future()(1).result(LATE)
    until(lambda: gate.calls)
    assert f.stats.timeouts == 3
    settle(pool, gate, f)
    # Also if all that comes next takes longer than a timeout: it is there by now.
    assert f(1) == (1, 1)
    assert len(gate.calls) == 1


@pytest.mark.parametrize("key", ["long" * 1000, 10**5000], ids=["long", "cannot be shown"])
def test_a_timeout_is_told_for_any_key(clock: ManualClock, pool: WorkerPool, key: Any) -> None:
    gate = Gate()
    gate.open.clear()
    f = cached(inproc(clock), 10, hard_timeout=SOON, pool=pool)(gate)
    with pytest.raises(ComputationTimeout, match=r"longer than 0\.02 s for .{1,50}$"):
        f(key)
    gate.open.set()


def test_a_value_that_is_kept_no_longer_does_not_stand_in(
    client: CacheClient, clock: ManualClock, gate: Gate, pool: WorkerPool
) -> None:
    options: dict[str, Any] = {"keep": 5, "namespace": "f", "pool": pool}
    # Computed without haste: on a machine that stalls, nothing is certain to end in time.
    assert cached(client, 10, **options)(gate)(1) == (1, 1)
    f = cached(client, 10, soft_timeout=SOON / 2, hard_timeout=SOON, **options)(gate)
    assert f(1) == (1, 1)
    clock.advance(15)
    gate.open.clear()
    with pytest.raises(ComputationTimeout):
        f(1)


def test_threads_time_out_together_and_one_computes(
    client: CacheClient, gate: Gate, pool: WorkerPool
) -> None:
    f = cached(client, 10, hard_timeout=SOON, pool=pool)(gate)
    gate.open.clear()
    results = together(lambda _: f(1), 16)
    assert all(isinstance(result, ComputationTimeout) for result in results)
    until(lambda: gate.calls)
    settle(pool, gate, f)
    assert gate.calls == [1]


def test_futures_time_out_without_holding_a_thread(clock: ManualClock, gate: Gate) -> None:
    pool = WorkerPool(3)  # two compute
    f = cached(inproc(clock), 10, keep=50, soft_timeout=SOON, hard_timeout=LATE, pool=pool)(gate)
    f(1)
    clock.advance(11)
    gate.open.clear()
    assert [f.future()(1).result(LATE) for _ in range(3)] == [(1, 1)] * 3  # bg rows: at once
    waiting = [f.future()(2) for _ in range(10)]
    assert pool.submit(lambda: "free").result(LATE) == "free"
    settle(pool, gate, f)
    assert {future.result(LATE)[0] for future in waiting} == {2}
    assert pool.close(LATE)


def test_a_closed_pool_means_that_the_caller_waits_for_himself(
    client: CacheClient, gate: Gate
) -> None:
    pool = WorkerPool(1)
    pool.close()
    f = cached(client, 10, hard_timeout=0.0, pool=pool)(gate)
    assert f(1) == (1, 1)
    assert f.future()(2).result(0) == (2, 2)


def test_a_pool_that_closes_hands_its_computations_back(client: CacheClient, gate: Gate) -> None:
    pool = WorkerPool(1)
    f = cached(client, 10, hard_timeout=LATE, pool=pool)(gate)
    gate.open.clear()
    results: list[Any] = []
    threads = [threading.Thread(target=lambda x=x: results.append(f(x))) for x in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(f._core.engine.flights) == 3)
    until(lambda: gate.calls)
    pool.close(timeout=0)
    gate.open.set()
    for thread in threads:
        thread.join(LATE)
    assert sorted(results) == [(0, 1), (1, 2), (2, 3)] or len(results) == 3


def test_workers_do_not_wait_for_each_other(clock: ManualClock) -> None:
    pool = WorkerPool(1)

    @cached(inproc(clock), 10, hard_timeout=LATE, pool=pool)
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(20) == 6765
    assert fibonacci.stats.computations == 21

    @cached(inproc(clock), 10, hard_timeout=LATE, pool=pool)
    def nested(n: int) -> int:
        return n and nested.future()(n - 1).result(LATE) + 1

    assert pool.close(LATE)
    assert nested(3) == 3


def test_a_function_may_ask_for_what_it_is_computing(client: CacheClient, pool: WorkerPool) -> None:
    depth: list[int] = []

    @cached(client, 10, hard_timeout=LATE, pool=pool)
    def f(x: int) -> int:
        depth.append(x)
        return f(x) + 1 if len(depth) < 3 else 0

    assert f(1) == 2


@pytest.mark.parametrize("kind", ["coroutine", "plain"])
def test_event_loops_time_out_alike(
    client: CacheClient, clock: ManualClock, pool: WorkerPool, gate: Gate, kind: str
) -> None:
    calls: list[int] = []
    open_: list[asyncio.Event] = []

    async def coroutine(x: int) -> tuple[int, int]:
        calls.append(x)
        number = len(calls)
        await open_[0].wait()
        return (x, number)

    def timed(soft: float, hard: float) -> Any:
        function: Any = gate if kind == "plain" else coroutine
        options: dict[str, Any] = {"soft_timeout": soft, "hard_timeout": hard}
        return cached(client, 10, keep=60, namespace="f", pool=pool, **options)(function)

    if kind == "plain":
        calls = gate.calls
    # What is to be in time is asked for with timeouts that no machine misses.
    f, patient = timed(SOON, 2 * SOON), timed(LATE / 2, LATE)
    core = f._core
    if kind == "plain":
        f, patient = f.aio, patient.aio

    def hold(closed: bool) -> None:
        if closed:
            gate.open.clear()
            open_[0].clear()
        else:
            gate.open.set()
            open_[0].set()

    async def main() -> None:
        open_.append(asyncio.Event())
        hold(False)
        assert await patient(1) == (1, 1)
        assert await f(1) == (1, 1)
        hold(True)
        for _ in range(2):
            with pytest.raises(ComputationTimeout):
                await f(2)
        while len(calls) < 2:
            await asyncio.sleep(0.001)
        hold(False)
        while len(core.engine.flights):
            await asyncio.sleep(0.001)
        assert calls == [1, 2]
        assert await f.peek(2) == (2, 2)
        clock.advance(11)
        hold(True)
        assert await f(1) == (1, 1)  # kept: at once, or after the soft timeout
        hold(False)
        while len(core.engine.flights):
            await asyncio.sleep(0.001)
        assert (await f(1))[1] == 3

    asyncio.run(asyncio.wait_for(main(), LATE))
