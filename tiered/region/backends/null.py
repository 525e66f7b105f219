"""The backend that keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from tiered.region.api import (
    NO_VALUE,
    BackendArguments,
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    CacheMutex,
    KeyType,
)

__all__ = ["NullBackend"]


class _NullMutex(CacheMutex):
    """Never held, so that it holds nobody up."""

    def acquire(self, wait: bool = True) -> bool:
        return True

    def release(self) -> bool:
        return True

    def locked(self) -> bool:
        return False


class NullBackend(CacheBackend):
    """Keeps nothing, and lets everybody create at the same time: a region without a cache."""

    arguments_known: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, arguments: BackendArguments) -> None:
        pass

    def get_mutex(self, key: KeyType) -> CacheMutex:
        return _NullMutex()

    def get(self, key: KeyType) -> BackendFormatted:
        return NO_VALUE

    def get_multi(self, keys: Iterable[KeyType]) -> Sequence[BackendFormatted]:
        return [NO_VALUE for _ in keys]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        pass

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        pass

    def delete(self, key: KeyType) -> None:
        pass

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        pass
