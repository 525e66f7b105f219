"""Objects that can be called like functions, at the price of one.

A method ``__call__`` would put a Python frame of ours around each call. These objects are
called by a function of their own, each: compiled, or held in the slot ``__call__``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiered.acceleration import core

__all__ = [
    "BoundEntrance",
    "Entrance",
    "MethodEntrance",
    "PythonBoundEntrance",
    "PythonEntrance",
    "PythonMethodEntrance",
    "Spoken",
]


class PythonEntrance:
    """An object that, when it is called, calls what it was told."""

    __slots__ = ("__call__",)

    __call__: Any

    @property
    def entered(self) -> Callable[..., Any]:
        """What a call does."""
        call: Callable[..., Any] = self.__call__
        return call

    @entered.setter
    def entered(self, call: Callable[..., Any]) -> None:
        self.__call__ = call

    def spoken(self) -> Callable[..., Any]:
        """What a call does, as a Python function."""
        return self.entered


class PythonMethodEntrance(PythonEntrance):
    """An entrance that, in a class, is a method of its objects.

    Attributes:
        binding: ``binding(entrance, instance)`` makes the bound method.
    """

    __slots__ = ()

    binding: Callable[[Any, Any], Any]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self.binding(self, instance)


class PythonBoundEntrance:
    """A method entrance with its first argument given."""

    __slots__ = ("__call__", "__func__", "__self__")

    __call__: Any

    def __init__(self, function: Any, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__call__ = functools.partial(function.entered, instance)


class Spoken:
    """``f.__call__`` of a compiled entrance, as a function with the signature of *f*.

    Frameworks, mocks and documentation tools look at it. It is made when somebody does; a call
    does not come this way.
    """

    is_spoken = True

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else instance.spoken()

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        return instance.entered(*args, **kwargs)


if TYPE_CHECKING:
    Entrance = PythonEntrance
    MethodEntrance = PythonMethodEntrance
    BoundEntrance = PythonBoundEntrance
else:
    Entrance = core.Entrance if core else PythonEntrance
    MethodEntrance = core.MethodEntrance if core else PythonMethodEntrance
    BoundEntrance = core.BoundEntrance if core else PythonBoundEntrance
