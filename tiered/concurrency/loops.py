"""Between threads and event loops: waking a loop, awaiting what a thread does, and not waiting
in a thread for what its own loop is to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from tiered.concurrency import circles
from tiered.concurrency.pool import WorkerPool

if TYPE_CHECKING:
    import asyncio

__all__ = ["bell", "led_by", "settled", "standing_still"]


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


class _Loop:
    """An event loop, as something that can wait, and be waited for."""

    ended: Final = False

    def __init__(self) -> None:
        self.waits_for: list[circles.Link] = []


_links: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop]] = WeakKeyDictionary()


def led_by(link: circles.Link, loop: asyncio.AbstractEventLoop) -> None:
    """A task of *loop* computes *link*: who waits for it waits for the loop."""
    circles.follow(link, _links.setdefault(loop, _Loop()))


@contextmanager
def standing_still() -> Iterator[None]:
    """Around what blocks this thread: the loop that runs in it, if one does, waits too."""
    events = sys.modules.get("asyncio.events")
    loop = None if events is None else events._get_running_loop()
    if loop is None:
        yield
        return
    with circles.computing(_links.setdefault(loop, _Loop())):
        yield
