"""Races that were lost once: who asks after a change never gets what was there before it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fakes import RemoteFake, inproc
from tiered import InprocCacheClient, TieredInclusiveClient, WorkerPool, cached
from tiered.clients.base import CacheClient
from tiered.clients.wrapper import Wrapper
from tiered.concurrency.flight import Flights
from tiered.concurrency.outcome import Outcome
from tiered.testing import ManualClock
from tiered.typing import Key


class Deleting(Wrapper):
    """Runs a function right before something is removed."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.before: Any = lambda: None

    def discard(self, key: Key) -> bool:
        self.before()
        return super().discard(key)


@pytest.mark.parametrize("act", ["invalidate", "clear"])
def test_a_flight_that_found_the_old_value_is_not_joined_after_the_change(
    clock: ManualClock, act: str
) -> None:
    client = Deleting(inproc(clock))
    f = cached(client, 60)(lambda x: len(answers))
    answers: list[Any] = []
    f(1)
    engine = f._core.engine
    joined: list[Any] = []

    def join() -> None:
        flight, new = engine.flights.enter(1)  # somebody asks, and finds what is still there
        assert new
        flight.begin()
        joined.append(flight)

    if act == "invalidate":
        client.before = join
        assert f.invalidate(1)
    else:
        space = f._core.space.namespace
        assert space is not None
        renew = space.state.renew

        def joined_before() -> None:
            join()
            renew()

        space.state.renew = joined_before  # type: ignore[method-assign]
        f.clear()
    answers.append("newer")
    assert f(1) == 1
    joined[0].land(Outcome(0))


def test_a_second_change_waits_for_the_write_that_the_first_one_waits_for() -> None:
    flights = Flights()
    flight, _ = flights.enter("k")
    flight.begin()
    writing, go = threading.Event(), threading.Event()
    events: list[str] = []

    def write() -> None:
        writing.set()
        assert go.wait(20)
        events.append("written")

    def supersede() -> None:
        flights.supersede("k")
        events.append("superseded")

    threads = [threading.Thread(target=lambda: flight.publish(write))]
    threads[0].start()
    assert writing.wait(20)
    for _ in range(2):
        threads.append(threading.Thread(target=supersede))
        threads[-1].start()
    while len(flights._leaving.get("k", ())) < 1:
        pass
    go.set()
    for thread in threads:
        thread.join(20)
    assert events == ["written", "superseded", "superseded"]
    assert not flights._leaving
    assert not flight.publish(write)


def test_a_flight_is_dismissed_only_while_it_is_the_one() -> None:
    flights = Flights()
    first, _ = flights.enter("k")
    assert flights.dismiss("k", first)
    assert not first.publish(lambda: pytest.fail("it was dismissed"))
    second, new = flights.enter("k")
    assert new
    assert not flights.dismiss("k", first)
    assert flights.enter("k") == (second, False)
    assert second.publish(lambda: None)
    assert not flights.dismiss("another", second)


def test_an_abandoned_flight_writes_nothing() -> None:
    flights = Flights()
    flight, _ = flights.enter("k")
    flight.begin()
    flights.drop("k", flight)
    assert not flight.publish(lambda: pytest.fail("it was given up"))


@pytest.mark.parametrize("kind", ["near", "far"])
@pytest.mark.parametrize("options", [{}, {"hard_timeout": 20.0}])
def test_every_mode_at_once(kind: str, options: dict[str, Any]) -> None:
    """Six keys, all modes, nested calls and two workers: nothing hangs and nothing is old."""
    memory = InprocCacheClient(1000)
    client: CacheClient = memory
    if kind == "far":
        client = TieredInclusiveClient(InprocCacheClient(1000), RemoteFake(memory))
    pool = WorkerPool(2)
    keys = range(6)
    versions = [0 for _ in keys]
    floors = [0 for _ in keys]
    errors: list[Any] = []
    dice = random.Random(7)
    end = time.monotonic() + 1.0

    @cached(client, 3600, pool=pool, **options)
    def f(k: int) -> int:
        version = versions[k]
        how, other = dice.randrange(12), dice.randrange(6)
        if how == 0:
            f(other)
        elif how == 1:
            f.future()(other).result(20)
        elif how == 2:
            f.multi([other, (other + 1) % 6])
        elif how == 3:
            asyncio.run(asyncio.wait_for(f.aio(other), 20))
        elif how == 4:
            time.sleep(0.001)
        return version

    def ask() -> None:
        calls: list[Any] = [
            f,
            f.bg(),
            f.refresh,
            lambda k: f.future()(k).result(20),
            lambda k: f.multi([k])[k],
        ]
        while time.monotonic() < end:
            k = dice.randrange(6)
            floor = floors[k]
            answer = dice.choice(calls)(k)
            if answer < floor:
                errors.append((k, floor, answer))

    async def loop() -> None:
        async def ask() -> None:
            while time.monotonic() < end:
                k = dice.randrange(6)
                floor = floors[k]
                answer = await asyncio.wait_for(f.aio(k), 20)
                if answer < floor:
                    errors.append((k, floor, answer))

        await asyncio.gather(*(ask() for _ in range(6)))

    def change() -> None:
        while time.monotonic() < end:
            k = dice.randrange(6)
            versions[k] += 1
            f.invalidate(k)
            floors[k] = versions[k]
            time.sleep(0.001)

    def watched(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    works: list[Any] = [ask, ask, ask, change, lambda: asyncio.run(loop())]
    threads = [threading.Thread(target=watched, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    while len(f._core.engine.flights):
        pass
    assert pool.close()


# -- Keys and callbacks that misbehave in the middle of a miss ---------------------------------


class FailsOnce:
    """A key whose hash fails once: the time that ``fails_at`` tells."""

    hashed = 0
    fails_at = 0

    def __hash__(self) -> int:
        FailsOnce.hashed += 1
        if FailsOnce.hashed == FailsOnce.fails_at:
            raise ValueError("just this once")
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FailsOnce)


@pytest.mark.parametrize("fails_at", range(1, 25))
@pytest.mark.parametrize("awaits", [False, True])
def test_a_key_that_fails_once_breaks_no_call_and_keeps_nobody_waiting(
    fails_at: int, awaits: bool
) -> None:
    client = InprocCacheClient(10)

    async def awaited(x: Any) -> str:
        return "value"

    def plain(x: Any) -> str:
        return "value"

    f: Any = cached(client, 60)(awaited if awaits else plain)

    async def call() -> Any:
        return await asyncio.wait_for(f(FailsOnce()) if awaits else f.aio(FailsOnce()), 20)

    FailsOnce.hashed, FailsOnce.fails_at = 0, fails_at
    try:
        assert asyncio.run(call()) == "value"
    finally:
        FailsOnce.fails_at = 0
    client.clear()
    assert asyncio.run(call()) == "value"


class FailsAtRandom:
    """A key whose hash and comparison fail now and then."""

    chance = random.Random(11)
    rate = 0.0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        self._maybe_fail()
        return hash(self.number) & 3

    def __eq__(self, other: object) -> bool:
        self._maybe_fail()
        return isinstance(other, FailsAtRandom) and other.number == self.number

    def _maybe_fail(self) -> None:
        if self.chance.random() < self.rate:
            raise ValueError("now and then")


@pytest.mark.parametrize("tiers", [1, 2])
def test_keys_that_fail_at_random_break_no_call(tiers: int, monkeypatch: Any) -> None:
    client: CacheClient = InprocCacheClient(20)
    if tiers > 1:
        client = TieredInclusiveClient(InprocCacheClient(5), client)
    plain: Any = cached(client, 60, namespace="plain")(lambda x: x.number)
    rich: Any = cached(
        client,
        60,
        namespace="rich",
        async_ttl=59.99,
        keep=10,
        stale_if_error=True,
        cache_errors={KeyError: 5},
        early_refresh=True,
        pool=WorkerPool(0),
    )(lambda x: x.number)
    monkeypatch.setattr(FailsAtRandom, "rate", 0.03)
    for step in range(4000):
        number = FailsAtRandom.chance.randrange(30)
        call = (plain, rich, rich.bg())[step % 3]
        assert call(FailsAtRandom(number)) == number


@pytest.mark.parametrize("awaits", [False, True])
def test_a_callback_of_the_store_may_ask_for_what_is_being_stored(awaits: bool) -> None:
    asked: list[Any] = []

    def weigher(key: Any, value: Any) -> float:
        if not asked:
            asked.append(None)
            asked.append(f(1) if not awaits else asyncio.run(f.aio(1)))
        return 1

    f: Any = cached(InprocCacheClient(10, weigher=weigher), 60)(lambda x: f"value of {x}")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(f, 1).result(20) == "value of 1"
    assert asked == [None, "value of 1"]
    assert f(1) == "value of 1"
