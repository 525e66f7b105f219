"""A client whose keys and values are transformed on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiered.clients.base import CacheClient
from tiered.clients.wrapper import Wrapper
from tiered.typing import Key

__all__ = ["DecoratedWrapper"]


class DecoratedWrapper(Wrapper):
    """Stores ``value_decorator(value)`` under ``key_decorator(key)``, and undoes it.

    Args:
        client: the client to wrap.
        key_decorator: must keep equal keys equal and unequal ones unequal.
        value_decorator: applied to what is stored.
        value_undecorator: its inverse, applied to what is read.

    Raises:
        TypeError: a transform is not callable.

    Threads: as safe as the client and the transforms, which are called without a lock.
    """

    def __init__(
        self,
        client: CacheClient,
        key_decorator: Callable[[Any], Key] | None = None,
        value_decorator: Callable[[Any], Any] | None = None,
        value_undecorator: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(client)
        self._key = _callable("key_decorator", key_decorator)
        self._inner = _callable("value_decorator", value_decorator)
        self._outer_of = _callable("value_undecorator", value_undecorator)

    def inner_key(self, key: Key) -> Key:
        transformed: Key = self._key(key)
        return transformed

    def inner_value(self, value: Any) -> Any:
        return self._inner(value)

    def outer_value(self, value: Any) -> Any:
        return self._outer_of(value)

    def around(self, client: CacheClient) -> DecoratedWrapper:
        return DecoratedWrapper(client, self._key, self._inner, self._outer_of)


def _callable(name: str, function: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    if function is None:
        return _same
    if not callable(function):
        raise TypeError(f"{name} must be callable, not {function!r}")
    return function


def _same(value: Any) -> Any:
    return value
