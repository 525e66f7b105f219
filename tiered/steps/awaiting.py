"""Steps on an event loop, which is never blocked.

Computations are tasks of their own: a caller who is cancelled cancels his waiting, not what
others wait for too. What may block (a server, a function that is no coroutine function) happens
in the pool; over a client in memory, a coroutine function never touches a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any, Final, TypeVar, assert_never

from tiered.concurrency import circles
from tiered.concurrency.flight import LIVENESS_INTERVAL, Flight, Flights
from tiered.concurrency.loops import bell, led_by, settled
from tiered.concurrency.outcome import Outcome
from tiered.concurrency.pool import PoolFuture, PoolRefuses, WorkerPool
from tiered.concurrency.waker import Waker
from tiered.steps.effects import (
    Ask,
    Await,
    Behind,
    Compute,
    Each,
    Effect,
    Lead,
    Pause,
    Steps,
    caught,
)
from tiered.steps.pooled import Pooled

__all__ = ["Awaiting"]

T = TypeVar("T")


class Awaiting:
    """The driver of awaitable calls.

    Args:
        function: computes.
        awaits: whether it is a coroutine function.
        blocking: whether the client may block.
        pooled: for what happens in threads.
        pool: its pool.
        flights: of the function.

    Threads: safe; each loop runs in its own, and flights are shared by all.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        awaits: bool,
        blocking: bool,
        pooled: Pooled,
        flights: Flights,
    ) -> None:
        self._function = function
        self._awaits = awaits
        self._blocking = blocking
        self._pooled = pooled
        self._pool: Final[WorkerPool] = pooled.pool
        self._flights = flights
        self._tasks: set[asyncio.Task[Any]] = set()  # a loop holds its tasks weakly

    async def run(self, steps: Steps[T]) -> T:
        """What *steps* come to."""
        answer: Any = None
        error: BaseException | None = None
        try:
            while True:
                effect = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                try:
                    answer = await self._perform(effect)
                except BaseException as thrown:
                    error = thrown
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def get(self, steps: Steps[Outcome]) -> Any:
        """The value that *steps* come to, or the exception."""
        return (await self.run(steps)).get()

    def future(self, steps: Steps[Outcome]) -> Future[Any]:
        """The same as a future: on the caller's loop, or a loop of its own in a worker."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._in_loop_of_its_own(steps)
        future: Future[Any] = PoolFuture()
        future.set_running_or_notify_cancel()
        task = self._task(loop, self.get(steps), None)
        task.add_done_callback(lambda done: _copy(done, future))
        return future

    def _in_loop_of_its_own(self, steps: Steps[Outcome]) -> Future[Any]:
        def run() -> Any:
            return asyncio.run(self._alone(steps))

        try:
            return self._pool.submit(run)
        except PoolRefuses:
            future: Future[Any] = Future()
            try:
                future.set_result(run())
            except Exception as error:
                future.set_exception(error)
            return future

    async def _alone(self, steps: Steps[Outcome]) -> Any:
        """As :meth:`get`, and until the tasks that this started have ended too."""
        try:
            return await self.get(steps)
        finally:
            loop = asyncio.get_running_loop()
            while left := [task for task in list(self._tasks) if task.get_loop() is loop]:
                await asyncio.wait(left)

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Ask():
                return (
                    await self.in_thread(effect.operation)
                    if self._blocking
                    else (effect.operation())
                )
            case Compute():
                return await self._compute(effect)
            case Lead():
                return self._lead(effect)
            case Await():
                return await _landed(effect.flight, effect.timeout)
            case Pause(seconds, waker):
                return await (asyncio.sleep(seconds) if waker is None else _rested(seconds, waker))
            case Behind():
                return self._behind(effect)
            case Each():
                return await asyncio.gather(*map(self.run, effect.many))
        assert_never(effect)

    async def _compute(self, effect: Compute) -> Outcome:
        if not self._awaits:
            return await self.in_thread(lambda: caught(self._function, effect))
        call, flight = effect.call, effect.flight
        with nullcontext() if flight is None else flight.computing():
            try:
                return Outcome(await self._function(*call.args, **call.kwargs))
            except Exception as error:
                return Outcome(error=error)

    def _lead(self, lead: Lead) -> None:
        if not lead.to_be_led():
            return
        if self._awaits:
            self._lead_as_task(lead, None)
            return
        try:
            self._pooled.lead(lead)
        except PoolRefuses:
            # The loop has to do without a thread: its task computes in the loop's own.
            self._lead_as_task(lead, None)

    def _behind(self, behind: Behind) -> None:
        if not self._awaits:
            self._pooled.behind(behind)
            return
        behind.flight.assign()
        context = contextvars.copy_context()
        context.run(circles.detach)
        self._lead_as_task(behind, context)
        behind.flight.then(self._report)

    def _report(self, flight: Flight) -> None:
        if flight.outcome is not None and flight.outcome.error is not None:
            self._pooled.report(flight.outcome.error)

    def _lead_as_task(self, lead: Lead | Behind, context: contextvars.Context | None) -> None:
        loop = asyncio.get_running_loop()
        flight, key = lead.flight, lead.call.key
        flight.alive = lambda: not loop.is_closed()
        led_by(flight, loop)
        task = self._task(loop, self.run(lead.steps), context)

        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                # Before its first step, perhaps: then nobody else ends the flight.
                lead.steps.close()
                self._flights.drop(key, flight)

        task.add_done_callback(ended)

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = loop.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What *work* comes to in a thread of the pool, or here if it takes no more."""
        try:
            job = self._pool.submit(work)
        except PoolRefuses:
            return work()
        try:
            await settled(job)
        except BaseException:
            job.cancel()  # if it has not begun
            raise
        if job.cancelled():  # the pool was closed under it
            return work()
        try:
            return job.result()
        finally:
            del job  # its exception would hold it through this frame


async def _rested(seconds: float, waker: Waker) -> None:
    """Until *waker* rings, or *seconds* have passed."""
    rung, ring = bell(asyncio.get_running_loop())
    waker.then(ring)
    await asyncio.wait((rung,), timeout=seconds)


async def _landed(flight: Flight, timeout: float | None) -> bool:
    """Until *flight* has ended; ``False`` after *timeout* seconds."""
    if flight.ended:
        return True
    landed, tell = bell(asyncio.get_running_loop())
    # Of a loop that a worker of a pool runs, that worker is what waits.
    with flight.waiting(), WorkerPool.blocked():
        flight.then(lambda _: tell())
        if timeout is not None:
            await asyncio.wait((landed,), timeout=timeout)
        elif flight.alive is None:
            await landed
        else:
            while not flight.ended:
                await asyncio.wait((landed,), timeout=LIVENESS_INTERVAL)
                flight.bury()
    return flight.ended


def _copy(task: asyncio.Task[Any], future: Future[Any]) -> None:
    if task.cancelled():
        future.set_exception(asyncio.CancelledError())
        return
    error = task.exception()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
