"""``f.future()``: the same as futures; the caller never waits, not even for a server."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar

from tiered.concurrency.outcome import Outcome
from tiered.decorators.core import Core
from tiered.decorators.verdict import LAZY, PEEK, REFRESHING, Row
from tiered.steps.effects import Steps

__all__ = ["FutureCalls"]

P = ParamSpec("P")
R = TypeVar("R")


class FutureCalls(Generic[P, R]):
    """A cached function that answers with ``concurrent.futures.Future`` objects.

    A hit in the nearest tier is a future that is done already; the rest happens in the
    pool, or for a coroutine function as a task: on the event loop that the caller runs in,
    else on one of its own in a thread of the pool. Misses and the function's exceptions are
    in the future.

    Threads: safe. A thread of the pool never waits for a computation that another makes.
    """

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The value, fresh or stale; computed if nothing is held."""
        return self._answer(REFRESHING, args, kwargs)

    def lazy(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The fresh value or ``CacheMissError``; a miss is computed meanwhile."""
        return self._answer(LAZY, args, kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The fresh value or ``CacheMissError``; never computes."""
        return self._answer(PEEK, args, kwargs)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Computed anew and stored."""
        return self._future(self._core.engine.refresh(args, kwargs))

    def put(self, *args: Any, _cache_put: Any, **kwargs: Any) -> Future[bool]:
        """Store ``_cache_put`` as the value of the call; whether it was written."""
        return self._future(self._core.engine.put(_cache_put, args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Future[bool]:
        """Forget the value of the call; whether there was one."""
        return self._future(self._core.engine.invalidate(args, kwargs))

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> Future[bool]:
        """Make the value of the call stale; whether it was fresh."""
        return self._future(self._core.engine.expire(args, kwargs))

    def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> Future[tuple[R, float]]:
        """``(value, seconds left)`` or ``CacheMissError``; never computes."""
        return self._future(self._core.engine.get_ttl(args, kwargs))

    def _answer(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[R]:
        core = self._core
        call = core.reading.tagged(args, kwargs)
        if call is None:
            return self._future(core.engine.answer(row, args, kwargs))
        near = core.reading.near(call)
        if near is None:
            return self._future(core.engine.answer_call(row, call))
        future: Future[R] = Future()
        future.set_result(near.value)
        return future

    def _future(self, steps: Steps[Outcome]) -> Future[Any]:
        core = self._core
        return core.awaiting.future(steps) if core.plan.awaits else core.pooled.future(steps)
