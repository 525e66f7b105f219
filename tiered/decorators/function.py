"""The objects that stand where the decorated function stood."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from tiered.acceleration import core
from tiered.clients.base import CacheClient
from tiered.clients.explanation import Explanation
from tiered.decorators.aio import AioCalls, AioMultiCalls, AwaitableOperations
from tiered.decorators.background import BackgroundCalls
from tiered.decorators.bound import BoundAwaitable, BoundCachedFunction, Decorated
from tiered.decorators.core import Core
from tiered.decorators.entrance import MethodEntrance, Spoken
from tiered.decorators.futures import FutureCalls
from tiered.decorators.multi import MultiCalls
from tiered.decorators.plan import Plan, check_answers_at_once
from tiered.decorators.verdict import PEEK
from tiered.steps.counting import CallStats
from tiered.typing import Key, PromoteCallback

__all__ = ["AsyncCachedFunction", "CachedBase", "CachedFunction"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Q = ParamSpec("Q")
HookT = TypeVar("HookT", bound=Callable[..., Any])

_MODES = ("peek", "lazy", "refresh", "put", "invalidate", "expire", "get_ttl")


class CachedBase(MethodEntrance, Generic[P, R]):
    """What cached functions have in common: what they are made of, and what hangs on them.

    Threads: safe.
    """

    __slots__ = ("__dict__", "__weakref__", "_aio", "_core", "_spoken")

    _core: Core

    def __init__(self, plan: Plan) -> None:
        functools.update_wrapper(self, plan.function)
        self._core = Core(plan)
        self._aio: Any = None
        self._spoken: Any = None
        # The generated function itself is what is called: no frame of ours in between.
        door = self._door()
        if plan.decorate is not None:
            door = plan.decorate(self._core.spoken(door, awaits=plan.awaits))
            for mode in _MODES:
                self.__dict__[mode] = plan.decorate(getattr(self, mode))
        self.entered = door

    def _door(self) -> Callable[..., Any]:
        raise NotImplementedError

    if core and not TYPE_CHECKING:
        # Seen by those who look for it; a call goes through the entrance.
        __call__ = Spoken()

    def spoken(self) -> Callable[..., Any]:
        """The call as a Python function, with the signature of the function."""
        if self._spoken is None:
            self._spoken = self._core.spoken(self.entered, awaits=self._core.plan.awaits)
        spoken: Callable[..., Any] = self._spoken
        return spoken

    def _decorated(self, calls: Any) -> Any:
        decorate = self._core.plan.decorate
        return calls if decorate is None else Decorated(calls, decorate)

    def future(self) -> FutureCalls[P, R]:
        """The function with futures for answers: ``f.future()(...).result()``."""
        calls: FutureCalls[P, R] = self._decorated(FutureCalls(self._core))
        return calls

    @property
    def aio(self) -> AioCalls[P, R]:
        """The function for event loops: ``await f.aio(...)``."""
        if self._aio is None:
            # Two threads at a time make two, which count together and do the same.
            self._aio = self._decorated(AioCalls(self._core))
        calls: AioCalls[P, R] = self._aio
        return calls

    # -- What it is made of ----------------------------------------------------

    @property
    def client(self) -> CacheClient:
        """The client within this function's namespace: ``f.client.get(f.callkey(...))``."""
        return self._core.space.client

    @property
    def ttl(self) -> float | Callable[[Any], float]:
        """Seconds for which a value is fresh, or what decides it."""
        return self._core.plan.ttl

    @property
    def async_ttl(self) -> float:
        """Seconds left at which a refresh is due; 0 for never before the end."""
        return self._core.plan.due_below

    def callkey(self, *args: P.args, **kwargs: P.kwargs) -> Key:
        """The key of a call in :attr:`client`."""
        return self._core.reading.bind(*args, **kwargs).key

    @property
    def stats(self) -> CallStats:
        """A frozen snapshot of what was counted."""
        return self._core.stats

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """What each tier holds for the call, and what became of its computations."""
        call = self._core.reading.bind(*args, **kwargs)
        held = self.client.explain(call.key)
        return replace(held, detail=(*held.detail, *self._core.engine.circumstances(call)))

    def clear(self) -> None:
        """Forget the values of all calls.

        Raises:
            UnsupportedOperation: with ``NO_NAMESPACE`` on a client that others share.
        """
        self._core.blocking.run(self._core.engine.clear()).get()

    # -- What hangs on it ------------------------------------------------------

    def on_value(self, callback: HookT) -> HookT:
        """Call ``callback(value, *args, **kwargs)`` with each value that is computed.

        A decorator: returns *callback*. What it raises is logged and goes no further.
        """
        check_answers_at_once("on_value", callback)
        self._core.reading.hooks.on_value(callback)
        return callback

    def on_promote(self, callback: PromoteCallback) -> PromoteCallback:
        """Call ``callback(key, value, ttl)`` with each value that is copied to a nearer tier.

        A decorator: returns *callback*. What it raises is logged and goes no further.
        """
        check_answers_at_once("on_promote", callback)
        self._core.reading.hooks.on_promote(callback)
        return callback

    def placeholder_value(self, make: HookT) -> HookT:
        """In the modes that refresh, answer with ``make(*args, **kwargs)`` while the first
        value is computed behind; with ``renew_time``, others get it too for as long.

        A decorator: returns *make*.
        """
        check_answers_at_once("placeholder_value", make)
        self._core.reading.hooks.placeholder = make
        return make

    def __reduce__(self) -> str:
        # Pickled by name, like the function whose place it takes.
        return str(self.__dict__["__qualname__"])

    def __repr__(self) -> str:
        plan = self._core.plan
        ttl = "callable" if callable(plan.ttl) else f"{plan.ttl:g}"
        return f"<cached {plan.name} ttl={ttl} in {plan.client!r}>"


class CachedFunction(CachedBase[P, R]):
    """A function with a cache in front of it; made by :func:`tiered.cached`.

    Calling it answers from the cache, or computes once and stores. The methods take
    the arguments of a call, in any spelling. As an attribute of a class it binds
    like a method, and so do its methods: ``obj.f.invalidate(x)``.

    Threads: safe; one computation per call runs at a time in this process, and its
    value or exception is everybody's who waited.
    """

    __slots__ = ()

    binding = BoundCachedFunction

    def _door(self) -> Callable[..., Any]:
        return self._core.blocking_door()

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

        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    # -- Modes -----------------------------------------------------------------

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The fresh value of the call; never computes.

        Raises:
            CacheMissError: there is none.
        """
        value: R = self._core.blocking.run(self._core.engine.answer(PEEK, args, kwargs)).get()
        return value

    def lazy(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Like :meth:`peek`; as ``f.bg().lazy`` or ``f.future().lazy``, a miss starts computing.

        Raises:
            CacheMissError: there is no fresh value.
        """
        value: R = self._core.blocking.run(self._core.engine.answer(PEEK, args, kwargs)).get()
        return value

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute now, store and return, whatever is held."""
        value: R = self._core.blocking.run(self._core.engine.refresh(args, kwargs)).get()
        return value

    def put(self, *args: Any, _cache_put: R, **kwargs: Any) -> bool:
        """Hold ``_cache_put`` as the value of the call; whether it was written."""
        steps = self._core.engine.put(_cache_put, args, kwargs)
        written: bool = self._core.blocking.run(steps).get()
        return written

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the value of the call; whether there was one.

        What is being computed for the call just now reaches those who wait for it,
        but is not stored.
        """
        steps = self._core.engine.invalidate(args, kwargs)
        found: bool = self._core.blocking.run(steps).get()
        return found

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make the value stale now, but keep it; whether it was fresh."""
        fresh: bool = self._core.blocking.run(self._core.engine.expire(args, kwargs)).get()
        return fresh

    def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        """``(value, seconds left)``, with negative seconds for a stale value; never computes.

        Raises:
            CacheMissError: nothing is held.
        """
        steps = self._core.engine.get_ttl(args, kwargs)
        found: tuple[R, float] = self._core.blocking.run(steps).get()
        return found

    def bg(self) -> BackgroundCalls[P, R]:
        """The function with its computations in the background: ``f.bg()(...)``."""
        calls: BackgroundCalls[P, R] = self._decorated(BackgroundCalls(self._core))
        return calls

    @property
    def multi(self) -> MultiCalls[R]:
        """Many calls at once: ``f.multi(items)``, ``f.multi.invalidate(items)`` ..."""
        return self._multi(())

    def _multi(self, first: tuple[Any, ...]) -> MultiCalls[R]:
        calls: MultiCalls[R] = self._decorated(MultiCalls(self._core, first))
        return calls

    @property
    def uncached(self) -> Callable[P, R]:
        """The decorated function itself."""
        return self._core.plan.function


class AsyncCachedFunction(AwaitableOperations[P, R], CachedBase[P, R]):
    """A coroutine function with a cache in front of it; made by :func:`tiered.cached`.

    As :class:`CachedFunction`, and everything that may wait is awaited: ``await f(...)``,
    ``await f.invalidate(...)``. ``await f(...)`` answers at once while a refresh is due, and
    with a stale value while it is kept (``keep``); what is older is computed first.

    The computation is a task of its own: a caller who is cancelled stops waiting, and that
    is all. It is one in this process for all event loops and threads.

    Threads: safe.
    """

    __slots__ = ()

    _core: Core
    binding = BoundAwaitable

    def _door(self) -> Callable[..., Any]:
        return self._core.awaitable_door(self._core.row)

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        _mark_coroutine_function(self)

    if TYPE_CHECKING:
        __name__: str
        __qualname__: str
        __wrapped__: Callable[P, Any]

        async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @overload
        def __get__(
            self, instance: None, owner: type | None = None
        ) -> AsyncCachedFunction[P, R]: ...

        @overload
        def __get__(
            self: AsyncCachedFunction[Concatenate[S, Q], R], instance: S, owner: type | None = None
        ) -> BoundAwaitable[Q, R]: ...

        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    def bg(self) -> AioCalls[P, R]:
        """:attr:`aio`: stale or due values at once, with the computation behind."""
        return self.aio

    @property
    def multi(self) -> AioMultiCalls[R]:
        """Many calls at once: ``await f.multi(items)`` ..."""
        return self._multi(())

    def _multi(self, first: tuple[Any, ...]) -> AioMultiCalls[R]:
        calls: AioMultiCalls[R] = self._decorated(AioMultiCalls(self._core, first))
        return calls

    @property
    def uncached(self) -> Callable[P, Any]:
        """The decorated function itself."""
        return self._core.plan.function


def _mark_coroutine_function(function: AsyncCachedFunction[Any, Any]) -> None:
    """Let ``inspect`` and ``asyncio`` see what a call returns, as frameworks do."""
    import asyncio
    import inspect

    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(function)
    else:  # before Python 3.12 only asyncio can be told
        function.__dict__["_is_coroutine"] = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
