"""Whether two functions that bear one name are one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["function_identity"]


def function_identity(function: Callable[..., Any]) -> object:
    """Equal for functions that are the same code and nothing else.

    What a function closes over, its defaults and the object that it is bound to may make
    another function of the same code.
    """
    code: object = getattr(function, "__code__", None)
    bound = (
        getattr(function, "__closure__", None),
        getattr(function, "__defaults__", None),
        getattr(function, "__kwdefaults__", None),
        getattr(function, "__self__", None),
    )
    return function if code is None or any(bound) else code
