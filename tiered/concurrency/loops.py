"""Between threads and event loops: waking a loop, and awaiting what a thread does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from tiered.concurrency.pool import WorkerPool

if TYPE_CHECKING:
    import asyncio

__all__ = ["bell", "settled"]


def bell(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Future[None], Callable[[], None]]:
    """A future of *loop*, and what completes it.

    Threads: the second may be called in any, more than once, and after the loop was closed.
    """
    rung = loop.create_future()

    def complete() -> None:
        if not rung.done():
            rung.set_result(None)

    def ring() -> None:
        try:
            loop.call_soon_threadsafe(complete)
        except RuntimeError:
            pass  # the loop was closed, and nobody waits there any more

    return rung, ring


async def settled(job: Future[Any]) -> None:
    """Until *job* has ended, however it did. Who is cancelled meanwhile leaves it as it is."""
    if job.done():
        return
    import asyncio  # where this runs, it is there already; who has no loop is spared it

    rung, ring = bell(asyncio.get_running_loop())
    job.add_done_callback(lambda _: ring())
    with WorkerPool.blocked():  # if this loop runs in a worker, that is what waits
        await rung
