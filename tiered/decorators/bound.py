"""Cached functions as methods, and under a decorator of the user's own."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from tiered.acceleration import core
from tiered.decorators.aio import AioMultiCalls
from tiered.decorators.entrance import BoundEntrance, Entrance, Spoken
from tiered.decorators.multi import MultiCalls

if TYPE_CHECKING:
    from tiered.clients.explanation import Explanation
    from tiered.decorators.aio import AioCalls
    from tiered.decorators.background import BackgroundCalls
    from tiered.decorators.futures import FutureCalls
    from tiered.typing import Key

__all__ = ["BoundAwaitable", "BoundCachedFunction", "BoundCalls", "Decorated"]

P = ParamSpec("P")
R = TypeVar("R")


class _Bound(BoundEntrance):
    """A cached function with its first argument given: a bound method."""

    __slots__ = ()

    if core and not TYPE_CHECKING:
        __call__ = Spoken()

    def spoken(self) -> Callable[..., Any]:
        """The call as a Python function, with the signature of the method."""
        return types.MethodType(self.__func__.spoken(), self.__self__)

    @property
    def __wrapped__(self) -> Any:
        # Bound as well: without ``self`` in its signature.
        return types.MethodType(self.__func__.__wrapped__, self.__self__)

    def __getattr__(self, name: str) -> Any:
        if name in ("__func__", "__self__"):
            raise AttributeError(name)  # of an object that was not made by binding
        attribute = getattr(self.__func__, name)
        return functools.partial(attribute, self.__self__) if name in _TAKE_ARGUMENTS else attribute

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Bound):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as a method is: by the object and the name.
        return getattr, (self.__self__, self.__func__.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


class BoundCachedFunction(_Bound, Generic[P, R]):
    """A :class:`CachedFunction` as a method of an object."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        def peek(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        def put(self, *args: Any, _cache_put: R, **kwargs: Any) -> bool: ...
        def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
        def expire(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
        def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]: ...
        def callkey(self, *args: P.args, **kwargs: P.kwargs) -> Key: ...
        def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...
        def uncached(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def bg(self) -> BackgroundCalls[P, R]:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.bg(), self.__self__)  # type: ignore[return-value]

    def future(self) -> FutureCalls[P, R]:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.future(), self.__self__)  # type: ignore[return-value]

    @property
    def aio(self) -> AioCalls[P, R]:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.aio, self.__self__)  # type: ignore[return-value]

    @property
    def multi(self) -> MultiCalls[R]:
        """As of the function, with the instance given."""
        calls: MultiCalls[R] = self.__func__._multi((self.__self__,))
        return calls


class BoundAwaitable(_Bound, Generic[P, R]):
    """An :class:`AsyncCachedFunction` as a method of an object."""

    __slots__ = ()

    if TYPE_CHECKING:

        async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        async def peek(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        async def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        async def put(self, *args: Any, _cache_put: R, **kwargs: Any) -> bool: ...
        async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
        async def expire(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
        async def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]: ...
        def callkey(self, *args: P.args, **kwargs: P.kwargs) -> Key: ...
        def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation: ...
        async def uncached(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def bg(self) -> AioCalls[P, R]:
        """As of the function, with the instance given."""
        return self.aio

    def future(self) -> FutureCalls[P, R]:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.future(), self.__self__)  # type: ignore[return-value]

    @property
    def aio(self) -> AioCalls[P, R]:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.aio, self.__self__)  # type: ignore[return-value]

    @property
    def multi(self) -> AioMultiCalls[R]:
        """As of the function, with the instance given."""
        calls: AioMultiCalls[R] = self.__func__._multi((self.__self__,))
        return calls


class BoundCalls:
    """The background, future or asyncio calls of a bound method: each takes the instance first."""

    __slots__ = ("_calls", "_instance")

    def __init__(self, calls: Any, instance: Any) -> None:
        self._calls = calls
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._calls(self._instance, *args, **kwargs)

    @property
    def multi(self) -> AioMultiCalls[Any]:
        """Many calls at once, each with the instance first."""
        return AioMultiCalls(self._calls._core, (self._instance,))

    def __getattr__(self, name: str) -> Any:
        return functools.partial(getattr(self._calls, name), self._instance)


class Decorated:
    """The calls of a mode, each through the user's decorator (``decorate=``)."""

    __slots__ = ("_calls", "_decorate", "_made")

    def __init__(
        self, calls: Any, decorate: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        self._calls = calls
        self._decorate = decorate
        self._made: dict[str, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__("__call__")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name not in self._made:
            attribute = getattr(self._calls, name)
            if name == "__call__" and isinstance(self._calls, Entrance):
                attribute = self._calls.spoken()  # with the name and signature of the function
            plain = name.startswith("_") and name != "__call__"
            if plain or not callable(attribute):
                return attribute
            self._made[name] = self._decorate(attribute)
        return self._made[name]


_TAKE_ARGUMENTS = frozenset(
    {
        "callkey",
        "expire",
        "explain",
        "get_ttl",
        "invalidate",
        "lazy",
        "peek",
        "put",
        "refresh",
        "uncached",
    }
)
"""The attributes of a cached function that take the arguments of a call, ``self`` first."""
