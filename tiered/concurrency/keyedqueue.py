"""Work by key, in the background: one job of a key at a time, and only the newest that waits.

What this guarantees:

- Jobs of one key never run together and never out of order. A job that waits is replaced by a
  newer one of its key, and keeps its place in the line.
- :meth:`KeyedQueue.exclusive` is for whoever has to do something with a key here and now: the
  job that waits is taken out and given to him, the one that runs is waited for, and no other
  one starts before he is done.
- The number of keys that wait is bounded; :meth:`KeyedQueue.put` refuses more.
- Threads are made on first use. They know the queue, not who made it: when that one is gone,
  they finish what is queued, and end.

The lock guards the two tables, and is never held while a job runs.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tiered.clock import SYSTEM_CLOCK

__all__ = ["Job", "KeyedQueue"]


class Job(NamedTuple):
    """Something to do, and what it is about, for those who ask meanwhile.

    Attributes:
        subject: e.g. the entry that is to be written.
        run: does it; a false answer or an exception is a failure.
        cancel: called instead if it is replaced or taken out for good.
    """

    subject: Any
    run: Callable[[], bool]
    cancel: Callable[[], object]


class KeyedQueue:
    """Up to *workers* threads for the jobs of up to *size* keys.

    Args:
        size: keys that may wait.
        workers: threads.
        name: they are called after it.
        failed: ``failed(key, error)`` hears of jobs that raised *error*, or with ``None`` that
            answered with false.
        lost: ``lost(count)`` hears of jobs that :meth:`drain` gave up.
        patience: seconds that the interpreter's exit waits for what is queued.

    Threads: safe.
    """

    def __init__(
        self,
        size: int,
        workers: int,
        *,
        name: str,
        failed: Callable[[Hashable, Exception | None], object],
        lost: Callable[[int], object],
        patience: float,
    ) -> None:
        self.patience = patience
        self.process = os.getpid()
        self._size = size
        self._workers = workers
        self._name = name
        self._failed = failed
        self._lost = lost
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, Job] = {}
        self._running: dict[Hashable, Job | None] = {}  # None: somebody does it himself
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._retired = False
        self.done = 0
        _queues.add(self)

    def __len__(self) -> int:
        """Keys that wait, or whose job runs."""
        with self._changed:
            return len(self._waiting) + sum(job is not None for job in self._running.values())

    def subject(self, key: Hashable, default: Any) -> Any:
        """What the newest job of *key* is about, until it is done; else *default*."""
        if not self._waiting and not self._running:
            return default
        with self._changed:
            job = self._waiting.get(key) or self._running.get(key)
        return default if job is None else job.subject

    def put(self, key: Hashable, job: Job) -> Job | bool:
        """Do *job*, soon: ``True``, or the job that it replaces; ``False`` if that many wait."""
        with self._changed:
            replaced = self._waiting.get(key)
            if replaced is None and (len(self._waiting) >= self._size or self._retired):
                return False
            self._waiting[key] = job
            if replaced is None:
                self._call_worker()
                return True
        replaced.cancel()
        return replaced

    @contextmanager
    def exclusive(self, key: Hashable) -> Iterator[Job | None]:
        """Alone with *key*; the job that was waiting, if one was, is the caller's now."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._running)
            self._running[key] = None
            job = self._waiting.pop(key, None)
        try:
            yield job
        finally:
            self._over(key)

    def wait(self, key: Hashable, timeout: float | None = None) -> bool:
        """Until nothing of *key* waits or runs; ``False`` after *timeout* seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: key not in self._waiting and key not in self._running, timeout
            )

    def discard(self, key: Hashable, kind: type) -> None:
        """Cancel the job of *key* that waits, if its subject is of that *kind*."""
        with self._changed:
            job = self._waiting.get(key)
            if job is None or not isinstance(job.subject, kind):
                return
            del self._waiting[key]
            self._changed.notify_all()
        job.cancel()

    def clear(self) -> None:
        """Cancel what waits, and wait for what runs."""
        self._drop()
        with self._changed:
            running = list(self._running)
            self._changed.wait_for(lambda: not any(key in self._running for key in running))

    def drain(self, timeout: float) -> None:
        """Until all is done; what waits or runs after *timeout* seconds is given up."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._running, timeout)
            left = len(self._running)
        left += self._drop()
        if left:
            self._lost(left)

    def retire(self) -> None:
        """Take no more; the threads end when all is done."""
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def _drop(self) -> int:
        with self._changed:
            dropped = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        for job in dropped:
            job.cancel()
        return len(dropped)

    # -- Workers ---------------------------------------------------------------

    def _call_worker(self) -> None:
        if self._idle < len(self._waiting) and len(self._threads) < self._workers:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._retired or self._next() is not None)
                self._idle -= 1
                key = self._next()
                if key is None:
                    if self._waiting:  # of keys that somebody is alone with
                        self._changed.wait()
                        continue
                    return
                job = self._running[key] = self._waiting.pop(key)
            self._do(key, job)
            del job

    def _next(self) -> Hashable | None:
        return next((key for key in self._waiting if key not in self._running), None)

    def _do(self, key: Hashable, job: Job) -> None:
        try:
            self.perform(key, job)
        finally:
            self._over(key)

    def perform(self, key: Hashable, job: Job) -> None:
        """Run *job*, for whoever is alone with *key*; a failure is counted, and goes no further."""
        try:
            done = job.run()
        except Exception as error:
            self._failed(key, error)
            return
        if done:
            self.done += 1
        else:
            self._failed(key, None)

    def _over(self, key: Hashable) -> None:
        with self._changed:
            del self._running[key]
            self._changed.notify_all()


_queues: weakref.WeakSet[KeyedQueue] = weakref.WeakSet()


@atexit.register
def _drain_all() -> None:
    """At exit, what is queued is done, within each queue's patience."""
    started = SYSTEM_CLOCK.monotonic()
    for queue in list(_queues):
        if queue.process != os.getpid():
            continue  # the parent's, whose lock may be held by a thread that is not here
        queue.drain(max(0.0, started + queue.patience - SYSTEM_CLOCK.monotonic()))
