"""Where the calls of a client are done that a coroutine awaits: here, or in a thread.

All views over one server's client share a lane of one pool, no wider than the client has
connections: a thousand calls at once wait for their turn, not for a connection, and leave
threads to other clients.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from tiered.concurrency.lanes import Lane
from tiered.concurrency.loops import settled
from tiered.concurrency.pool import PoolRefuses, WorkerPool
from tiered.validation import check_count

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient

__all__ = ["OffLoop"]

T = TypeVar("T")

_THREADS: Final = 32
_WIDTH: Final = 8
"""Threads of one client, if nothing else is said. They take turns at the interpreter, so that
more of them serve no more calls; and four servers that hang leave none of them for a fifth."""

# Of its own: what a pool of functions computes may take as long as it likes.
_pool: Final = WorkerPool(_THREADS, name="tiered-aio")


class OffLoop:
    """Keeps what may block off the event loop.

    Holds no client, so that a client can hold it.

    Args:
        blocking: whether calls may block at all; if not, they are done where they are made.
        lane: whose threads do them.

    Threads: safe.
    """

    __slots__ = ("blocking", "lane")

    def __init__(self, blocking: bool, lane: Lane) -> None:
        self.blocking = blocking
        self.lane = lane

    @staticmethod
    def shared(client: CacheClient) -> OffLoop:
        """The one of all usual views of *client*."""
        lanes = client.authority.attachments
        width = int(min(_WIDTH, client.concurrency))
        lane: Lane = lanes.setdefault(Lane, Lane(_pool, width))
        lane.narrow(width)
        made = OffLoop(client.capabilities.blocking, lane)
        known: OffLoop = client.attachments.setdefault(OffLoop, made)
        return known

    @staticmethod
    def own(client: CacheClient, pool: WorkerPool | None, concurrency: int | None) -> OffLoop:
        """One for a view that shares with nobody.

        Raises:
            TypeError, ValueError: an argument that cannot be right.
        """
        if pool is None:
            pool = _pool
        if not isinstance(pool, WorkerPool):
            raise TypeError(f"pool must be a WorkerPool, not {pool!r}")
        blocking = client.capabilities.blocking
        if pool.inline and (blocking or client.is_async):
            raise ValueError(
                f"pool must have threads, not {pool!r}: {client!r} would be asked in the event "
                f"loop's own, and stop the loop meanwhile"
            )
        if concurrency is None:
            width = int(min(_WIDTH, client.concurrency))
        else:
            width = check_count("concurrency", concurrency, low=1)
        return OffLoop(blocking, Lane(pool, width))

    async def done(self, work: Callable[[], T]) -> T:
        """What *work* returns; done here if that cannot block."""
        return await self.in_thread(work) if self.blocking else work()

    async def done_anyway(self, work: Callable[[], T]) -> T:
        """The same, and done even if its caller is cancelled before it has begun."""
        if not self.blocking:
            return work()
        job = self.lane.submit(work)
        await settled(job)
        return self._answer(job)

    async def in_thread(
        self, work: Callable[[], T], *, unwanted: Callable[[T], object] | None = None
    ) -> T:
        """What *work* returns, done in a thread.

        A caller who is cancelled takes it back if it has not begun. Else its answer is dropped,
        after ``unwanted(answer)`` in a thread.

        Raises:
            PoolRefuses: the pool is closed.
        """
        job = self.lane.submit(work)
        try:
            await settled(job)
        except BaseException:
            job.cancel()
            if unwanted is not None:
                job.add_done_callback(partial(self._give_back, unwanted))
            raise
        try:
            return self._answer(job)
        finally:
            del job  # its exception would hold it through this frame

    def _answer(self, job: Future[T]) -> T:
        if job.cancelled():
            raise PoolRefuses(f"{self.lane.pool!r} was closed before it came to this")
        try:
            return job.result()
        finally:
            del job

    def _give_back(self, unwanted: Callable[[T], object], job: Future[T]) -> None:
        if job.cancelled() or job.exception() is not None:
            return
        try:
            self.lane.submit(partial(unwanted, job.result()))
        except PoolRefuses:
            pass  # the interpreter exits; what was taken ends by itself
