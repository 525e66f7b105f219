"""What a decorated function is to a type checker; at run time it is a plain function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

__all__ = ["AsyncRegionDecorator", "BoundRegionFunction", "RegionDecorator", "RegionFunction"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


class BoundRegionFunction(Protocol[Q, R_co]):
    """A decorated method of an object; what hangs on it takes the object first."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...

    set: Callable[..., Any]
    get: Callable[..., Any]
    refresh: Callable[..., Any]
    invalidate: Callable[..., Any]
    original: Callable[..., Any]


class RegionFunction(Protocol[P, R]):
    """A decorated function. Of a coroutine function, all of these are coroutine functions.

    Attributes:
        set: ``set(value, *args)`` keeps *value* for a call; of many keys, ``set(mapping)``.
        get: what is kept for a call, or ``NO_VALUE``.
        refresh: makes the value of a call anew, keeps and returns it.
        invalidate: forgets the value of a call.
        original: the function itself.
    """

    __name__: str
    __qualname__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> RegionFunction[P, R]: ...

    @overload
    def __get__(
        self: RegionFunction[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> BoundRegionFunction[Q, R]: ...

    set: Callable[..., Any]
    get: Callable[P, Any]
    refresh: Callable[P, R]
    invalidate: Callable[P, Any]
    original: Callable[P, R]


class RegionDecorator(Protocol):
    """Makes a :class:`RegionFunction` of a function."""

    def __call__(self, function: Callable[P, R], /) -> RegionFunction[P, R]: ...


class AsyncRegionDecorator(Protocol):
    """Makes a :class:`RegionFunction` that is a coroutine function, of any function."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> RegionFunction[P, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(
        self, function: Callable[P, R], /
    ) -> RegionFunction[P, Coroutine[Any, Any, R]]: ...
