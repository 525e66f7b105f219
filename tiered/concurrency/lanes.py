"""A share of a pool: so many jobs of one kind at a time, the others in line.

A pool's queue is one line for all. Whoever has a thousand jobs at once would have all
threads, and more of them together than what they use can bear (the connections to a
server). Here they wait in a line of their own; each that ends sends the next one to the
end of the pool's.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tiered.concurrency import fork
from tiered.concurrency.pool import PoolRefuses, WorkerPool, settle

__all__ = ["Lane"]

T = TypeVar("T")


class _Job(NamedTuple):
    future: Future[Any]
    context: contextvars.Context
    work: Callable[[], Any]


class Lane:
    """Up to *width* threads of *pool* at a time.

    Args:
        pool: with threads; its bound on what may be queued does not hold for lanes, which
            have no more than their width in its queue.
        width: 1 or more.

    Threads: safe, and in forked children. A job runs in a copy of the context that
    submitted it.
    """

    def __init__(self, pool: WorkerPool, width: int) -> None:
        self.pool = pool
        self.width = width
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """What waits and runs is the parent's work."""
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._out = 0  # turns that are in the pool, queued or running

    def narrow(self, width: int) -> None:
        """No more than *width* from now on; what runs already goes on."""
        with self._lock:
            self.width = min(self.width, width)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run *work* when it is its turn; a job that is cancelled before that never runs.

        Raises:
            PoolRefuses: the pool is closed. Those who wait in line then find their futures
                cancelled.
        """
        future: Future[T] = Future()
        job = _Job(future, contextvars.copy_context(), work)
        with self._lock:
            self._waiting.append(job)
            if self._out >= self.width:
                return future
            self._out += 1
        try:
            self._send()
        except PoolRefuses:
            self._drop()
            raise
        return future

    def _send(self) -> None:
        turn = self.pool.submit_anyway(self._turn)
        turn.add_done_callback(lambda turn: self._drop() if turn.cancelled() else None)

    def _turn(self) -> None:
        """Do the first in line, and see to the rest."""
        with self._lock:
            job = self._waiting.popleft() if self._waiting else None
        if job is not None:
            settle(job.future, partial(job.context.run, job.work))
        del job  # an exception in it holds the frames that it passed, and this one
        with self._lock:
            if not self._waiting or self._out > self.width:
                self._out -= 1
                return
        try:
            self._send()
        except PoolRefuses:
            self._drop()

    def _drop(self) -> None:
        """The pool was closed: cancel all who wait."""
        with self._lock:
            self._out -= 1
            dropped = list(self._waiting)
            self._waiting.clear()
        for job in dropped:
            job.future.cancel()
            job.future.set_running_or_notify_cancel()
