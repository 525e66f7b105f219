"""Writes in the background: a put returns at once, and reads see what is on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from tiered.clients.backlog import AsyncWriteStats, Backlog, Filling, Tally
from tiered.clients.base import (
    ALWAYS,
    ANY,
    CacheClient,
    Capabilities,
    Claim,
    Condition,
    Entry,
    Search,
    Versioned,
)
from tiered.clients.explanation import Explanation
from tiered.clients.wrapper import Wrapper
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.keyedqueue import Job
from tiered.entry import time_left
from tiered.typing import Key
from tiered.validation import check_count, check_number

__all__ = ["AsyncWriteCacheClient", "AsyncWriteStats"]


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
            what is queued; what is not written by then is given up, and counted as failed. A
            write that hangs even then cannot be stopped: later ones of its key wait for it.

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
        self._tally = Tally(repr(client), self.clock)
        self._backlog = Backlog(self.queue_size, self.workers, self.close_timeout, self._tally)
        self._defers = True

    def around(self, client: CacheClient) -> Wrapper:
        """A view of some of the tiers: it sees what is queued, and writes at once.

        A write to some tiers cannot take the place of a queued one to all of them.
        """
        view = AsyncWriteCacheClient.__new__(AsyncWriteCacheClient)
        vars(view).update(vars(self))
        view.client = client
        view._defers = False
        return view

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
        if condition is not ALWAYS or not self._defers:
            with self._finished(key):
                return client.store(key, value, deadline, keep=keep, condition=condition)

        def write() -> bool:
            return client.store(key, value, deadline, keep=keep)

        filling = self._backlog.here.filling
        if filling is not None:
            return self._store_fill(filling, key, Entry(value, deadline), keep)
        queue = self._backlog.queue
        replaced = queue.put(key, Job(Entry(value, deadline), write, _nothing))
        if replaced is not False:
            self._coalesce(replaced)
            return True
        self._tally.overflowed()
        with queue.exclusive(key) as older:
            self._coalesce(older)
            return write()

    def _store_fill(self, filling: Filling, key: Key, entry: Entry, keep: float) -> bool:
        """Queue a write under a claim, unless that was revoked after it was asked about."""
        claim, watch = filling
        self._backlog.here.taken = True  # to release it is the job's affair from here on

        def fill() -> bool | None:
            try:
                written = self.client.fill(key, *entry, keep=keep, claim=claim)
            finally:
                claim.release()
            # A claim that was lost loses the write: no failure.
            return None if claim.lost else written

        queue = self._backlog.queue
        job = Job(entry, fill, claim.release, conditional=True)
        replaced: Job | bool | None = None

        def put() -> None:
            nonlocal replaced
            replaced = queue.put(key, job)

        if not watch.publish(put):
            claim.release()
            return False
        if replaced is False:
            self._tally.overflowed()
            with queue.exclusive(key) as older:
                if older is not None:
                    queue.perform(key, older)
                return bool(fill())
        self._coalesce(replaced)
        return True

    def _coalesce(self, replaced: Job | bool | None) -> None:
        """Give back what a job that is done no more holds, if there was one."""
        if isinstance(replaced, Job):
            self._tally.coalesced += 1
            replaced.cancel()

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        return {key: self.store(key, value, deadline, keep=keep) for key, value in items.items()}

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        self._backlog.here.refreshes = claim.refreshes
        return super().fill(key, value, deadline, keep=keep, claim=claim)

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        inner = self.client.claim(key, ttl)
        if inner is None:
            return None
        here = self._backlog.here
        handed_over = False

        def use(fill: Callable[[], bool]) -> bool:
            """Let the store that *fill* comes to be queued under the claim, if it holds.

            It is asked about now as well as when the value is written: what is queued is
            seen by readers, and what was computed before a delete must not be.
            """
            nonlocal handed_over
            with self._backlog.generations.reading(key) as watch:
                if handed_over or not inner.use(_yes):
                    return False
                inner.refreshes = here.refreshes
                here.filling, here.taken = Filling(inner, watch), False
                try:
                    return fill()
                finally:
                    handed_over = here.taken
                    here.filling = None

        return Claim(self, key, inner.token, use, lambda: not handed_over and inner.release())

    def revoke(self, key: Key) -> None:
        # In this order: a fill that found its claim held before this is in the queue by now,
        # or finds out that a revocation has passed.
        try:
            self.client.revoke(key)
        finally:
            with self._backlog.generations.writing(key) as watch:
                watch.passed()
            self._backlog.queue.withdraw(key)

    # -- What cannot wait --------------------------------------------------------

    @contextmanager
    def _finished(self, key: Key) -> Iterator[None]:
        """Alone with *key*, after what was queued for it was written."""
        queue = self._backlog.queue
        with queue.exclusive(key) as job:
            if job is not None:
                queue.perform(key, job)
            yield

    def touch(self, key: Key, deadline: float) -> bool:
        with self._finished(key):
            return self.client.touch(key, deadline)

    def outdate(self, key: Key) -> bool:
        with self._finished(key):
            return self.client.outdate(key)

    def discard(self, key: Key) -> bool:
        with self._backlog.queue.exclusive(key) as job:
            if job is not None:
                job.cancel()
            return self.client.discard(key) or job is not None

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wanted = list(dict.fromkeys(keys))
        found = {key: self.discard(key) for key in wanted if self._backlog.queue.busy(key)}
        # What was queued after that look was queued after this delete began.
        return self.client.discard_many(key for key in wanted if key not in found) | found

    def sweep(self, before: float | None) -> int:
        queue = self._backlog.queue
        if before is None:
            if self.capabilities.clearable:  # else it is refused, and nothing is to be lost
                queue.clear()
        else:
            # Written first: dropped, they would uncover what they were to replace. Those that
            # are being written too, or they would be swept while readers still see them.
            for key, entry in queue.unfinished():
                if entry.deadline < before:
                    with self._finished(key):
                        pass
        return self.client.sweep(before)

    def clear(self) -> None:
        queue = self._backlog.queue
        if self.capabilities.clearable:
            queue.clear()
        self.client.clear()
        self._backlog.generations.passed_all()
        for key, _ in queue.unfinished():
            queue.withdraw(key)

    # -- Reading -----------------------------------------------------------------

    def _queued(self, key: Key) -> Entry | None:
        entry: Entry | None = self._backlog.queue.subject(key, None)
        return entry

    def entry(self, key: Key) -> Entry | None:
        return self._queued(key) or self.client.entry(key)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self.find_many(keys, ANY)

    def find(self, key: Key, search: Search) -> Entry | None:
        return self._queued(key) or self.client.find(key, search)

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        found = {key: self._queued(key) for key in keys}
        rest = [key for key, entry in found.items() if entry is None]
        if rest:
            found.update(self.client.find_many(rest, search))
        return {key: entry for key, entry in found.items() if entry is not None}

    def versioned(self, key: Key) -> Versioned:
        # What is on its way has no version yet.
        queued = self._queued(key)
        return self.client.versioned(key) if queued is None else Versioned(queued)

    def version(self, key: Key) -> object | None:
        return self.client.version(key) if self._queued(key) is None else None

    def near(self, key: Key) -> Entry | None:
        # As the capabilities say: callers that expect nothing of near() do not ask it.
        return (self._queued(key) or self.client.near(key)) if self.capabilities.near else None

    def wait(self, key: Key, timeout: float | None = None) -> bool:
        """Until the write of *key* that is queued is done; ``False`` after *timeout* seconds."""
        if timeout is None:
            return self._backlog.queue.wait(key) and self.client.wait(key)
        ends = SYSTEM_CLOCK.monotonic() + timeout
        return self._backlog.queue.wait(key, timeout) and self.client.wait(
            key, max(0.0, ends - SYSTEM_CLOCK.monotonic())
        )

    # -- What it is --------------------------------------------------------------

    def explain(self, key: Key) -> Explanation:
        queued = self._queued(key)
        inner = self.client.explain(key)
        if queued is None:
            return replace(inner, client=repr(self), detail=(), tiers=(inner,))
        ttl = time_left(queued, self.clock.monotonic())
        return Explanation(repr(self), key, True, ttl, (("queued", True),), (inner,))

    @property
    def capabilities(self) -> Capabilities:
        # What is queued under a claim has to be withdrawn, which a discard does not know.
        return super().capabilities._replace(fenced=False)

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
            queued=len(self._backlog.queue),
            written=self._backlog.written,
            coalesced=self._tally.coalesced,
            overflows=self._tally.overflows,
            failures=self._tally.failures,
        )

    def close(self) -> None:
        """Write what is queued, within ``close_timeout``, and close the client."""
        self._backlog.queue.drain(self.close_timeout)
        super().close()

    def __repr__(self) -> str:
        queued = len(self._backlog.queue)
        return f"<AsyncWriteCacheClient {queued}/{self.queue_size} of {self.client!r}>"


def _yes() -> bool:
    """What is done under a claim in order to know whether it holds."""
    return True


def _nothing() -> None:
    """For a job that has nothing to give back."""
