"""A region's values, as its backend keeps them.

Everything here keeps the cache's troubles from the caller: what a backend or a serialiser
raises is counted, logged once per interval, and looks like a miss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from tiered.clients.base import Claim
from tiered.region.api import (
    NO_VALUE,
    CacheBackend,
    CachedValue,
    CacheReturnType,
    CantDeserializeException,
    Deserializer,
    KeyType,
    Serializer,
)
from tiered.region.backends.clients import ClientBackend, given
from tiered.region.invalidation import RegionInvalidationStrategy, SharedInvalidationStrategy
from tiered.region.serialization import dumped, is_metadata, parsed
from tiered.stats.reports import Reports
from tiered.steps.counting import CallCounters
from tiered.typing import Clock, Following, Key, OnChange

__all__ = ["VALUE_VERSION", "Keeping"]

T = TypeVar("T")

VALUE_VERSION: Final = 2
"""Of what is noted with a value; dogpile.cache's number for the same form."""


class Keeping:
    """Reads and writes the values of a region through its backend.

    Args:
        backend: the outermost one.
        serializer, deserializer: between payloads and bytes; ``None`` for values as they are.
        clock: stamps what is written.
        counters, reports: of the region.
        strategy: gives the strategy that is in force.

    Attributes:
        client: the backend, if it is one over a client of ours with nothing around it; then
            its client is asked directly, where that saves a request.

    Threads: safe.
    """

    def __init__(
        self,
        backend: CacheBackend,
        *,
        serializer: Serializer | None,
        deserializer: Deserializer | None,
        clock: Clock,
        counters: CallCounters,
        reports: Reports,
        strategy: Callable[[], RegionInvalidationStrategy],
    ) -> None:
        self.backend: Final = backend
        self.client: Final = backend if isinstance(backend, ClientBackend) else None
        self._serializer = serializer
        self._deserializer = deserializer
        self._clock = clock
        self._counters = counters
        self._reports = reports
        self._strategy = strategy

    @property
    def keeps_as_it_is(self) -> bool:
        """Whether values are kept without a serialiser."""
        return self._serializer is None and self._deserializer is None

    @property
    def has_copies(self) -> bool:
        """Whether what is near may be a copy of what others have replaced by now."""
        if self.client is None:
            return False
        return self.client.capabilities.shared and self.client.capabilities.near

    def guarded(self, operation: Callable[[], T], fallback: T) -> T:
        """Do *operation*; *fallback* if it fails."""
        try:
            return operation()
        except Exception as error:
            self._failed("the backend failed", repr(error))
            return fallback

    def _failed(self, what: str, error: object, *keys: object) -> None:
        """Count it, and log *what* has become of *keys*, once per interval."""
        self._counters.errors += 1
        told = f"{what} ({', '.join(map(repr, keys))})" if keys else what
        self._reports.warn(what, "%s in %r: %s", told, self.backend, error)

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        """Hear of what others do to *key*, as of a client; ``None`` if nobody would tell."""
        return None if self.client is None else self.client.client.follow(key, changed)

    # -- Reading -----------------------------------------------------------------

    def read(self, key: KeyType, *, youngest: bool = False) -> CacheReturnType:
        """What is kept for *key*; of several tiers, the nearest, or the *youngest*."""
        return self.guarded(lambda: self._read((key,), youngest, many=False)[0], NO_VALUE)

    def read_many(
        self, keys: Sequence[KeyType], *, youngest: bool = False
    ) -> list[CacheReturnType]:
        """The same for each of *keys*, in their order."""
        if not keys:
            return []
        nothing: list[CacheReturnType] = [NO_VALUE for _ in keys]
        return self.guarded(lambda: self._read(keys, youngest, many=True), nothing)

    # What is asked for together is asked for by the backend's methods for many, also where it is
    # one: a proxy may have an eye on these only.

    def _read(
        self, keys: Sequence[KeyType], youngest: bool, *, many: bool
    ) -> list[CacheReturnType]:
        if self.client is not None:
            return self._found(self.client, keys, youngest)
        self._update(confirmed=youngest)
        backend = self.backend
        values: Iterable[Any]
        if self._deserializer is None:
            values = backend.get_multi(keys) if many else [backend.get(keys[0])]
        elif many:
            values = backend.get_serialized_multi(keys)
        else:
            values = [backend.get_serialized(keys[0])]
        given_for = list(values)
        if len(given_for) != len(keys):
            raise ValueError(f"get_multi of {len(keys)} keys gave {len(given_for)} values")
        return [self._loaded(key, value) for key, value in zip(keys, given_for, strict=True)]

    def _found(
        self, backend: ClientBackend, keys: Sequence[KeyType], youngest: bool
    ) -> list[CacheReturnType]:
        strategy = self._strategy()
        if isinstance(strategy, SharedInvalidationStrategy) and backend.asks_each_time:
            ticket = strategy.ticket()
            found, marks = backend.find_beside(keys, strategy.keys, youngest=youngest)
            strategy.adopt(marks, ticket)
        else:
            self._update(confirmed=youngest)
            found = backend.find(keys, youngest=youngest)
        return [
            self._loaded(key, given(found[key].value)) if key in found else NO_VALUE for key in keys
        ]

    def _update(self, *, confirmed: bool) -> None:
        strategy = self._strategy()
        if isinstance(strategy, SharedInvalidationStrategy):
            self.guarded(strategy.confirm if confirmed else strategy.current, "")

    def _loaded(self, key: KeyType, value: Any) -> CacheReturnType:
        """*value* if it is one of a region's; else it is not there."""
        if isinstance(value, (bytes, bytearray, memoryview)) and self._deserializer is not None:
            return self._parsed(key, bytes(value), self._deserializer)
        if isinstance(value, tuple) and len(value) == 2 and is_metadata(value[1]):
            return value if type(value) is CachedValue else CachedValue(*value)
        if value is not None and type(value).__name__ != "NoValue":  # dogpile's own says so too
            self._failed("a value of no region is a miss", f"it is a {type(value).__name__}", key)
        return NO_VALUE

    def _parsed(self, key: KeyType, data: bytes, deserializer: Deserializer) -> CacheReturnType:
        try:
            return parsed(data, deserializer)
        except CantDeserializeException:
            return NO_VALUE
        except Exception as error:
            self._failed("a value that cannot be read is a miss", repr(error), key)
            return NO_VALUE

    # -- Writing -----------------------------------------------------------------

    @property
    def has_revisions(self) -> bool:
        """Whether values are stamped with a revision of the region."""
        return isinstance(self._strategy(), SharedInvalidationStrategy)

    def revision(self, *, confirmed: bool) -> str | None:
        """What a value is stamped with whose computation begins now."""
        strategy = self._strategy()
        if not isinstance(strategy, SharedInvalidationStrategy):
            return None
        return self.guarded(strategy.confirm if confirmed else strategy.current, strategy.revision)

    def stamp(self, revision: str | None) -> dict[str, Any]:
        """The metadata of what was made just now."""
        # Not before an invalidation that it was made after, however the clock is set.
        floor = getattr(self._strategy(), "floor", -math.inf)
        metadata: dict[str, Any] = {"ct": max(self._clock.wall(), floor), "v": VALUE_VERSION}
        if revision is not None:
            metadata["rv"] = revision
        return metadata

    def write(
        self, values: Mapping[KeyType, CachedValue], patience: float, *, many: bool = False
    ) -> None:
        """Keep *values*, which are out of date after *patience* seconds."""
        if not values:
            return
        self.guarded(lambda: self._write(values, patience, many), None)

    def fill(self, claim: Claim, value: CachedValue, patience: float) -> None:
        """Keep what was made under *claim*, if that still holds."""
        client = self.client
        assert client is not None

        def fill() -> None:
            key: Any = claim.key
            for one in self._dumped({key: value}).values():
                ttl, keep = client.lives(patience)
                claim.fill(client.kept(one), ttl, keep=keep)

        self.guarded(fill, None)

    def _write(self, values: Mapping[KeyType, CachedValue], patience: float, many: bool) -> None:
        backend = self.backend
        kept = self._dumped(values)
        if not kept:
            return
        if self.client is not None:
            self.client.put(kept, patience)
        elif not many:
            for key, one in kept.items():
                if isinstance(one, bytes):
                    backend.set_serialized(key, one)
                else:
                    backend.set(key, one)
        elif self._serializer is not None:
            backend.set_serialized_multi(kept)  # type: ignore[arg-type]  # bytes, all of them
        else:
            backend.set_multi(kept)

    def _dumped(
        self, values: Mapping[KeyType, CachedValue]
    ) -> Mapping[KeyType, CachedValue | bytes]:
        """*values* in the form that the backend keeps; without those that have none."""
        serializer = self._serializer
        if serializer is None:
            return values
        made: dict[KeyType, bytes] = {}
        for key, value in values.items():
            try:
                made[key] = dumped(value, serializer)
            except Exception as error:  # a serialiser is anybody's code
                self._failed("a value is not kept", repr(error), key)
        # What was there before is not what was last set or made.
        self.forget([key for key in values if key not in made])
        return made

    def forget(self, keys: Sequence[KeyType], *, many: bool = False) -> None:
        """Delete *keys*."""
        if many and keys:
            self.guarded(lambda: self.backend.delete_multi(keys), None)
        else:
            for key in keys:
                self.guarded(lambda key=key: self.backend.delete(key), None)  # type: ignore[misc]
