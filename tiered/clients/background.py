"""Writes in the background: a put returns at once, and reads see what is on its way."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from tiered.clients.base import (
    ALWAYS,
    ANY,
    CacheClient,
    Claim,
    Condition,
    Entry,
    Search,
)
from tiered.clients.explanation import Explanation
from tiered.clients.wrapper import Wrapper
from tiered.concurrency import fork
from tiered.concurrency.keyedqueue import Job, KeyedQueue
from tiered.entry import time_left
from tiered.stats.counters import ClientStats
from tiered.stats.reports import Reports
from tiered.typing import Key
from tiered.validation import check_count, check_number

__all__ = ["AsyncWriteCacheClient", "AsyncWriteStats"]


@dataclass(frozen=True, slots=True)
class AsyncWriteStats(ClientStats):
    """The counts of a client that writes in the background.

    Attributes:
        queued: keys whose write waits or runs just now.
        written: writes that were done in the background.
        coalesced: writes that a newer one of the same key made needless.
        overflows: writes that the caller had to do because the queue was full.
        failures: background writes that raised, were refused, or were given up at the end.
    """

    queued: int = 0
    written: int = 0
    coalesced: int = 0
    overflows: int = 0
    failures: int = 0


class AsyncWriteCacheClient(Wrapper):
    """*client*, with its puts in the background.

    A put is queued by key: a newer one replaces what still waits, and a key's writes are done
    one after the other. Reads through this object see what is queued. So a value is kept as it
    was given until it is written; it must not be changed meanwhile.

    Only unconditional writes wait. ``delete``, ``expire``, ``renew``, ``add``, ``clear`` and
    their kin take the key's queued write out of the queue (or finish it, where their answer
    depends on it) and act in the caller's thread: an invalidation that has returned, has
    happened, and nothing that was queued before it comes back after it. A claim's ``fill`` is
    queued too, and checked when it is written.

    When the queue is full, a put is done in the caller's thread. Nothing is lost by that, and
    who writes more than the servers take is slowed down to what they do. Failures are counted
    in :attr:`stats` and logged once per interval.

    Args:
        client: where to write; closed together with this one.
        queue_size: keys that may wait.
        workers: threads that write; made on first use.
        close_timeout: seconds for which :meth:`close`, and the interpreter's exit, wait for
            what is queued; what is not written by then is given up, and counted as failed.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: safe. A client that is dropped without ``close`` still has its queue written. A
    forked child starts with an empty queue: what the parent queued, the parent writes.
    """

    def __init__(
        self,
        client: CacheClient,
        queue_size: int = 1000,
        workers: int = 2,
        *,
        close_timeout: float = 5.0,
    ) -> None:
        super().__init__(client)
        self.queue_size: Final = check_count("queue_size", queue_size, low=1)
        self.workers: Final = check_count("workers", workers, low=1)
        self.close_timeout: Final = check_number(
            "close_timeout", close_timeout, low=0.0, hint="seconds, 0 or more"
        )
        self._losses = _Losses(repr(client), Reports("tiered.clients", self.clock))
        self._coalesced = 0
        self._overflows = 0
        self._written = 0
        self._filling = threading.local()
        self._forgotten: weakref.finalize[..., Any] | None = None
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """An empty queue, with threads of its own."""
        if self._forgotten is not None:
            self._forgotten.detach()  # a thread of the parent may hold the old queue's lock
        self._new_queue()

    def _new_queue(self) -> None:
        self._queue = KeyedQueue(
            self.queue_size,
            self.workers,
            name="tiered-writes",
            failed=self._losses.failed,
            lost=self._losses.lost,
            patience=self.close_timeout,
        )
        self._forgotten = weakref.finalize(self, self._queue.retire)
        self._forgotten.atexit = False

    # -- Writing in the background -----------------------------------------------

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        client = self.client
        if condition is not ALWAYS:
            with self._finished(key):
                return client.store(key, value, deadline, keep=keep, condition=condition)
        claim: Claim | None = getattr(self._filling, "claim", None)

        def write() -> bool:
            if claim is None:
                return client.store(key, value, deadline, keep=keep)
            held: list[bool] = []

            def fill() -> bool:
                held.append(True)
                return client.store(key, value, deadline, keep=keep)

            try:
                # A claim that was lost loses the write, as it should: that is no failure.
                return claim.use(fill) or not held
            finally:
                claim.release()

        if claim is not None:
            self._filling.taken = True
        if claim is None:
            job = Job(Entry(value, deadline), write, _nothing)
        else:
            job = Job(_Fill(value, deadline), write, claim.release)
        answer = self._queue.put(key, job)
        if answer is False:
            self._overflows += 1
            self._losses.report("overflow", "the queue of %s is full: callers write for themselves")
            with self._queue.exclusive(key) as older:
                if older is not None:
                    older.cancel()
                return write()
        self._coalesced += answer is not True
        return True

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        return {key: self.store(key, value, deadline, keep=keep) for key, value in items.items()}

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        inner = self.client.claim(key, ttl)
        if inner is None:
            return None
        handed_over: list[bool] = []

        def use(fill: Callable[[], bool]) -> bool:
            """Let the store that *fill* comes to be queued under the claim, if it holds.

            It is asked about now as well as when the value is written: what is queued is
            seen by readers, and what was computed before a delete must not be.
            """
            if handed_over or not inner.use(lambda: True):
                return False
            self._filling.claim, self._filling.taken = inner, False
            try:
                return fill()
            finally:
                if self._filling.taken:
                    handed_over.append(True)
                del self._filling.claim

        def release() -> bool:
            return bool(handed_over) or inner.release()

        return Claim(self, key, inner.token, use, release)

    def revoke(self, key: Key) -> None:
        self._queue.discard(key, _Fill)
        self.client.revoke(key)

    # -- What cannot wait --------------------------------------------------------

    @contextmanager
    def _finished(self, key: Key) -> Iterator[None]:
        """Alone with *key*, after what was queued for it was written."""
        with self._queue.exclusive(key) as job:
            if job is not None:
                self._queue.perform(key, job)
            yield

    def touch(self, key: Key, deadline: float) -> bool:
        with self._finished(key):
            return self.client.touch(key, deadline)

    def outdate(self, key: Key) -> bool:
        with self._finished(key):
            return self.client.outdate(key)

    def discard(self, key: Key) -> bool:
        with self._queue.exclusive(key) as job:
            if job is not None:
                job.cancel()
            return self.client.discard(key) or job is not None

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wanted = list(dict.fromkeys(keys))
        busy = [key for key in wanted if self._queue.subject(key, None) is not None]
        found = {key: self.discard(key) for key in busy}
        # What was queued after that look was queued after this delete began.
        return self.client.discard_many(key for key in wanted if key not in found) | found

    def sweep(self, before: float | None) -> int:
        if before is None:
            self._queue.clear()
        return self.client.sweep(before)

    def clear(self) -> None:
        self._queue.clear()
        self.client.clear()

    # -- Reading -----------------------------------------------------------------

    def entry(self, key: Key) -> Entry | None:
        queued: Entry | None = self._queue.subject(key, None)
        return self.client.entry(key) if queued is None else queued

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self.find_many(keys, ANY)

    def find(self, key: Key, search: Search) -> Entry | None:
        queued: Entry | None = self._queue.subject(key, None)
        return self.client.find(key, search) if queued is None else queued

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        wanted = list(dict.fromkeys(keys))
        queued = {key: self._queue.subject(key, None) for key in wanted}
        rest = [key for key in wanted if queued[key] is None]
        found = self.client.find_many(rest, search) if rest else {}
        return {key: queued[key] or found[key] for key in wanted if queued[key] or key in found}

    def near(self, key: Key) -> Entry | None:
        queued: Entry | None = self._queue.subject(key, None)
        return self.client.near(key) if queued is None else queued

    def wait(self, key: Key, timeout: float | None = None) -> bool:
        """Until the write of *key* that is queued is done; ``False`` after *timeout* seconds."""
        return self._queue.wait(key, timeout) and self.client.wait(key, timeout)

    # -- What it is --------------------------------------------------------------

    def explain(self, key: Key) -> Explanation:
        queued: Entry | None = self._queue.subject(key, None)
        inner = self.client.explain(key)
        if queued is None:
            return replace(inner, client=repr(self), detail=(), tiers=(inner,))
        ttl = time_left(queued, self.clock.monotonic())
        return Explanation(repr(self), key, True, ttl, (("queued", True),), (inner,))

    @property
    def is_async(self) -> bool:
        return True

    @property
    def stats(self) -> AsyncWriteStats:
        """A frozen snapshot of what was counted."""
        counts = self.counters.snapshot()
        return AsyncWriteStats(
            hits=counts.hits,
            misses=counts.misses,
            puts=counts.puts,
            drops=counts.drops,
            deletes=counts.deletes,
            errors=counts.errors,
            queued=len(self._queue),
            written=self._written + self._queue.done,
            coalesced=self._coalesced,
            overflows=self._overflows,
            failures=self._losses.count,
        )

    def close(self) -> None:
        """Write what is queued, within ``close_timeout``, and close the client."""
        queue = self._queue
        queue.retire()
        queue.drain(self.close_timeout)
        self._written += queue.done
        if self._forgotten is not None:
            self._forgotten.detach()
        self._new_queue()
        super().close()

    def __repr__(self) -> str:
        return f"<AsyncWriteCacheClient {len(self._queue)}/{self.queue_size} of {self.client!r}>"


class _Fill(Entry):
    """An entry that is to be written under a claim."""

    __slots__ = ()


class _Losses:
    """Counts and reports what was not written; the queue's threads know it instead of the client.

    Threads: a count that two threads raise at a time may be counted once.
    """

    def __init__(self, name: str, reports: Reports) -> None:
        self.count = 0
        self._name = name
        self._reports = reports

    def failed(self, key: Hashable, error: Exception | None) -> None:
        """A write was done in vain."""
        self.count += 1
        why = "it was refused" if error is None else repr(error)
        self._reports.warn("write", "a background write to %s failed: %s", self._name, why)

    def lost(self, count: int) -> None:
        """So many writes were given up."""
        self.count += count
        self._reports.warn("lost", "%d background writes to %s were given up", count, self._name)

    def report(self, subject: str, message: str) -> None:
        """Log *message*, which has a place for the client."""
        self._reports.warn(subject, message, self._name)


def _nothing() -> None:
    """For a job that has nothing to give back."""
