"""Backends around backends, to change what the inner one does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from tiered.region.api import (
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    CacheMutex,
    KeyType,
    SerializedReturnType,
)

__all__ = ["ProxyBackend"]


class ProxyBackend(CacheBackend):
    """A backend that does all through another one; a subclass overrides what it changes.

    A region puts it around its backend: ``make_region().configure(..., wrap=[MyProxy])``.
    What a subclass overrides is used by the region, which then goes no other way to the inner
    backend; note that a region with a serialiser uses the ``..._serialized`` methods.

    Attributes:
        proxied: the backend inside.
    """

    proxied: CacheBackend

    def __init__(self, *_args: Any, **_options: Any) -> None:
        # Subclasses call this with what they like, or do not.
        pass

    def wrap(self, backend: CacheBackend) -> Self:
        """Do all through *backend*; returns the proxy."""
        self.proxied = backend
        return self

    def has_lock_timeout(self) -> bool:
        return self.proxied.has_lock_timeout()

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        return self.proxied.get_mutex(key)

    def get(self, key: KeyType) -> BackendFormatted:
        return self.proxied.get(key)

    def get_multi(self, keys: Iterable[KeyType]) -> Sequence[BackendFormatted]:
        return self.proxied.get_multi(keys)

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        return self.proxied.get_serialized(key)

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> Sequence[SerializedReturnType]:
        return self.proxied.get_serialized_multi(keys)

    def set(self, key: KeyType, value: BackendSetType) -> None:
        self.proxied.set(key, value)

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        self.proxied.set_multi(mapping)

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        self.proxied.set_serialized(key, value)

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        self.proxied.set_serialized_multi(mapping)

    def delete(self, key: KeyType) -> None:
        self.proxied.delete(key)

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        self.proxied.delete_multi(keys)
