"""Work by key, in the background: one job of a key at a time, and only the newest that waits.

What this guarantees:

- Jobs of one key never run together and never out of order. A job that waits is replaced by a
  newer one of its key, and keeps its place in the line.
- :meth:`KeyedQueue.exclusive` is for whoever has to do something with a key here and now: the
  job that waits is taken out and given to him, the one that runs is waited for, and no other
  one starts before he is done.
- The number of keys that wait is bounded; :meth:`KeyedQueue.put` refuses more.
- A conditional job does not replace an unconditional one that waits, but follows it: if its
  condition fails, what came before it is done all the same.
- Threads are made on first use. They know the queue, not who made it: when that one is gone,
  they finish what is queued, and end.

The lock guards the tables, and is never held while a job runs.
"""

from __future__ import annotations

import atexit
import contextlib
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
        run: does it; ``False`` or an exception is a failure, ``None`` says that the job's
            condition did not hold.
        cancel: called instead if it is replaced or taken out for good.
        conditional: :meth:`KeyedQueue.withdraw` takes it out.
        before: the unconditional job that it follows.
    """

    subject: Any
    run: Callable[[], bool | None]
    cancel: Callable[[], object]
    conditional: bool = False
    before: Job | None = None


class _Crew:
    """The threads between two drains. Threads: guarded by the queue's lock."""

    def __init__(self) -> None:
        self.size = 0
        self.idle = 0


class KeyedQueue:
    """Up to *workers* threads for the jobs of up to *size* keys.

    Args:
        size: keys that may wait.
        workers: threads.
        name: they are called after it.
        failed: ``failed(key, error)`` hears of jobs that raised *error*, or with ``None`` that
            answered with ``False``.
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
        failed: Callable[[Hashable, BaseException | None], object],
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
        self._running: dict[Hashable, Job | None] = {}  # None: somebody does without a job
        self._crew = _Crew()
        self._retired = False
        self.done = 0
        _queues.add(self)

    def __len__(self) -> int:
        """Keys that wait, or whose job runs."""
        with self._changed:
            return len(self._waiting) + sum(job is not None for job in self._running.values())

    def subject(self, key: Hashable, default: Any) -> Any:
        """What the newest job of *key* is about, until it is done; else *default*."""
        # Without the lock: a job is among the running before it leaves the waiting ones.
        if not self._waiting and not self._running:
            return default
        with self._changed:
            job = self._waiting.get(key) or self._running.get(key)
        return default if job is None else job.subject

    def busy(self, key: Hashable) -> bool:
        """Whether something of *key* waits or runs."""
        with self._changed:
            return key in self._waiting or key in self._running

    def unfinished(self) -> list[tuple[Hashable, Any]]:
        """What jobs are about that wait or run as of now, by key; a key can be there twice."""
        with self._changed:
            tables = (self._running, self._waiting)
            return [(key, job.subject) for table in tables for key, job in table.items() if job]

    def put(self, key: Hashable, job: Job) -> Job | bool:
        """Do *job*, soon.

        Returns:
            ``True``; or the job that was replaced, which the caller has to cancel; or
            ``False`` if the queue takes no more.
        """
        with self._changed:
            replaced = self._waiting.get(key)
            if replaced is None:
                if self._retired or len(self._waiting) >= self._size or not self._manned():
                    return False
                self._waiting[key] = job
                self._changed.notify_all()
                return True
            if job.conditional:
                before = replaced.before if replaced.conditional else replaced
                self._waiting[key] = job._replace(before=before)
                return replaced if replaced.conditional else True
            self._waiting[key] = job
            return replaced

    @contextmanager
    def exclusive(self, key: Hashable) -> Iterator[Job | None]:
        """Alone with *key*; the job that was waiting, if one was, is the caller's now."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._running)
            job = self._take(key)
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

    def withdraw(self, key: Hashable) -> None:
        """Cancel the conditional job of *key* that waits; what came before it is done."""
        with self._changed:
            job = self._waiting.get(key)
            if job is None or not job.conditional:
                return
            if job.before is None:
                del self._waiting[key]
            else:
                self._waiting[key] = job.before
            self._changed.notify_all()
        job.cancel()

    def clear(self) -> None:
        """Cancel what waits, and wait for what runs."""
        with self._changed:
            dropped = self._dropped()
            running = list(self._running)
            self._changed.wait_for(lambda: not any(key in self._running for key in running))
        for job in dropped:
            job.cancel()

    def drain(self, timeout: float) -> None:
        """Until all is done; what waits or runs after *timeout* seconds is given up.

        What runs cannot be stopped: it is no longer counted, and its key stays taken until it
        has ended, so that it does not come after what is done later. The threads end.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._running, timeout)
            running = [key for key, job in self._running.items() if job is not None]
            self._running.update(dict.fromkeys(running))
            self._crew = _Crew()
            dropped = self._dropped()
        for job in dropped:
            job.cancel()
        left = len(running) + len(dropped)
        if left:
            self._lost(left)

    def retire(self) -> None:
        """Take no more; the threads end when all is done."""
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def _dropped(self) -> list[Job]:
        """What waited, which waits no more; to be cancelled without the lock."""
        dropped = list(self._waiting.values())
        self._waiting.clear()
        self._changed.notify_all()
        return dropped

    # -- Workers ---------------------------------------------------------------

    def _manned(self) -> bool:
        """Whether a thread will take one more job; calls one if that is due."""
        crew = self._crew
        if crew.idle > len(self._waiting) or crew.size >= self._workers:
            return True
        name = f"{self._name}-{crew.size}"
        thread = threading.Thread(target=self._work, args=(crew,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more, or the interpreter is about to end
            return crew.size > 0
        crew.size += 1
        return True

    def _work(self, crew: _Crew) -> None:
        while True:
            with self._changed:
                crew.idle += 1
                self._changed.wait_for(lambda: self._dismissed(crew) or self._due())
                crew.idle -= 1
                if self._dismissed(crew):
                    return
                (key,) = self._due()
                job = self._take(key)
            assert job is not None
            # Whatever it raised is counted, and must not cost the queue its thread.
            with contextlib.suppress(BaseException):
                self.perform(key, job)
            self._over(key)
            del job  # or it would live until the next one comes

    def _dismissed(self, crew: _Crew) -> bool:
        """Whether *crew* is to end: what waits is another crew's, or nothing will ever wait."""
        return self._crew is not crew or (self._retired and not self._waiting)

    def _due(self) -> tuple[Hashable, ...]:
        """The key whose job is next, or nothing; in a tuple, as ``None`` is a key too."""
        return next(((key,) for key in self._waiting if key not in self._running), ())

    def _take(self, key: Hashable) -> Job | None:
        job = self._waiting.get(key)
        self._running[key] = job  # first: see subject()
        self._waiting.pop(key, None)
        return job

    def perform(self, key: Hashable, job: Job) -> None:
        """Run *job*, for whoever is alone with *key*; failures are counted.

        Raises:
            BaseException: what is no ``Exception``, after it was counted.
        """
        for each in (job.before, job):
            if each is None:
                continue
            error: BaseException | None = None
            done: bool | None = False
            try:
                done = each.run()
            except BaseException as raised:
                error = raised
            with self._changed:
                counts = self._running.get(key) is job  # else it was given up, and counted so
                self.done += bool(counts and done)
            if counts and done is False:
                self._failed(key, error)
            if error is not None and not isinstance(error, Exception):
                raise error

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
        queue.retire()  # what other exit handlers put from now on, they write themselves
        queue.drain(max(0.0, started + queue.patience - SYSTEM_CLOCK.monotonic()))
