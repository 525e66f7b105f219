"""A bounded pool of worker threads for what is done behind a caller's back.

The standard library's executor runs everything that is queued before the
interpreter may exit, and its queue has no bound. This one refuses when it is full,
drops what is queued at exit, and waits there a moment for what is running. Its
threads are made on first use, renewed after a fork, and end when the pool is
dropped: they know the queue, not the pool.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency import fork
from tiered.validation import check_number

__all__ = ["PoolRefuses", "WorkerPool"]

T = TypeVar("T")

_EXIT_PATIENCE = 2.0


class PoolRefuses(RuntimeError):
    """The pool is closed or its queue is full: the caller has to do the work, or drop it."""


class _Jobs:
    """The queue, and the threads that take from it; ``changed`` guards all fields."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changed = threading.Condition()
        self.waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.threads: list[threading.Thread] = []
        self.idle = 0
        self.closed = False

    def run(self) -> None:
        """A worker's life."""
        while True:
            with self.changed:
                self.idle += 1
                self.changed.wait_for(lambda: self.waiting or self.closed)
                self.idle -= 1
                if not self.waiting:
                    return
                future, work = self.waiting.popleft()
            _settle(future, work)
            del future, work  # or they would live until the next job comes

    def close(self) -> None:
        """Take no more, and drop what is queued."""
        with self.changed:
            self.closed = True
            dropped = list(self.waiting)
            self.waiting.clear()
            self.changed.notify_all()
        for future, _ in dropped:
            future.cancel()
            future.set_running_or_notify_cancel()


class WorkerPool:
    """Up to *workers* threads.

    Args:
        workers: how many; 0 runs each job at once in the thread that submits it, which
            makes a test's order of events its own.
        name: of the pool; its threads are called after it.
        max_queue: jobs that may wait for a thread.

    Threads: safe.
    """

    def __init__(self, workers: int = 8, *, name: str = "tiered", max_queue: int = 10_000) -> None:
        self.workers = int(check_number("workers", workers, low=0, hint="0 or more"))
        self.name = name
        self._max_queue = check_number("max_queue", max_queue, low=1, hint="1 or more")
        self._closed = False
        self._forgotten: weakref.finalize[..., WorkerPool] | None = None
        _pools.add(self)
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """None of the threads is in this process, and what was queued is the parent's work."""
        if self._forgotten is not None:
            self._forgotten.detach()  # a thread of the parent may hold the old queue's lock
        self._jobs = _Jobs(self.name)
        self._jobs.closed = self._closed
        self._forgotten = weakref.finalize(self, self._jobs.close)
        self._forgotten.atexit = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run *work* in a thread of the pool.

        Raises:
            PoolRefuses: the pool is closed, or too many jobs wait already.
        """
        future: Future[T] = Future()
        jobs = self._jobs
        if not self.workers:
            if jobs.closed:
                raise PoolRefuses(f"the pool {self.name!r} is closed")
            _settle(future, work)
            return future
        with jobs.changed:
            if jobs.closed:
                raise PoolRefuses(f"the pool {self.name!r} is closed")
            if len(jobs.waiting) >= self._max_queue:
                raise PoolRefuses(f"{len(jobs.waiting)} jobs wait for the pool {self.name!r}")
            jobs.waiting.append((future, work))
            if jobs.idle < len(jobs.waiting) and len(jobs.threads) < self.workers:
                # The thread is given the queue alone, so that it does not hold the pool.
                name = f"{self.name}-{len(jobs.threads)}"
                thread = threading.Thread(target=jobs.run, name=name, daemon=True)
                jobs.threads.append(thread)
                thread.start()
            jobs.changed.notify()
        return future

    def close(self, timeout: float = _EXIT_PATIENCE) -> bool:
        """Drop what is queued, wait for what is running; whether all of it has ended.

        Args:
            timeout: seconds to wait, for all threads together.
        """
        self._closed = True
        jobs = self._jobs
        jobs.close()
        deadline = SYSTEM_CLOCK.monotonic() + timeout
        for thread in jobs.threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - SYSTEM_CLOCK.monotonic()))
        return not any(thread.is_alive() for thread in jobs.threads)

    def __repr__(self) -> str:
        return f"<WorkerPool {self.name!r} of {self.workers}>"


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(value)


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        pool.close()
