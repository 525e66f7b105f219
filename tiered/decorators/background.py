"""``f.bg()``: stale or due values at once, with the computation behind the caller."""

from __future__ import annotations

from typing import Any, Generic, ParamSpec, TypeVar

from tiered.decorators.core import Core
from tiered.decorators.verdict import LAZY, PEEK, REFRESHING, Row

__all__ = ["BackgroundCalls"]

P = ParamSpec("P")
R = TypeVar("R")


class BackgroundCalls(Generic[P, R]):
    """A cached function whose expensive side happens in the pool.

    Threads: safe.
    """

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value, fresh or stale; waits only when nothing at all is held.

        A value that is stale, or due by ``async_ttl``, is returned at once and computed
        anew in the pool.
        """
        return self._answer(REFRESHING, args, kwargs)

    def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value; if there is none, it is computed in the pool meanwhile.

        Raises:
            CacheMissError: there is no fresh value yet.
        """
        return self._answer(LAZY, args, kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value; never computes.

        Raises:
            CacheMissError: there is none.
        """
        return self._answer(PEEK, args, kwargs)

    def _answer(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        core = self._core
        value: R = core.blocking.run(core.engine.answer(row, args, kwargs)).get()
        return value

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Compute anew and store, in the pool."""
        self._core.pooled.quietly(self._core.engine.refresh(args, kwargs))

    def put(self, *args: Any, _cache_put: Any, **kwargs: Any) -> None:
        """Store ``_cache_put`` as the value of the call, in the pool."""
        self._core.pooled.quietly(self._core.engine.put(_cache_put, args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the value of the call, in the pool."""
        self._core.pooled.quietly(self._core.engine.invalidate(args, kwargs))

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Make the value of the call stale, in the pool."""
        self._core.pooled.quietly(self._core.engine.expire(args, kwargs))

    def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        """``(value, seconds left)``; never computes. Raises ``CacheMissError``."""
        core = self._core
        found: tuple[R, float] = core.blocking.run(core.engine.get_ttl(args, kwargs)).get()
        return found
