"""What a region and its backends tell each other: values, keys, mutexes, the backend itself.

The names and meanings are dogpile.cache's, so that a backend that was written for it needs
another import and nothing else.
"""

from __future__ import annotations

import enum
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

from tiered.clock import SYSTEM_CLOCK

__all__ = [
    "NO_VALUE",
    "BackendArguments",
    "BackendFormatted",
    "BackendSetType",
    "BytesBackend",
    "CacheBackend",
    "CacheMutex",
    "CacheReturnType",
    "CachedValue",
    "CantDeserializeException",
    "DefaultSerialization",
    "Deserializer",
    "KeyManglerType",
    "KeyType",
    "MetaDataType",
    "NoValue",
    "NoValueType",
    "SerializedReturnType",
    "Serializer",
    "ValuePayload",
]


class NoValue(enum.Enum):
    """The type of :data:`NO_VALUE`; an enum so that it pickles, compares and types well."""

    NO_VALUE = "NoValue"

    @property
    def payload(self) -> Self:
        """Itself: what has no value has no payload either."""
        return self

    def __repr__(self) -> str:
        return "NO_VALUE"

    def __bool__(self) -> Literal[False]:
        return False


NoValueType: TypeAlias = Literal[NoValue.NO_VALUE]

NO_VALUE: Final = NoValue.NO_VALUE
"""Nothing is there, where ``None`` would be a value. It is false."""

KeyType: TypeAlias = str
"""The key of a value."""

ValuePayload: TypeAlias = Any
"""What the user caches."""

MetaDataType: TypeAlias = Mapping[str, Any]
"""What a region notes with a value: ``ct``, when it was made, in seconds since 1970 (a
``float``); ``v``, the version of this format; and, where the backend is shared, ``rv``, the
revision of the region that it was made in."""

KeyManglerType: TypeAlias = Callable[[KeyType], KeyType]
Serializer: TypeAlias = Callable[[ValuePayload], bytes]
Deserializer: TypeAlias = Callable[[bytes], ValuePayload]
BackendArguments: TypeAlias = Mapping[str, Any]


class CachedValue(NamedTuple):
    """A value with what is noted about it; what a backend keeps."""

    payload: ValuePayload
    """What the user caches."""

    metadata: MetaDataType
    """About it; read it through the properties."""

    @property
    def cached_time(self) -> float:
        """When it was made, in seconds since 1970."""
        made: float = self.metadata["ct"]
        return made

    @property
    def age(self) -> float:
        """Seconds since it was made, by this machine's clock as of now."""
        return SYSTEM_CLOCK.wall() - self.cached_time


CacheReturnType: TypeAlias = CachedValue | NoValueType
SerializedReturnType: TypeAlias = bytes | NoValueType
BackendFormatted: TypeAlias = CacheReturnType | SerializedReturnType
BackendSetType: TypeAlias = CachedValue | bytes


class CantDeserializeException(Exception):
    """To be raised by a deserialiser for what it does not know: the value is made anew."""


class CacheMutex(ABC):
    """What :meth:`CacheBackend.get_mutex` gives. Anything with these three methods is one."""

    @abstractmethod
    def acquire(self, wait: bool = True) -> bool:
        """Take it; without *wait*, ``False`` if somebody has it."""

    @abstractmethod
    def release(self) -> Any:
        """Give it back."""

    @abstractmethod
    def locked(self) -> bool:
        """Whether somebody has it."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        if cls is CacheMutex:
            names = ("acquire", "release", "locked")
            return all(callable(getattr(other, name, None)) for name in names)
        return NotImplemented  # type: ignore[no-any-return]  # of a subclass: what derives from it


class CacheBackend:
    """Where the values of a region lie; to be subclassed by who brings a store of his own.

    Only :meth:`get`, :meth:`set` and :meth:`delete` must be written; the rest follows from
    them. Keys arrive as the region's key mangler made them. What a backend raises is a miss
    that the region counts and logs.

    Args:
        arguments: those of the region's configuration.

    Threads: a region calls its backend from any thread at any time.
    """

    key_mangler: KeyManglerType | None = None
    """For regions that have none of their own."""

    serializer: Serializer | None = None
    """For regions that have none of their own; ``None`` for values as they are."""

    deserializer: Deserializer | None = None
    """Undoes :attr:`serializer`."""

    def __init__(self, arguments: BackendArguments) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define __init__(arguments)")

    @classmethod
    def from_config_dict(cls, config_dict: Mapping[str, Any], prefix: str) -> Self:
        """A backend with those of *config_dict* for arguments whose names begin with *prefix*."""
        return cls(
            {
                name.removeprefix(prefix): value
                for name, value in config_dict.items()
                if name.startswith(prefix)
            }
        )

    def has_lock_timeout(self) -> bool:
        """Whether a mutex that is not released comes free by itself."""
        return False

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        """What keeps others from making the value of *key*; ``None`` to keep threads apart only.

        It may be released in another thread than the one that took it.
        """
        return None

    def get(self, key: KeyType) -> BackendFormatted:
        """What :meth:`set` was given for *key*, or :data:`NO_VALUE`."""
        raise NotImplementedError(f"{type(self).__name__} must define get(key)")

    def get_multi(self, keys: Iterable[KeyType]) -> Sequence[BackendFormatted]:
        """The same for each of *keys*, in their order."""
        return [self.get(key) for key in keys]

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        """The bytes that :meth:`set_serialized` was given for *key*, or :data:`NO_VALUE`."""
        return self.get(key)  # type: ignore[return-value]  # what was set as bytes

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> Sequence[SerializedReturnType]:
        """The same for each of *keys*, in their order."""
        return self.get_multi(keys)  # type: ignore[return-value]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        """Keep *value*."""
        raise NotImplementedError(f"{type(self).__name__} must define set(key, value)")

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        """Keep each value of *mapping*, which must be left as it is."""
        for key, value in mapping.items():
            self.set(key, value)

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        """Keep bytes."""
        self.set(key, value)

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        """Keep each of the bytes in *mapping*, which must be left as it is."""
        self.set_multi(mapping)

    def delete(self, key: KeyType) -> None:
        """Forget *key*, whether it is there or not."""
        raise NotImplementedError(f"{type(self).__name__} must define delete(key)")

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        """Forget each of *keys*."""
        for key in keys:
            self.delete(key)


class DefaultSerialization:
    """Gives a backend pickle for its serialiser."""

    serializer: Serializer | None = staticmethod(pickle.dumps)
    deserializer: Deserializer | None = staticmethod(pickle.loads)


class BytesBackend(DefaultSerialization, CacheBackend):
    """A backend that keeps bytes only.

    :meth:`get_serialized`, :meth:`set_serialized` and :meth:`delete` must be written; the rest
    follows from them.
    """

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        raise NotImplementedError(f"{type(self).__name__} must define get_serialized(key)")

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> Sequence[SerializedReturnType]:
        return [self.get_serialized(key) for key in keys]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define set_serialized(key, value)")

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        for key, value in mapping.items():
            self.set_serialized(key, value)
