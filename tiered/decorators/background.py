"""``f.bg()``: stale or due values at once, with the computation behind the caller."""

from __future__ import annotations

from typing import Any, Generic, ParamSpec, TypeVar

from tiered.decorators.engine import Engine
from tiered.decorators.refresher import Refresher
from tiered.decorators.verdict import LAZY, PEEK, REFRESHING, Row
from tiered.errors import CacheMissError

__all__ = ["BackgroundCalls"]

P = ParamSpec("P")
R = TypeVar("R")


class BackgroundCalls(Generic[P, R]):
    """A cached function whose expensive side happens in the pool.

    Threads: safe.
    """

    __slots__ = ("_engine", "_refresher")

    def __init__(self, engine: Engine, refresher: Refresher) -> None:
        self._engine = engine
        self._refresher = refresher

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value, fresh or stale; waits only when nothing at all is held.

        A value that is stale, or due by ``async_ttl``, is returned at once and computed
        anew in the pool.
        """
        call = self._engine.keyed(args, kwargs)
        if call is None:
            value: R = self._engine.settle(args, kwargs)
            return value
        served: R = self._engine.serve(REFRESHING, call, self._refresher.refresh)
        return served

    def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value; if there is none, it is computed in the pool meanwhile.

        Raises:
            CacheMissError: there is no fresh value yet.
        """
        return self._look(LAZY, args, kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value; never computes.

        Raises:
            CacheMissError: there is none.
        """
        return self._look(PEEK, args, kwargs)

    def _look(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        call = self._engine.keyed(args, kwargs)
        if call is None:
            raise CacheMissError(args, kwargs)
        value: R = self._engine.serve(row, call, self._refresher.refresh)
        return value

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Compute anew and store, in the pool."""
        self._refresher.run(lambda: self._engine.refresh(args, kwargs))

    def put(self, *args: Any, _cache_put: Any, **kwargs: Any) -> None:
        """Store ``_cache_put`` as the value of the call, in the pool."""
        self._refresher.run(lambda: self._engine.put(_cache_put, args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the value of the call, in the pool."""
        self._refresher.run(lambda: self._engine.invalidate(args, kwargs))

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Make the value of the call stale, in the pool."""
        self._refresher.run(lambda: self._engine.expire(args, kwargs))

    def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        """``(value, seconds left)``; never computes. Raises ``CacheMissError``."""
        return self._engine.get_ttl(args, kwargs)
