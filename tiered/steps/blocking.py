"""Steps in the thread of the caller, who waits for what they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, assert_never

from tiered.concurrency.loops import standing_still
from tiered.concurrency.outcome import Outcome
from tiered.concurrency.pool import PoolRefuses, WorkerPool
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

__all__ = ["Blocking"]

T = TypeVar("T")


class Blocking:
    """The driver of plain calls.

    Args:
        function: computes.
        sleep: lets so many seconds pass.
        pooled: for what happens behind the caller's back.
        elsewhere: whether computations go to the pool, so that the caller can stop waiting.

    Threads: safe.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        sleep: Callable[[float], object],
        pooled: Pooled,
        elsewhere: bool,
    ) -> None:
        self._function = function
        self._sleep = sleep
        self._pooled = pooled
        self._elsewhere = elsewhere

    def run(self, steps: Steps[T]) -> T:
        """What *steps* come to."""
        answer: Any = None
        error: BaseException | None = None
        try:
            while True:
                effect = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                try:
                    answer = self._perform(effect)
                except BaseException as thrown:
                    error = thrown
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Ask():
                return effect.operation()
            case Compute():
                return caught(self._function, effect)
            case Lead():
                return self._lead(effect)
            case Await():
                with WorkerPool.blocked(), standing_still():
                    return effect.flight.wait(effect.timeout)
            case Pause(seconds, waker):
                return self._sleep(seconds) if waker is None else waker.wait(seconds)
            case Behind():
                return self._pooled.behind(effect)
            case Each():
                return [self.run(steps) for steps in effect.many]
        assert_never(effect)

    def _lead(self, lead: Lead) -> Outcome | None:
        # A worker that waited for another one could wait for ever, all of them being busy.
        if self._elsewhere and not WorkerPool.in_worker():
            if not lead.to_be_led():
                return None
            try:
                self._pooled.lead(lead)
            except PoolRefuses:
                pass  # then the caller computes, for as long as it takes
            else:
                return None
        return self.run(lead.steps)
