"""Many calls at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.fakes import RecordingClient, RemoteFake, inproc, together, until
from tiered import (
    CacheMissError,
    ComputationTimeout,
    MultiResult,
    TieredInclusiveClient,
    WorkerPool,
    cached,
)
from tiered.clients.base import CacheClient
from tiered.concurrency.flight import Flight
from tiered.testing import ManualClock


@pytest.fixture(params=["near", "far"])
def client(request: pytest.FixtureRequest, clock: ManualClock) -> CacheClient:
    if request.param == "near":
        return inproc(clock)
    return TieredInclusiveClient(inproc(clock), RemoteFake(inproc(clock)))


class Squares:
    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, x: int) -> int:
        self.calls.append(x)
        if x < 0:
            raise ValueError(f"{x} is negative")
        return x * x


@pytest.fixture
def squares() -> Squares:
    return Squares()


def test_what_is_missing_is_computed_once_each(client: CacheClient, squares: Squares) -> None:
    f = cached(client, 60)(squares)
    assert f(3) == 9
    result = f.multi([1, 2, 3, 2, 1])
    assert result == {1: 1, 2: 4, 3: 9}
    assert list(result) == [1, 2, 3]
    assert squares.calls == [3, 1, 2]
    assert f.multi(iter([3, 4])) == {3: 9, 4: 16}
    assert f.multi([]) == {}
    assert squares.calls == [3, 1, 2, 4]
    assert len(f._core.engine.flights) == 0


def test_one_failure_leaves_the_others_their_values(client: CacheClient, squares: Squares) -> None:
    f = cached(client, 60)(squares)
    result = f.multi([1, -1, 2])
    assert isinstance(result, MultiResult)
    assert result == {1: 1, 2: 4}
    assert set(result.errors) == {-1}
    assert -1 not in result
    with pytest.raises(ValueError, match="-1 is negative"):
        result[-1]
    with pytest.raises(KeyError):
        result[99]
    assert "errors=" in repr(result)
    assert "errors" not in repr(f.multi([1]))


def test_equal_items_are_one_call(client: CacheClient, squares: Squares) -> None:
    f = cached(client, 60)(squares)
    assert f.multi([1, True, 1.0]) == {1: 1}
    assert squares.calls == [1]
    g = cached(client, 60, key=lambda x: x % 10, namespace="g")(squares)
    assert g.multi([1, 11, 2]) == {1: 1, 11: 1, 2: 4}
    assert squares.calls == [1, 1, 2]


def test_items_stand_for_calls(client: CacheClient) -> None:
    @cached(client, 60)
    def one(pair: Any) -> Any:
        return pair

    @cached(client, 60)
    def two(x: int, y: int = 5) -> Any:
        return (x, y)

    assert one.multi([(1, 2), "ab"]) == {(1, 2): (1, 2), "ab": "ab"}
    assert two.multi([(1, 2), (3,), 4]) == {(1, 2): (1, 2), (3,): (3, 5), 4: (4, 5)}
    assert two(4) == (4, 5)
    assert two.stats.computations == 3
    with pytest.raises(TypeError, match="positional argument"):
        two.multi([(1, 2, 3)])
    assert cached(client, 60, namespace="max")(max).multi([(1, 2)]) == {(1, 2): 2}


def test_methods(client: CacheClient) -> None:
    class Service:
        @cached(client, 60, ignore=("self",))
        def read(self, x: int) -> int:
            return x * 2

    assert Service().read.multi([1, 2]) == {1: 2, 2: 4}
    assert Service().read.multi.peek([1]) == {1: 2}


def test_each_tier_is_asked_once(clock: ManualClock, squares: Squares) -> None:
    near = RecordingClient(inproc(clock))
    far = RecordingClient(RemoteFake(inproc(clock)))
    f = cached(TieredInclusiveClient(near, far), 60)(squares)
    for x in range(10):
        f(x)
    near.client.clear()
    near.calls.clear()
    far.calls.clear()
    assert f.multi(range(10)) == {x: x * x for x in range(10)}
    assert [call[0] for call in far.calls] == ["entries"]
    assert [call[0] for call in near.calls].count("entries") == 1
    assert f.multi.peek(range(10)) == {x: x * x for x in range(10)}
    assert [call[0] for call in far.calls] == ["entries"]


def test_what_misses_is_not_asked_for_again(clock: ManualClock, squares: Squares) -> None:
    client = RecordingClient(inproc(clock))
    f = cached(client, 60)(squares)
    f.multi(range(10))
    assert [call[0] for call in client.calls if call[0].startswith("entr")] == ["entries"]


def test_every_operation(client: CacheClient, clock: ManualClock, squares: Squares) -> None:
    f = cached(client, 60)(squares)
    peeked = f.multi.peek([1, 2])
    assert peeked == {}
    assert isinstance(peeked.errors[1], CacheMissError)
    with pytest.raises(CacheMissError):
        peeked[1]
    assert f.multi.lazy([1]) == {}
    assert f.multi.put({1: 10, 2: 20}) == {1: True, 2: True}
    assert f.multi([1, 2]) == {1: 10, 2: 20}
    assert f.multi.get_ttl([1, 2, 3]) == {1: (10, 60), 2: (20, 60)}
    assert f.multi.refresh([1, -1]) == {1: 1}
    assert set(f.multi.refresh([1, -1]).errors) == {-1}
    assert f.multi.expire([1, 3]) == {1: True, 3: False}
    assert f.multi.peek([1, 2]) == {2: 20}
    assert f.multi.get_ttl([1])[1][1] < 0
    assert f.multi.invalidate([1, 2, 3]) == {1: True, 2: True, 3: False}
    assert f.multi.get_ttl([1, 2]) == {}
    for nothing in (f.multi.put({}), f.multi.invalidate([]), f.multi.refresh([])):
        assert nothing == {}


def test_calls_without_a_key_are_computed(client: CacheClient) -> None:
    @cached(client, 60)
    def total(*numbers: Any) -> int:
        return sum(map(sum, numbers))

    class Item(tuple[Any, ...]):
        __hash__ = object.__hash__  # hashable here, and its contents are not

    items = [Item(([1, 2],)), Item(([3],))]
    assert list(total.multi(items).values()) == [3, 3]
    assert total.multi.peek(items) == {}
    assert total.multi.get_ttl(items) == {}
    assert list(total.multi.invalidate(items).values()) == [False, False]
    assert total.stats.computations == 2


def test_a_function_may_ask_for_what_the_others_are(client: CacheClient) -> None:
    calls: list[int] = []

    @cached(client, 60)
    def fibonacci(n: int) -> int:
        calls.append(n)
        return n if n < 2 else sum(fibonacci.multi([n - 1, n - 2]).values())

    assert fibonacci.multi(range(20, -1, -1))[20] == 6765
    assert len(calls) == 21


def test_a_function_may_await_what_its_turn_has_not_come_for(client: CacheClient) -> None:
    pool = WorkerPool(1)
    calls: list[int] = []

    @cached(client, 60, pool=pool)
    def f(x: int) -> int:
        calls.append(x)
        return asyncio.run(f.aio(x - 1)) + 1 if x else 0

    assert f.multi([5, 4, 3, 2, 1, 0]) == {x: x for x in range(6)}
    assert sorted(calls) == [0, 1, 2, 3, 4, 5]
    assert pool.close(20)


def test_threads_share_computations(client: CacheClient) -> None:
    calls: list[int] = []
    lock = threading.Lock()

    @cached(client, 60)
    def f(x: int) -> int:
        with lock:
            calls.append(x)
        return x * 2

    def ask(number: int) -> Any:
        items = list(range(20))
        if number % 2:
            items.reverse()
        return f.multi(items) if number % 3 else {x: f(x) for x in items}

    assert together(ask, 12) == [{x: x * 2 for x in range(20)}] * 12
    assert sorted(calls) == list(range(20))


def test_an_interruption_leaves_nothing_behind(client: CacheClient) -> None:
    calls: list[int] = []

    @cached(client, 60)
    def f(x: int) -> int:
        calls.append(x)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        f.multi(range(5))
    assert len(f._core.engine.flights) == 0
    assert f.multi(range(5)) == {x: x for x in range(5)}


def test_timeouts_are_per_call(client: CacheClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(4)
    alone, release = threading.Event(), threading.Event()

    @cached(client, 60, hard_timeout=0.05, pool=pool)
    def f(x: int) -> int:
        if x == 2:
            until(lambda: len(f._core.engine.flights) == 1)
            alone.set()
            assert release.wait(20)
        return x

    wait = Flight.wait

    def patient(flight: Flight, timeout: float | None = None) -> bool:
        """Has the time begin when nobody else computes: a machine that stalls takes longer."""
        until(lambda: flight.ended or alone.is_set())
        return wait(flight, timeout)

    monkeypatch.setattr(Flight, "wait", patient)
    result = f.multi([0, 1, 2])
    assert result == {0: 0, 1: 1}
    assert isinstance(result.errors[2], ComputationTimeout)
    release.set()
    assert pool.close(20)


def test_coroutine_functions_compute_together(client: CacheClient) -> None:
    running: list[int] = []
    everybody: list[asyncio.Event] = []

    @cached(client, 60)
    async def f(x: int) -> int:
        running.append(x)
        if len(running) == 5:
            everybody[0].set()
        await everybody[0].wait()
        if x == 3:
            raise ValueError("three")
        return x * 2

    async def main() -> None:
        everybody.append(asyncio.Event())
        result = await f.multi(range(5))
        assert result == {0: 0, 1: 2, 2: 4, 4: 8}
        assert set(result.errors) == {3}
        assert await f.multi.peek(range(5)) == result
        assert await f.multi.lazy([0]) == {0: 0}
        assert await f.multi.put({7: 7}) == {7: True}
        assert (await f.multi.get_ttl([7]))[7] == (7, 60)
        assert await f.multi.refresh([7]) == {7: 14}
        assert await f.multi.expire([7]) == {7: True}
        assert await f.multi.invalidate([7]) == {7: True}
        assert len(f._core.engine.flights) == 0

    asyncio.run(asyncio.wait_for(main(), 20))
