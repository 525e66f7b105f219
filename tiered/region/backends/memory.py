"""Backends over a dict of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Final

from tiered.concurrency import fork
from tiered.region.api import (
    NO_VALUE,
    BackendArguments,
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    DefaultSerialization,
    KeyType,
)
from tiered.region.exception import ValidationError

__all__ = ["MemoryBackend", "MemoryPickleBackend"]

_NEEDED: Final = ("get", "__setitem__", "pop")


class MemoryBackend(CacheBackend):
    """Keeps values as they are given, without a limit: who gets one may change it for all.

    For a limit there is the backend ``"inproc"``, or a mapping that has one.

    Args:
        arguments: ``cache_dict``, a mapping to keep the values in; by default a new dict.

    Raises:
        ValidationError: ``cache_dict`` is no mapping.

    Threads: safe. A mapping that is no plain dict is used by one thread at a time.
    """

    arguments_known: ClassVar[frozenset[str]] = frozenset({"cache_dict"})

    def __init__(self, arguments: BackendArguments) -> None:
        given = arguments.get("cache_dict")
        if given is not None and not all(hasattr(given, name) for name in _NEEDED):
            raise ValidationError(
                f"cache_dict must be a mapping that can be changed (it needs get, pop and "
                f"[key] = value), not {given!r}"
            )
        self._cache: MutableMapping[KeyType, Any] = {} if given is None else given
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock: whoever held it is not in this process."""
        # A dict does each of these things at once by itself.
        self._guard: AbstractContextManager[Any] = (
            nullcontext() if type(self._cache) is dict else threading.RLock()
        )

    @property
    def cache(self) -> MutableMapping[KeyType, Any]:
        """The mapping itself."""
        return self._cache

    def get(self, key: KeyType) -> BackendFormatted:
        with self._guard:
            found: BackendFormatted = self._cache.get(key, NO_VALUE)
            return found

    def get_multi(self, keys: Iterable[KeyType]) -> Sequence[BackendFormatted]:
        return [self.get(key) for key in keys]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        with self._guard:
            self._cache[key] = value

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        for key, value in mapping.items():
            self.set(key, value)

    def delete(self, key: KeyType) -> None:
        with self._guard:
            self._cache.pop(key, None)

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        for key in keys:
            self.delete(key)


class MemoryPickleBackend(DefaultSerialization, MemoryBackend):
    """The same with pickled values: everybody gets a copy of his own, as from a server."""
