"""A bounded pool of worker threads for what is done behind a caller's back.

The standard library's executor runs everything that is queued before the
interpreter may exit, and its queue has no bound. This one refuses when it is full,
drops what is queued at exit, and waits there a moment for what is running. Its
threads are made on first use, renewed after a fork, and end when the pool is
dropped: they know the queue, not the pool.

Threads that all wait for what is queued behind them would wait for ever. So a worker
that waits for a future of a pool, or says that it waits for something else
(:meth:`WorkerPool.blocked`), does not count meanwhile: another thread stands in for it.
"""

from __future__ import annotations

import atexit
import contextvars
import heapq
import itertools
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency import fork
from tiered.validation import check_number

__all__ = ["PoolFuture", "PoolRefuses", "WorkerPool", "default_pool", "settle"]

T = TypeVar("T")

_EXIT_PATIENCE = 2.0


class PoolFuture(Future[T]):
    """A future whose waiters, where they are workers of a pool, let another one stand in."""

    def result(self, timeout: float | None = None) -> T:
        if self.done():
            return super().result()
        with WorkerPool.blocked():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self.done():
            return super().exception()
        with WorkerPool.blocked():
            return super().exception(timeout)


class PoolRefuses(RuntimeError):
    """The pool takes no more: the caller has to do the work, or drop it."""


_Job: TypeAlias = tuple[Future[Any], Callable[[], Any]]
_this_thread = threading.local()


class _Jobs:
    """The queue, and the threads that take from it; ``changed`` guards all fields."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.changed = threading.Condition()
        self.waiting: deque[_Job] = deque()
        self.later: list[tuple[float, int, _Job]] = []  # a heap, by the time when a job is due
        self.serials = itertools.count()
        self.threads: list[threading.Thread] = []
        self.limit = limit
        self.idle = 0
        self.blocked = 0
        self.closed = False

    def run(self) -> None:
        """A worker's life."""
        _this_thread.jobs = self
        while True:
            with self.changed:
                if len(self.threads) > self.limit + self.blocked:
                    self.threads.remove(threading.current_thread())
                    return  # it stood in for one that goes on
                self.idle += 1
                while not self._ready() and not self.closed:
                    self.changed.wait(self._patience())
                self.idle -= 1
                if not self.waiting:
                    return
                future, work = self.waiting.popleft()
            settle(future, work)
            del future, work  # or they would live until the next job comes

    def _ready(self) -> bool:
        """Whether a job waits, the ones that have become due among them."""
        while self.later and self.later[0][0] <= SYSTEM_CLOCK.monotonic():
            self.waiting.append(heapq.heappop(self.later)[2])
        return bool(self.waiting)

    def employ(self) -> None:
        """See that a thread comes for what is queued, if there may be one more."""
        if self.idle >= max(len(self.waiting), 1):
            return
        if len(self.threads) < self.limit + self.blocked:
            # The thread is given the queue alone, so that it does not hold the pool.
            name = f"{self.name}-{next(self.serials)}"
            thread = threading.Thread(target=self.run, name=name, daemon=True)
            self.threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # the machine has no more, or the interpreter exits
                self.threads.remove(thread)
                if not self.threads:
                    raise

    def add(self, job: _Job, delay: float) -> None:
        """Queue *job*, and see that a thread comes for it."""
        due = (SYSTEM_CLOCK.monotonic() + delay, next(self.serials), job)
        if delay > 0:
            heapq.heappush(self.later, due)
        else:
            self.waiting.append(job)
        try:
            self.employ()
        except RuntimeError as error:
            if delay > 0:
                self.later.remove(due)
                heapq.heapify(self.later)
            else:
                self.waiting.pop()
            raise PoolRefuses(f"the pool {self.name!r} has no thread: {error}") from error

    def _patience(self) -> float | None:
        return self.later[0][0] - SYSTEM_CLOCK.monotonic() if self.later else None

    def close(self) -> None:
        """Take no more, and drop what is queued."""
        with self.changed:
            self.closed = True
            dropped = [*self.waiting, *(job for _, _, job in self.later)]
            self.waiting.clear()
            self.later.clear()
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

    Threads: safe. A job runs in a copy of the context (:mod:`contextvars`) that submitted it.
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
        self._jobs = _Jobs(self.name, self.workers)
        self._jobs.closed = self._closed
        self._forgotten = weakref.finalize(self, self._jobs.close)
        self._forgotten.atexit = False

    @property
    def inline(self) -> bool:
        """Whether jobs run in the thread that submits them."""
        return not self.workers

    @staticmethod
    def in_worker() -> bool:
        """Whether this is a thread of a pool."""
        return hasattr(_this_thread, "jobs")

    @staticmethod
    @contextmanager
    def blocked() -> Iterator[None]:
        """While this thread waits for what may need a worker: if it is one, another stands in."""
        jobs: _Jobs | None = getattr(_this_thread, "jobs", None)
        if jobs is None:
            yield
            return
        with jobs.changed:
            jobs.blocked += 1
            if jobs.waiting or jobs.later:
                jobs.employ()
        try:
            yield
        finally:
            with jobs.changed:
                jobs.blocked -= 1

    def submit(self, work: Callable[[], T], *, delay: float = 0.0) -> Future[T]:
        """Run *work* in a thread of the pool, not before *delay* seconds have passed.

        Without threads, a delayed job runs at once.

        Raises:
            PoolRefuses: the pool is closed, too many jobs wait already, or no thread can be had.
        """
        return self._submit(work, delay, self._max_queue)

    def submit_anyway(self, work: Callable[[], T]) -> Future[T]:
        """The same however many wait, for those who see to it themselves that they are few."""
        return self._submit(work, 0.0, math.inf)

    def _submit(self, work: Callable[[], T], delay: float, max_queue: float) -> Future[T]:
        future: Future[T] = PoolFuture()
        jobs = self._jobs
        if not self.workers:
            if jobs.closed:
                raise PoolRefuses(f"the pool {self.name!r} is closed")
            settle(future, work)
            return future
        run = contextvars.copy_context().run
        job: _Job = (future, lambda: run(work))
        with jobs.changed:
            if jobs.closed:
                raise PoolRefuses(f"the pool {self.name!r} is closed")
            queued = len(jobs.waiting) + len(jobs.later)
            if queued >= max_queue:
                raise PoolRefuses(f"{queued} jobs wait for the pool {self.name!r}")
            jobs.add(job, delay)
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
        threads = list(jobs.threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - SYSTEM_CLOCK.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def __repr__(self) -> str:
        return f"<WorkerPool {self.name!r} of {self.workers}>"


def settle(future: Future[T], work: Callable[[], T]) -> None:
    """Do *work* for *future*, unless that was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = work()
    except BaseException as error:
        future.set_exception(error)
        del future, work  # the error's traceback has this frame: they would hold one another
    else:
        future.set_result(value)


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


_default_pool = WorkerPool(name="tiered")


def default_pool() -> WorkerPool:
    """The pool of all that were not given one; its threads start on first use."""
    return _default_pool
