"""``f.multi(items)``: many calls at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from tiered.concurrency.outcome import Outcome
from tiered.decorators.core import Core
from tiered.decorators.many import ManyCalls, MultiResult
from tiered.decorators.verdict import CALL, PEEK
from tiered.steps.effects import Steps

__all__ = ["MultiCalls"]

R = TypeVar("R")


class MultiCalls(Generic[R]):
    """Many calls at once: one look at each tier, one computation for each that misses.

    An item stands for a call. Of a function of one parameter it is the argument; of others,
    a tuple is the positional arguments, and anything else the first of them. The answer is a
    dict by item. A call that fails is missing in it, and does not keep the others from theirs:
    ``answer[item]`` raises its exception, and ``answer.errors`` holds all of them.

    Threads: safe.
    """

    __slots__ = ("_core", "_many")

    def __init__(self, core: Core, first: tuple[Any, ...] = ()) -> None:
        self._core = core
        self._many = ManyCalls(core.engine, core.plan.function, first)

    def __call__(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """The values of all items, each found or computed once."""
        result: MultiResult[R] = self._run(self._many.answer(CALL, items))
        return result

    def peek(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """The fresh values; never computes."""
        result: MultiResult[R] = self._run(self._many.answer(PEEK, items))
        return result

    def lazy(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """As :meth:`peek`: who blocks has no back to compute behind."""
        return self.peek(items)

    def refresh(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """All computed anew."""
        result: MultiResult[R] = self._run(self._many.refresh(items))
        return result

    def get_ttl(self, items: Iterable[Hashable]) -> MultiResult[tuple[R, float]]:
        """``(value, seconds left)`` of each item that something is held for."""
        result: MultiResult[tuple[R, float]] = self._run(self._many.get_ttl(items))
        return result

    def put(self, values: Mapping[Any, R]) -> dict[Any, bool]:
        """Hold the values, by item; which were written."""
        written: dict[Any, bool] = self._run(self._many.put(values))
        return written

    def invalidate(self, items: Iterable[Hashable]) -> dict[Any, bool]:
        """Forget all; which were there."""
        found: dict[Any, bool] = self._run(self._many.invalidate(items))
        return found

    def expire(self, items: Iterable[Hashable]) -> dict[Any, bool]:
        """Make all stale; which were fresh."""
        fresh: dict[Any, bool] = self._run(self._many.expire(items))
        return fresh

    def _run(self, steps: Steps[Outcome]) -> Any:
        return self._core.blocking.run(steps).get()
