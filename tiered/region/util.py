"""Small helpers under the module name that users of dogpile.cache import them from."""

from __future__ import annotations

from typing import Any

from tiered.dogpile import KeyReentrantMutex
from tiered.region.config import coerce_string_conf
from tiered.region.keys import (
    exact_key_generator,
    exact_multi_key_generator,
    function_key_generator,
    function_multi_key_generator,
    kwarg_function_key_generator,
    length_conditional_mangler,
    sha1_mangle_key,
)

__all__ = [
    "KeyReentrantMutex",
    "coerce_string_conf",
    "exact_key_generator",
    "exact_multi_key_generator",
    "function_key_generator",
    "function_multi_key_generator",
    "kwarg_function_key_generator",
    "length_conditional_mangler",
    "repr_obj",
    "sha1_mangle_key",
    "to_list",
]


class repr_obj:  # noqa: N801 - dogpile.cache's name
    """Shows *value* with at most *max_chars* characters of its repr, the middle cut out.

    The repr is made when it is asked for: a message that is not logged costs nothing.
    """

    __slots__ = ("max_chars", "value")

    def __init__(self, value: Any, max_chars: int = 300) -> None:
        self.value = value
        self.max_chars = max_chars

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, repr_obj) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what it shows may change

    def __repr__(self) -> str:
        shown = repr(self.value)
        left_out = len(shown) - self.max_chars
        if left_out <= 0:
            return shown
        half = self.max_chars // 2
        left_out = len(shown) - 2 * half
        return (
            f"{shown[:half]} ... ({left_out} characters left out) ... {shown[len(shown) - half :]}"
        )


def to_list(value: Any, default: Any = None) -> Any:
    """*value* if it is a list or a tuple, *default* for ``None``, else a list of *value* alone."""
    if value is None:
        return default
    return value if isinstance(value, (list, tuple)) else [value]
