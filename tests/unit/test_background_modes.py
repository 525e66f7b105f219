"""``f.bg()`` and ``f.future()``: who computes, who waits, and what is answered meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from tests.fakes import FailingClient, Held, RemoteFake, inproc, together
from tests.logs import of_this_thread
from tiered import CacheMissError, cached
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.concurrency.pool import WorkerPool
from tiered.testing import ManualClock


class Ledger:
    """A function whose answers are numbered, and that can be held up and made to fail."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.threads: list[int] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def __call__(self, x: Any) -> object:
        self.calls.append(x)
        self.threads.append(threading.get_ident())
        self.started.set()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return (x, len(self.calls))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def inline() -> WorkerPool:
    """Runs what is behind the caller at once, so that each test has one order of events."""
    return WorkerPool(0)


@pytest.fixture
def pool() -> Any:
    pool = WorkerPool(2, name="test")
    yield pool
    assert pool.close(20)


# -- bg ----------------------------------------------------------------------------


def test_bg_waits_for_a_miss_only(clock: ManualClock, ledger: Ledger, inline: WorkerPool) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    assert f.bg()(1) == (1, 1)
    assert f.bg()(1) == (1, 1)
    assert ledger.calls == [1]


def test_bg_serves_stale_values_and_refreshes_behind(
    clock: ManualClock, ledger: Ledger, inline: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    f(1)
    clock.advance(61)
    assert f.bg()(1) == (1, 1)
    assert f.bg()(1) == (1, 2)
    assert f.stats.stale == 1


@pytest.mark.parametrize("async_ttl", [20, -40])
def test_bg_refreshes_what_is_due(
    clock: ManualClock, ledger: Ledger, inline: WorkerPool, async_ttl: float
) -> None:
    f = cached(inproc(clock), 60, async_ttl=async_ttl, pool=inline)(ledger)
    f(1)
    clock.advance(39)
    assert f.bg()(1) == (1, 1)
    assert len(ledger.calls) == 1
    clock.advance(2)
    assert f(1) == (1, 1)  # a plain call takes what is fresh
    assert f.bg()(1) == (1, 1)
    assert f.bg()(1) == (1, 2)
    assert f.get_ttl(1)[1] == 60


def test_a_due_value_may_come_from_a_farther_tier(clock: ManualClock, inline: WorkerPool) -> None:
    server = inproc(clock)

    def node(name: str) -> Any:
        tiers = TieredInclusiveClient(inproc(clock), RemoteFake(server))
        return cached(tiers, 60, async_ttl=-30, namespace="f", pool=inline)(lambda x: name)

    ours, theirs = node("ours"), node("theirs")
    assert ours(1) == "ours"
    clock.advance(31)
    assert theirs.refresh(1) == "theirs"
    assert ours.bg()(1) == "ours"
    assert ours.bg()(1) == "theirs"
    assert ours.stats.computations == 1


def test_bg_lazy_misses_and_computes_behind(
    clock: ManualClock, ledger: Ledger, inline: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    with pytest.raises(CacheMissError):
        f.bg().lazy(1)
    assert f.bg().lazy(1) == (1, 1)
    clock.advance(61)
    with pytest.raises(CacheMissError):
        f.bg().lazy(1)
    assert f.bg().lazy(1) == (1, 2)


def test_bg_peek_never_computes(clock: ManualClock, ledger: Ledger, inline: WorkerPool) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    with pytest.raises(CacheMissError):
        f.bg().peek(1)
    f(1)
    assert f.bg().peek(1) == (1, 1)
    assert f.bg().get_ttl(1) == ((1, 1), 60)
    assert ledger.calls == [1]


def test_bg_changes_happen_behind(clock: ManualClock, ledger: Ledger, inline: WorkerPool) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    f.bg().refresh(1)
    assert f.peek(1) == (1, 1)
    f.bg().put(1, _cache_put="given")
    assert f.peek(1) == "given"
    f.bg().expire(1)
    assert f.get_ttl(1)[1] <= 0
    f.bg().invalidate(1)
    with pytest.raises(CacheMissError):
        f.get_ttl(1)


def test_bg_computes_in_the_pool_and_once(
    clock: ManualClock, ledger: Ledger, pool: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=pool)(ledger)
    f(1)
    clock.advance(61)
    ledger.started.clear()
    ledger.gate.clear()
    assert together(lambda _: f.bg()(1), 8) == [(1, 1)] * 8
    assert ledger.started.wait(20)
    ledger.gate.set()
    assert pool.close(20)
    assert len(ledger.calls) == 2
    assert ledger.threads[1] != threading.get_ident()
    assert f.peek(1) == (1, 2)


def test_who_needs_a_queued_value_computes_it(clock: ManualClock, ledger: Ledger) -> None:
    """The pool's only thread is busy; nobody may have to wait for it."""
    pool = WorkerPool(1)
    busy = Held()
    pool.submit(busy)
    assert busy.started.wait(20)
    f = cached(inproc(clock), 60, pool=pool)(ledger)
    with pytest.raises(CacheMissError):
        f.bg().lazy(1)
    assert f(1) == (1, 1)
    busy.go.set()
    assert pool.close(20)
    assert ledger.calls == [1]


def test_a_failure_behind_is_counted_and_logged_once(
    clock: ManualClock, ledger: Ledger, inline: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    f(1)
    clock.advance(61)
    ledger.error = ValueError("no")
    for _ in range(5):
        assert f.bg()(1) == (1, 1)
    assert f.stats.failures == 5
    ours = of_this_thread(caplog)
    assert len([r for r in ours if "failed behind its caller" in r.message]) == 1


def test_with_a_closed_pool_the_caller_computes(clock: ManualClock, ledger: Ledger) -> None:
    pool = WorkerPool(1)
    pool.close()
    f = cached(inproc(clock), 60, pool=pool)(ledger)
    assert f.bg()(1) == (1, 1)
    clock.advance(61)
    assert f.bg()(1) == (1, 1)
    assert f.peek(1) == (1, 2)
    assert f.future()(2).result(0) == (2, 3)
    assert f.future().refresh(2).result(0) == (2, 4)
    ledger.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        f.future().refresh(2).result(0)


# -- future ------------------------------------------------------------------------


def test_a_near_hit_is_a_future_that_is_done(clock: ManualClock, ledger: Ledger) -> None:
    class Untouched(WorkerPool):
        def submit(self, work: Any, *, delay: float = 0.0) -> Any:
            raise AssertionError("a hit needs no thread")

    f = cached(inproc(clock), 60, pool=Untouched(1))(ledger)
    f(1)
    future = f.future()(1)
    assert isinstance(future, Future)
    assert future.done()
    assert future.result() == (1, 1)


def test_future_computes_in_the_pool(clock: ManualClock, ledger: Ledger, pool: WorkerPool) -> None:
    f = cached(RemoteFake(inproc(clock)), 60, pool=pool)(ledger)
    assert f.future()(1).result(20) == (1, 1)
    assert f.future()(x=1).result(20) == (1, 1)
    assert ledger.threads[0] != threading.get_ident()
    assert len(ledger.calls) == 1


def test_future_modes(clock: ManualClock, ledger: Ledger, inline: WorkerPool) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    with pytest.raises(CacheMissError):
        f.future().peek(1).result()
    assert ledger.calls == []
    with pytest.raises(CacheMissError):
        f.future().lazy(1).result()
    assert f.future().lazy(1).result() == (1, 1)
    assert f.future().refresh(1).result() == (1, 2)
    assert f.future().put(1, _cache_put="given").result() is True
    assert f.future().get_ttl(1).result() == ("given", 60)
    assert f.future().expire(1).result() is True
    assert f.future()(1).result() == "given"  # stale, with a refresh behind
    assert f.future()(1).result() == (1, 3)
    assert f.future().invalidate(1).result() is True
    with pytest.raises(CacheMissError):
        f.future().get_ttl(1).result()


def test_futures_share_one_computation_without_holding_threads(
    clock: ManualClock, ledger: Ledger, pool: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=pool)(ledger)
    ledger.gate.clear()
    first = f.future()(1)
    assert ledger.started.wait(20)
    others = [f.future()(1) for _ in range(50)]
    # The other thread of the pool has put the fifty aside, and is free.
    assert pool.submit(lambda: "free").result(20) == "free"
    assert not first.done()
    ledger.gate.set()
    assert {future.result(20) for future in (first, *others)} == {(1, 1)}
    assert ledger.calls == [1]


def test_a_failure_is_in_every_future(clock: ManualClock, ledger: Ledger, pool: WorkerPool) -> None:
    f = cached(inproc(clock), 60, pool=pool)(ledger)
    ledger.gate.clear()
    ledger.error = ValueError("no")
    futures = [f.future()(1) for _ in range(10)]
    assert ledger.started.wait(20)
    pool.submit(lambda: None).result(20)
    ledger.gate.set()
    for future in futures:
        with pytest.raises(ValueError, match="no"):
            future.result(20)
    assert ledger.calls == [1]


def test_an_abandoned_flight_sends_its_futures_on(
    clock: ManualClock, ledger: Ledger, inline: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    flight, new = f._core.engine.flights.enter(1)
    assert new
    assert flight.begin()
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(f.future()(1)))
    thread.start()
    thread.join(20)
    assert not results[0].done()
    f._core.engine.flights.finish(1, flight)
    flight.abandon()
    assert results[0].result(20) == (1, 1)


def test_a_running_future_is_not_one_waiters_to_cancel(
    clock: ManualClock, ledger: Ledger, pool: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=pool)(ledger)
    ledger.gate.clear()
    future = f.future()(1)
    assert ledger.started.wait(20)
    assert not future.cancel()
    ledger.gate.set()
    assert future.result(20) == (1, 1)


# -- The cache never breaks the call -------------------------------------------------


def test_calls_without_a_key_run_without_the_cache(
    clock: ManualClock, ledger: Ledger, inline: WorkerPool
) -> None:
    f = cached(inproc(clock), 60, pool=inline)(ledger)
    assert f.bg()([1]) == ([1], 1)
    assert f.future()([1]).result() == ([1], 2)
    for look in (f.bg().peek, f.bg().lazy):
        with pytest.raises(CacheMissError):
            look([1])
    with pytest.raises(CacheMissError):
        f.future().peek([1]).result()


def test_a_failing_client_is_a_miss(clock: ManualClock, ledger: Ledger, inline: WorkerPool) -> None:
    client: CacheClient = FailingClient(inproc(clock), OSError("down"))
    f = cached(client, 60, pool=inline)(ledger)
    assert f.bg()(1) == (1, 1)
    assert f.future()(1).result() == (1, 2)


class Account:
    """Methods have these modes too."""

    cache = InprocCacheClient(10)
    inline = WorkerPool(0)

    @cached(cache, 60, pool=inline)
    def balance(self, x: int) -> int:
        return x * 2


def test_the_modes_of_a_method_are_bound() -> None:
    account = Account()
    with pytest.raises(CacheMissError):
        account.balance.bg().lazy(2)
    assert account.balance.bg()(2) == 4
    assert account.balance.bg().peek(2) == 4
    assert account.balance.future()(2).result() == 4
    assert account.balance.future().put(2, _cache_put=5).result()
    assert account.balance(2) == 5


def test_a_pool_must_be_one(clock: ManualClock) -> None:
    with pytest.raises(TypeError, match="pool must be a WorkerPool, not 8"):
        cached(inproc(clock), 60, pool=8)(lambda x: x)  # type: ignore[arg-type]
