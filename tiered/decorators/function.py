"""The object that stands where the decorated function stood."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from tiered.clients.base import CacheClient
from tiered.clients.explanation import Explanation
from tiered.clients.namespace import NamespaceWrapper
from tiered.decorators.background import BackgroundCalls
from tiered.decorators.engine import Engine
from tiered.decorators.frontdoor import front_door
from tiered.decorators.futures import FutureCalls
from tiered.decorators.plan import Plan
from tiered.decorators.refresher import Refresher
from tiered.decorators.stats import CallStats
from tiered.decorators.verdict import LAZY, PEEK
from tiered.keys.call import CallShape
from tiered.typing import Key

__all__ = ["BoundCachedFunction", "CachedFunction"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Q = ParamSpec("Q")


class CachedFunction(Generic[P, R]):
    """A function with a cache in front of it; made by :func:`tiered.cached`.

    Calling it answers from the cache, or computes once and stores. The methods take
    the arguments of a call, in any spelling. As an attribute of a class it binds
    like a method, and so do its methods: ``obj.f.invalidate(x)``.

    Threads: safe; one computation per call runs at a time in this process, and its
    value or exception is everybody's who waited.
    """

    __slots__ = (
        "__call__",
        "__dict__",
        "__weakref__",
        "_engine",
        "_hits",
        "_plan",
        "_refresher",
        "_space",
    )

    def __init__(self, plan: Plan) -> None:
        functools.update_wrapper(self, plan.function)
        shape = CallShape.of(plan.function, ignore=plan.ignore, typed=plan.typed, key=plan.key)
        self._plan = plan
        self._space = NamespaceWrapper(plan.namespace, plan.client)
        self._engine = Engine(plan, self._space, shape)
        self._refresher = Refresher(
            self._engine, plan.pool, plan.client.clock, plan.namespace, plan.due_below
        )
        # The generated function itself is what is called: no frame of ours in between.
        self.__call__, self._hits = front_door(  # type: ignore[method-assign]
            shape, self._space, self._engine.settle
        )

    if TYPE_CHECKING:
        __name__: str
        __qualname__: str
        __wrapped__: Callable[P, R]

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> CachedFunction[P, R]: ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> BoundCachedFunction[Q, R]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundCachedFunction(self, instance)

    # -- Modes -----------------------------------------------------------------

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value of the call; never computes.

        Raises:
            CacheMissError: there is none.
        """
        value: R = self._engine.look(PEEK, args, kwargs)
        return value

    def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Like :meth:`peek`; as ``f.bg().lazy`` or ``f.future().lazy``, a miss starts computing.

        Raises:
            CacheMissError: there is no fresh value.
        """
        value: R = self._engine.look(LAZY, args, kwargs)
        return value

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute now, store and return, whatever is held."""
        value: R = self._engine.refresh(args, kwargs)
        return value

    def put(self, *args: Any, _cache_put: Any, **kwargs: Any) -> bool:
        """Hold ``_cache_put`` as the value of the call; whether it was written."""
        return self._engine.put(_cache_put, args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the value of the call; whether there was one.

        What is being computed for the call just now reaches those who wait for it,
        but is not stored.
        """
        return self._engine.invalidate(args, kwargs)

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make the value stale now, but keep it; whether it was fresh."""
        return self._engine.expire(args, kwargs)

    def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        """``(value, seconds left)``, with negative seconds for a stale value; never computes.

        Raises:
            CacheMissError: nothing is held.
        """
        return self._engine.get_ttl(args, kwargs)

    def bg(self) -> BackgroundCalls[P, R]:
        """The function with its computations in the background: ``f.bg()(...)``."""
        return BackgroundCalls(self._engine, self._refresher)

    def future(self) -> FutureCalls[P, R]:
        """The function with futures for answers: ``f.future()(...).result()``."""
        return FutureCalls(self._engine, self._refresher)

    # -- What it is made of ----------------------------------------------------

    @property
    def uncached(self) -> Callable[P, R]:
        """The decorated function itself."""
        return self._plan.function

    @property
    def client(self) -> CacheClient:
        """The client within this function's namespace: ``f.client.get(f.callkey(...))``."""
        return self._space

    @property
    def ttl(self) -> float:
        """Seconds for which a value is fresh."""
        return self._plan.ttl

    @property
    def async_ttl(self) -> float:
        """Seconds left at which a refresh is due; 0 for never before the end."""
        return self._plan.due_below

    def callkey(self, *args: P.args, **kwargs: P.kwargs) -> Key:
        """The key of a call in :attr:`client`."""
        return self._engine.bind(*args, **kwargs).key

    @property
    def stats(self) -> CallStats:
        """A frozen snapshot of what was counted."""
        return self._engine.counters.snapshot(self._hits())

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """What each tier holds for the call."""
        return self._space.explain(self.callkey(*args, **kwargs))

    def clear(self) -> None:
        """Forget the values of all calls."""
        self._engine.clear()

    def __reduce__(self) -> str:
        # Pickled by name, like the function whose place it takes.
        return str(self.__dict__["__qualname__"])

    def __repr__(self) -> str:
        return f"<cached {self._plan.namespace} ttl={self._plan.ttl:g} in {self._plan.client!r}>"


class BoundCachedFunction(Generic[P, R]):
    """A :class:`CachedFunction` with its first argument given: a bound method."""

    __slots__ = ("__call__", "__func__", "__self__")

    def __init__(self, function: CachedFunction[Any, R], instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__call__ = functools.partial(  # type: ignore[method-assign]
            function.__call__, instance
        )

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def bg(self) -> BoundCalls:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.bg(), self.__self__)

    def future(self) -> BoundCalls:
        """As of the function, with the instance given."""
        return BoundCalls(self.__func__.future(), self.__self__)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.__func__, name)
        if name in _TAKE_ARGUMENTS:
            return functools.partial(attribute, self.__self__)
        return attribute

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


class BoundCalls:
    """The background or future calls of a bound method: each takes the instance first."""

    __slots__ = ("_calls", "_instance")

    def __init__(self, calls: Any, instance: Any) -> None:
        self._calls = calls
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._calls(self._instance, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return functools.partial(getattr(self._calls, name), self._instance)


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
