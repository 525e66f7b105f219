"""One computation in a whole cluster: processes, threads and tasks on one cold key."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together, waiting
from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient, cached
from tiered.cli.demo.server import PrivateMemcached

PATIENCE = 30.0

SPAWN = multiprocessing.get_context("spawn")


def far(address: str, prefix: str) -> MemcachedClient:
    return MemcachedClient([address], checksum_key=SECRET, prefix=prefix)


def ask(pipe: Connection, address: str, prefix: str, ledger: Path, options: dict[str, Any]) -> None:
    """A process that asks with 8 threads, or 8 tasks, when it is told to."""
    client = TieredInclusiveClient(InprocCacheClient(100), far(address, prefix))

    def noted(x: int) -> tuple[int, int]:
        with ledger.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return (x, os.getpid())

    if options.pop("tasks", False):

        @cached(client, 60, namespace="stampede", **options)
        async def g(x: int) -> tuple[int, int]:
            answer = noted(x)
            await asyncio.sleep(0.05)
            return answer

        async def crowd(x: int) -> list[Any]:
            return list(await asyncio.gather(*(g(x) for _ in range(8))))

        def call(x: int) -> list[Any]:
            return asyncio.run(crowd(x))

    else:
        dies = options.pop("dies", False)

        @cached(client, 60, namespace="stampede", **options)
        def f(x: int) -> tuple[int, int]:
            answer = noted(x)
            if dies:
                pipe.send("computing")
                time.sleep(PATIENCE)
            time.sleep(0.05)
            return answer

        def call(x: int) -> list[Any]:
            return together(lambda _: f(x), 8)

    pipe.send("ready")
    while (x := pipe.recv()) is not None:
        pipe.send(call(x))


class Process:
    """One of the cluster."""

    def __init__(self, address: str, prefix: str, ledger: Path, **options: Any) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(
            target=ask, args=(theirs, address, prefix, ledger, options), daemon=True
        )
        self.process.start()

    def hear(self) -> Any:
        assert self.pipe.poll(PATIENCE), "a process hangs"
        return self.pipe.recv()


@pytest.fixture
def cluster(memcached: PrivateMemcached, tmp_path: Path) -> Iterator[Any]:
    """Makes processes that share a server."""
    made: list[Process] = []
    prefix = unique_prefix()
    ledger = tmp_path / "ledger"
    ledger.touch()

    def make(count: int, **options: Any) -> list[Process]:
        new = [Process(memcached.address, prefix, ledger, **options) for _ in range(count)]
        made.extend(new)
        for one in new:
            assert one.hear() == "ready"
        return new

    make.ledger = ledger  # type: ignore[attr-defined]
    make.client = far(memcached.address, prefix)  # type: ignore[attr-defined]
    yield make
    for one in made:
        with contextlib.suppress(BrokenPipeError):
            one.pipe.send(None)
        one.process.join(1)
        one.process.kill()
        one.process.join(PATIENCE)


@pytest.mark.parametrize("tasks", [False, True])
def test_processes_compute_a_cold_key_once(cluster: Any, tasks: bool) -> None:
    processes = cluster(8, tasks=tasks)
    for x in (1, 2):
        for process in processes:
            process.pipe.send(x)
        answers = [answer for process in processes for answer in process.hear()]
        assert len(answers) == 64
        assert len(set(answers)) == 1
        assert answers[0][0] == x
    assert len(cluster.ledger.read_text().splitlines()) == 2


def test_a_holder_that_is_killed_is_replaced_when_its_claim_ends(cluster: Any) -> None:
    (victim,) = cluster(1, dies=True, claim_ttl=1)
    (waiter,) = cluster(1, claim_ttl=1)
    asked = time.monotonic()
    victim.pipe.send(1)
    assert victim.hear() == "computing"
    waiter.pipe.send(1)
    answered = waiter.pipe.poll(0.2)
    assert not answered or time.monotonic() - asked > 1  # or its claim has ended meanwhile
    os.kill(victim.process.pid, signal.SIGKILL)
    started = time.monotonic()
    answers = waiter.hear()
    # When its claim ends; usually they last for ten seconds. The machine may stall meanwhile.
    assert time.monotonic() - started < 8
    assert set(answers) == {(1, waiter.process.pid)}
    assert len(cluster.ledger.read_text().splitlines()) == 2


def test_a_holder_that_is_too_late_keeps_its_value_and_loses_the_write(
    memcached: PrivateMemcached,
) -> None:
    prefix = unique_prefix()
    started, go = threading.Event(), threading.Event()

    def slow(x: int) -> str:
        started.set()
        assert go.wait(PATIENCE)
        return "late"

    late = cached(far(memcached.address, prefix), 60, namespace="n", claim_ttl=0.1)(slow)
    other = cached(far(memcached.address, prefix), 60, namespace="n")(lambda x: "in time")
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(late(1)))
    thread.start()
    assert started.wait(PATIENCE)
    assert other(1) == "in time"  # as soon as the claim has ended
    go.set()
    thread.join(PATIENCE)
    assert answers == ["late"]
    assert other.client.get(1) == "in time"


def test_threads_and_tasks_wait_together_over_a_server(memcached: PrivateMemcached) -> None:
    calls: list[int] = []

    @cached(far(memcached.address, unique_prefix()), 60, namespace="n")
    def f(x: int) -> int:
        calls.append(x)
        time.sleep(0.05)
        return x

    async def main() -> None:
        tasks = [asyncio.create_task(f.aio(1)) for _ in range(64)]
        assert await asyncio.to_thread(together, lambda _: f(1), 64) == [1] * 64
        assert await asyncio.gather(*tasks) == [1] * 64

    asyncio.run(main())
    assert calls == [1]


def test_a_failure_is_heard_by_all_threads_and_tried_again_by_other_processes(
    memcached: PrivateMemcached,
) -> None:
    prefix = unique_prefix()
    calls: list[int] = []
    waiters = 20
    everybody = threading.Event()

    def fail(x: int) -> int:
        calls.append(x)
        # Who comes after a failure tries again: in each "process" all are there before it.
        deadline = time.monotonic() + PATIENCE
        while not everybody.is_set():
            if all(waiting(f) == waiters // 2 - 1 for f in (one, other)):
                everybody.set()
            assert time.monotonic() < deadline, "not all have come"
            time.sleep(0.001)
        raise ValueError("for all")

    one = cached(far(memcached.address, prefix), 60, namespace="n")(fail)
    other = cached(far(memcached.address, prefix), 60, namespace="n")(fail)
    results = together(lambda number: (one if number % 2 else other)(1), waiters)
    assert all(isinstance(result, ValueError) for result in results)
    assert len(results) == waiters
    assert len(calls) == 2  # one in each "process"
