"""Steps in the threads of a pool, none of which ever waits for another computation.

Where steps have to wait, for a flight or for some time, they leave their thread and come back
in whichever is free when it is over.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, assert_never

from tiered.concurrency import circles
from tiered.concurrency.flight import Flight, Flights
from tiered.concurrency.outcome import Outcome
from tiered.concurrency.pool import PoolFuture, PoolRefuses, WorkerPool
from tiered.concurrency.waker import Waker
from tiered.stats.reports import Reports
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
    in_turn,
)

__all__ = ["Pooled"]


class Pooled:
    """The driver of futures, and of everything behind a caller's back.

    Args:
        function: computes.
        sleep: lets so many seconds pass, where the pool has no threads.
        pool: where the steps run; in the caller's thread if it takes no more.
        flights: of the function.
        elsewhere: whether who answers and who computes are two, so that one can time out.
        name: of the function, for reports.
        reports: where failures that nobody waits for are logged.

    Threads: safe.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        sleep: Callable[[float], object],
        pool: WorkerPool,
        flights: Flights,
        elsewhere: bool,
        name: str,
        reports: Reports,
    ) -> None:
        self.function = function
        self.sleep = sleep
        self.pool = pool
        self.elsewhere = elsewhere
        self._flights = flights
        self._name = name
        self._reports = reports

    def future(self, steps: Steps[Outcome]) -> Future[Any]:
        """What *steps* will come to."""
        future: Future[Any] = PoolFuture()
        future.set_running_or_notify_cancel()  # a computation is not one waiter's to cancel

        def succeed(outcome: Outcome) -> None:
            if outcome.error is None:
                future.set_result(outcome.value)
            else:
                future.set_exception(outcome.error)

        run = _Run(self, steps, succeed, future.set_exception)
        try:
            run.start()
        except PoolRefuses as refusal:
            self._refused(refusal)
            run.go()
        return future

    def lead(self, lead: Lead | Behind) -> None:
        """Lead a flight; whoever waits for it hears how it ended.

        Raises:
            PoolRefuses: the pool is closed or full.
        """
        self._leading(lead).start()

    def behind(self, behind: Behind) -> None:
        """Lead a flight that nobody may be waiting for; a failure is logged."""
        behind.flight.assign()
        behind.flight.then(self._report)
        context = contextvars.copy_context()
        context.run(circles.detach)
        try:
            context.run(self.lead, behind)
        except PoolRefuses as refusal:
            self._refused(refusal)
            self._leading(behind).go()

    def quietly(self, steps: Steps[Outcome]) -> None:
        """Perform *steps* whose answer nobody waits for; a failure is logged."""

        def report(future: Future[Any]) -> None:
            error = future.exception()
            if error is not None:
                self.report(error)

        self.future(steps).add_done_callback(report)

    def report(self, error: BaseException) -> None:
        """Log a failure that no caller hears of."""
        self._reports.warn("refresh", "%s failed behind its caller: %r", self._name, error)

    def _leading(self, lead: Lead | Behind) -> _Run:
        def dropped(_: BaseException) -> None:
            self._flights.drop(lead.call.key, lead.flight)

        return _Run(self, lead.steps, _heard_otherwise, dropped)

    def _report(self, flight: Flight) -> None:
        if flight.outcome is not None and flight.outcome.error is not None:
            self.report(flight.outcome.error)

    def _refused(self, refusal: PoolRefuses) -> None:
        self._reports.warn("pool", "%s computes in its callers: %s", self._name, refusal)


def _heard_otherwise(_: Outcome | None) -> None:
    """For flights: their waiters are told by the landing."""


class _Run:
    """Steps on their way through the pool.

    Threads: one at a time. Between two of them it belongs to whatever will bring it back.
    """

    def __init__(
        self,
        driver: Pooled,
        steps: Steps[Any],
        succeed: Callable[[Any], object],
        fail: Callable[[BaseException], object],
    ) -> None:
        self._driver = driver
        self._stack = [steps]  # the last one is what the one before it asked for
        self._succeed = succeed
        self._fail = fail
        self._context = contextvars.copy_context()

    def start(self) -> None:
        """Go, in a thread of the pool. Raises ``PoolRefuses``."""
        self._queue(0.0, None)

    def go(self, answer: Any = None) -> None:
        """Perform steps until they end or have to wait."""
        error: BaseException | None = None
        while self._stack:
            steps = self._stack[-1]
            try:
                effect = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as stop:
                answer, error = stop.value, None
                self._stack.pop()
                continue
            except BaseException as thrown:
                error = thrown
                self._stack.pop()
                continue
            answer = error = None
            try:
                if self._leaves(effect):
                    return
                answer = self._perform(effect)
            except BaseException as thrown:
                error = thrown
        if error is None:
            self._succeed(answer)
        else:
            self._fail(error)

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Ask():
                return effect.operation()
            case Compute():
                return caught(self._driver.function, effect)
            case Await():
                return effect.flight.wait(effect.timeout)
            case Pause(seconds, waker):
                return self._driver.sleep(seconds) if waker is None else waker.wait(seconds)
            case Behind():
                return self._driver.behind(effect)
            case Lead():
                return self._lead(effect)
            case Each():
                self._stack.append(in_turn(effect.many))
                return None
        assert_never(effect)

    def _lead(self, lead: Lead) -> None:
        """Have the steps led: by this run, or by another that it does not wait for."""
        if self._driver.elsewhere:
            if not lead.to_be_led():
                return
            try:
                self._driver.lead(lead)
            except PoolRefuses:
                pass
            else:
                return
        self._stack.append(lead.steps)

    def _leaves(self, effect: Effect) -> bool:
        """Whether the steps have to wait, and left this thread to do so."""
        inline = self._driver.pool.inline  # then there is nobody to come back after a time
        match effect:
            case Pause(seconds, waker) if not inline:
                if waker is None:
                    self._queue(seconds, None)
                else:
                    self._rest(seconds, waker)
                return True
            case Await(timeout=timeout) if not effect.flight.ended:
                if timeout is None or not inline:
                    self._wait(effect.flight, timeout)
                    return True
        return False

    def _wait(self, flight: Flight, timeout: float | None) -> None:
        """Come back when *flight* has ended, or *timeout* seconds have passed."""
        waiting = flight.waiting()
        waiting.__enter__()
        first = threading.Lock()

        def back(landed: bool) -> None:
            if not first.acquire(blocking=False):
                return
            waiting.__exit__(None, None, None)
            if flight.outcome is not None:
                self._come(landed)  # all that is left to do is to pass it on
                return
            try:
                self._queue(0.0, landed)
            except PoolRefuses:
                self._come(landed)

        flight.then(lambda _: back(True))
        if timeout is not None:
            try:
                self._driver.pool.submit(lambda: back(flight.ended), delay=timeout)
            except PoolRefuses:
                pass  # the pool is closed: then it takes as long as it takes

    def _rest(self, seconds: float, waker: Waker) -> None:
        """Come back when *waker* rings, or *seconds* have passed."""
        first = threading.Lock()

        def back() -> None:
            if first.acquire(blocking=False):
                self._come(None)

        def rung() -> None:
            # In a thread of the pool: the one that rings has other things to do.
            with contextlib.suppress(PoolRefuses):  # then it takes the whole time
                self._driver.pool.submit(back)

        def check(job: Future[None]) -> None:
            if job.cancelled() and first.acquire(blocking=False):
                self._check(job)

        self._driver.pool.submit(back, delay=seconds).add_done_callback(check)
        waker.then(rung)

    def _queue(self, delay: float, answer: Any) -> None:
        job = self._driver.pool.submit(partial(self._come, answer), delay=delay)
        job.add_done_callback(self._check)

    def _come(self, answer: Any) -> None:
        # A copy, because the thread that it left may not have left the context yet.
        self._context.copy().run(self.go, answer)

    def _check(self, job: Future[None]) -> None:
        if job.cancelled():  # the pool was closed under it
            while self._stack:
                self._stack.pop().close()
            self._fail(CancelledError())
