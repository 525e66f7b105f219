"""``await f.aio(...)``: the same for asyncio, of plain functions and of coroutine functions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from tiered.acceleration import core
from tiered.decorators.core import Core
from tiered.decorators.entrance import Entrance, Spoken
from tiered.decorators.many import ManyCalls, MultiResult
from tiered.decorators.verdict import CALL, LAZY, PEEK, REFRESHING

__all__ = ["AioCalls", "AioMultiCalls", "AwaitableOperations"]

P = ParamSpec("P")
R = TypeVar("R")


class AwaitableOperations(Generic[P, R]):
    """The modes and operations of a cached function, as coroutines.

    Threads: safe; the event loop is never blocked.
    """

    __slots__ = ()

    _core: Core

    async def peek(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value; never computes. Raises ``CacheMissError``."""
        value: R = await self._core.awaiting.get(self._core.engine.answer(PEEK, args, kwargs))
        return value

    async def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value; if there is none, ``CacheMissError``, and it is computed meanwhile."""
        value: R = await self._core.awaiting.get(self._core.engine.answer(LAZY, args, kwargs))
        return value

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute now, store and return, whatever is held."""
        value: R = await self._core.awaiting.get(self._core.engine.refresh(args, kwargs))
        return value

    async def put(self, *args: Any, _cache_put: Any, **kwargs: Any) -> bool:
        """Hold ``_cache_put`` as the value of the call; whether it was written."""
        steps = self._core.engine.put(_cache_put, args, kwargs)
        written: bool = await self._core.awaiting.get(steps)
        return written

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the value of the call; whether there was one."""
        found: bool = await self._core.awaiting.get(self._core.engine.invalidate(args, kwargs))
        return found

    async def expire(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make the value of the call stale now, but keep it; whether it was fresh."""
        fresh: bool = await self._core.awaiting.get(self._core.engine.expire(args, kwargs))
        return fresh

    async def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        """``(value, seconds left)``; never computes. Raises ``CacheMissError``."""
        steps = self._core.engine.get_ttl(args, kwargs)
        found: tuple[R, float] = await self._core.awaiting.get(steps)
        return found


class AioCalls(AwaitableOperations[P, R], Entrance):
    """A cached function for event loops.

    ``await f.aio(...)`` answers as ``f.bg()(...)`` does: stale or due values at once, with the
    computation behind; it waits only for a miss. A hit in the nearest tier is looked up in the
    loop's own thread. A plain function computes in the pool.

    Threads: safe.
    """

    __slots__ = ("_core",)

    def __init__(self, of: Core) -> None:
        self._core = of
        self.entered = of.awaitable_door(REFRESHING)

    if core and not TYPE_CHECKING:
        __call__ = Spoken()

    def spoken(self) -> Callable[..., Any]:
        """The call as a Python function, with the signature of the function."""
        return self._core.spoken(self.entered, awaits=True)

    if TYPE_CHECKING:

        async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @property
    def multi(self) -> AioMultiCalls[R]:
        """Many calls at once: ``await f.aio.multi(items)``."""
        return AioMultiCalls(self._core)

    async def clear(self) -> None:
        """Forget the values of all calls."""
        await self._core.awaiting.get(self._core.engine.clear())


class AioMultiCalls(Generic[R]):
    """Many calls at once, for event loops; see :class:`tiered.decorators.multi.MultiCalls`.

    Missing values are computed together.

    Threads: safe.
    """

    __slots__ = ("_get", "_many")

    def __init__(self, of: Core, first: tuple[Any, ...] = ()) -> None:
        self._many = ManyCalls(of.engine, of.plan.function, first)
        self._get: Callable[..., Coroutine[Any, Any, Any]] = of.awaiting.get

    async def __call__(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """The values of all items, each found or computed once."""
        result: MultiResult[R] = await self._get(self._many.answer(CALL, items))
        return result

    async def peek(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """The fresh values; never computes."""
        result: MultiResult[R] = await self._get(self._many.answer(PEEK, items))
        return result

    async def lazy(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """The fresh values; the others are computed meanwhile."""
        result: MultiResult[R] = await self._get(self._many.answer(LAZY, items))
        return result

    async def refresh(self, items: Iterable[Hashable]) -> MultiResult[R]:
        """All computed anew."""
        result: MultiResult[R] = await self._get(self._many.refresh(items))
        return result

    async def get_ttl(self, items: Iterable[Hashable]) -> MultiResult[tuple[R, float]]:
        """``(value, seconds left)`` of each item that something is held for."""
        result: MultiResult[tuple[R, float]] = await self._get(self._many.get_ttl(items))
        return result

    async def put(self, values: Mapping[Any, R]) -> dict[Any, bool]:
        """Hold the values, by item; which were written."""
        written: dict[Any, bool] = await self._get(self._many.put(values))
        return written

    async def invalidate(self, items: Iterable[Hashable]) -> dict[Any, bool]:
        """Forget all; which were there."""
        found: dict[Any, bool] = await self._get(self._many.invalidate(items))
        return found

    async def expire(self, items: Iterable[Hashable]) -> dict[Any, bool]:
        """Make all stale; which were fresh."""
        fresh: dict[Any, bool] = await self._get(self._many.expire(items))
        return fresh
