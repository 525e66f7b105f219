"""The worker pool: bounded, lazy, dropped without a trace."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from tests.fakes import Held
from tiered.concurrency.pool import PoolRefuses, WorkerPool


def test_it_runs_jobs_in_named_threads() -> None:
    pool = WorkerPool(2, name="named")
    assert not pool._jobs.threads
    names = {pool.submit(lambda: threading.current_thread().name).result(10) for _ in range(10)}
    assert names <= {"named-0", "named-1"}
    assert pool.close(10)
    assert repr(pool) == "<WorkerPool 'named' of 2>"


def test_it_never_has_more_threads_than_allowed() -> None:
    pool = WorkerPool(3)
    barrier = threading.Barrier(4)
    futures = [pool.submit(barrier.wait) for _ in range(3)]
    waiting = pool.submit(lambda: "ran")
    assert len(pool._jobs.threads) == 3
    barrier.wait(10)
    assert waiting.result(10) == "ran"
    for future in futures:
        future.result(10)
    assert pool.close(10)


def test_a_failure_is_in_the_future() -> None:
    pool = WorkerPool(1)

    def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        pool.submit(fail).result(10)
    assert pool.submit(lambda: 1).result(10) == 1  # the thread lives on
    pool.close()


def test_a_full_queue_refuses() -> None:
    pool = WorkerPool(1, max_queue=1)
    held = Held()
    running = pool.submit(held)
    held.started.wait(10)
    queued = pool.submit(lambda: 2)
    with pytest.raises(PoolRefuses, match="1 jobs wait"):
        pool.submit(lambda: 3)
    held.go.set()
    running.result(10)
    assert queued.result(10) == 2
    pool.close()


def test_closing_drops_what_is_queued_and_waits_for_what_runs() -> None:
    pool = WorkerPool(1)
    held = Held()
    running = pool.submit(held)
    held.started.wait(10)
    queued = pool.submit(lambda: "never")
    assert not pool.close(timeout=0.0)
    with pytest.raises(CancelledError):
        queued.result(10)
    with pytest.raises(PoolRefuses, match="closed"):
        pool.submit(lambda: 1)
    held.go.set()
    assert running.result(10) == "done"
    assert pool.close(timeout=10)


def test_a_cancelled_job_does_not_run() -> None:
    pool = WorkerPool(1)
    held = Held()
    pool.submit(held)
    held.started.wait(10)
    ran: list[int] = []
    queued = pool.submit(lambda: ran.append(1))
    assert queued.cancel()
    held.go.set()
    pool.submit(lambda: None).result(10)
    assert ran == []
    pool.close()


def test_without_workers_a_job_runs_at_once() -> None:
    pool = WorkerPool(0)
    ran: list[str] = []
    pool.submit(lambda: ran.append(threading.current_thread().name))
    assert ran == [threading.current_thread().name]
    pool.close()
    with pytest.raises(PoolRefuses):
        pool.submit(lambda: None)


def test_a_dropped_pool_ends_its_threads() -> None:
    pool = WorkerPool(2)
    pool.submit(lambda: None).result(10)
    threads = list(pool._jobs.threads)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_finished_job_is_not_kept() -> None:
    class Payload:
        pass

    pool = WorkerPool(1)
    payload: Any = Payload()
    gone = weakref.ref(payload)
    future: Future[Any] | None = pool.submit(lambda kept=payload: None)  # type: ignore[misc]
    assert future is not None
    future.result(10)
    del payload, future
    pool.submit(lambda: None).result(10)
    gc.collect()
    assert gone() is None
    pool.close()


def test_after_a_fork_it_starts_anew() -> None:
    pool = WorkerPool(1)
    pool.submit(lambda: None).result(10)
    old = pool._jobs
    pool.after_fork()
    assert not pool._jobs.threads
    assert pool.submit(lambda: 5).result(10) == 5
    old.close()
    pool.close()
    pool.after_fork()
    with pytest.raises(PoolRefuses):
        pool.submit(lambda: None)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"workers": -1}, ValueError), ({"workers": "8"}, TypeError), ({"max_queue": 0}, ValueError)],
)
def test_what_cannot_be_right_is_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="must be"):
        WorkerPool(**options)


def test_a_machine_without_threads_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(2)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        for delay in (0.0, 5.0):
            with pytest.raises(PoolRefuses, match="can't start new thread"):
                pool.submit(lambda: 1, delay=delay)
    assert not pool._jobs.threads
    assert not pool._jobs.waiting
    assert not pool._jobs.later
    assert pool.submit(lambda: 2).result(10) == 2
    held = Held()
    running = pool.submit(held)
    held.started.wait(10)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        waits = pool.submit(lambda: 3)  # for the thread that there is
    held.go.set()
    assert (running.result(10), waits.result(10)) == ("done", 3)
    assert pool.close(10)


def test_who_is_few_is_queued_even_if_the_queue_is_full() -> None:
    pool = WorkerPool(1, max_queue=1)
    held = Held()
    pool.submit(held)
    held.started.wait(10)
    pool.submit(lambda: None)
    late = pool.submit_anyway(lambda: "late")
    with pytest.raises(PoolRefuses):
        pool.submit(lambda: None)
    held.go.set()
    assert late.result(10) == "late"
    assert pool.close(10)
    with pytest.raises(PoolRefuses, match="closed"):
        pool.submit_anyway(lambda: None)
