"""What a region keeps: reading, writing and forgetting it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from tiered.region.api import (
    NO_VALUE,
    CachedValue,
    CacheReturnType,
    KeyType,
    NoValueType,
    ValuePayload,
)
from tiered.region.configured import ConfiguredRegion
from tiered.region.freshness import ExpirationTime, patience_of

__all__ = ["KeptRegion"]


class KeptRegion(ConfiguredRegion):
    """The values of a region; see :class:`tiered.region.region.CacheRegion`."""

    def get(
        self, key: KeyType, expiration_time: ExpirationTime = None, ignore_expiration: bool = False
    ) -> ValuePayload | NoValueType:
        """The value of *key*; :data:`NO_VALUE` if there is none that is good.

        Args:
            key: of the value.
            expiration_time: in place of the region's.
            ignore_expiration: take what there is, however old, and invalidated or not.
        """
        hit = self.hit(key, math.inf if ignore_expiration else self.patience(expiration_time))
        if hit is not None:
            return hit.payload
        return self.found([key], expiration_time, ignore_expiration)[0].payload

    def get_value_metadata(
        self, key: KeyType, expiration_time: ExpirationTime = None, ignore_expiration: bool = False
    ) -> CachedValue | None:
        """The value of *key* with its metadata, as of :meth:`get`; ``None`` if there is none."""
        hit = self.hit(key, math.inf if ignore_expiration else self.patience(expiration_time))
        if hit is not None:
            return hit
        found = self.found([key], expiration_time, ignore_expiration)[0]
        return None if found is NO_VALUE else found

    def get_multi(
        self,
        keys: Iterable[KeyType],
        expiration_time: ExpirationTime = None,
        ignore_expiration: bool = False,
    ) -> list[ValuePayload | NoValueType]:
        """:meth:`get` of each of *keys*, in their order."""
        found = self.found(keys, expiration_time, ignore_expiration, many=True)
        return [one.payload for one in found]

    def set(self, key: KeyType, value: ValuePayload) -> None:
        """Keep *value*, in place of what is being made for *key*."""
        self.core.put({self.mangled(key): value}, self.near.patience)

    def set_multi(self, mapping: Mapping[KeyType, ValuePayload]) -> None:
        """:meth:`set` each of *mapping*; all get one creation time."""
        core = self.core
        values = {self.mangled(key): mapping[key] for key in mapping}
        core.put(values, self.near.patience, many=True)

    def delete(self, key: KeyType) -> None:
        """Forget *key*; what is being made for it reaches who waits, but is not kept."""
        self.core.forget([self.mangled(key)])

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        """:meth:`delete` each of *keys*."""
        self.core.forget(self.mangled_all(keys), many=True)

    def key_is_locked(self, key: KeyType) -> bool:
        """Whether the value of *key* is being made just now."""
        return self.core.is_locked(self.mangled(key))

    # -- For the faces of the region ---------------------------------------------

    def mangled(self, key: KeyType) -> KeyType:
        """*key* as the backend knows it."""
        mangle = self.near.mangle
        return key if mangle is None else mangle(key)

    def mangled_all(self, keys: Iterable[KeyType]) -> list[KeyType]:
        """*keys* as the backend knows them."""
        return [self.mangled(key) for key in keys]

    def patience(self, expiration_time: ExpirationTime) -> float:
        """*expiration_time* in seconds, or the region's own."""
        return self.near.patience if expiration_time is None else patience_of(expiration_time)

    def hit(self, key: KeyType, patience: float) -> CachedValue | None:
        """The value of *key*, if a good one is in the memory of this process."""
        near = self.near
        mangle = near.mangle
        hit = near.hit(key if mangle is None else mangle(key), patience)
        if hit is not None:
            self._counters.far_hits += 1
        return hit

    def found(
        self,
        keys: Iterable[KeyType],
        expiration_time: ExpirationTime,
        ignoring: bool,
        *,
        many: bool = False,
    ) -> list[CacheReturnType]:
        """What ``get`` finds for *keys*, with its metadata; *many* are asked for together."""
        keeping, freshness = self.core.keeping, self.core.freshness
        patience = math.inf if ignoring else self.patience(expiration_time)

        def served(one: CacheReturnType) -> bool:
            return one is not NO_VALUE and (ignoring or freshness.is_served(one, patience))

        wanted = self.mangled_all(keys)
        found = keeping.read_many(wanted) if many else [keeping.read(key) for key in wanted]
        missing = [at for at, one in enumerate(found) if not served(one)]
        if missing and keeping.has_copies:
            again = keeping.read_many([wanted[at] for at in missing], youngest=True)
            for at, one in zip(missing, again, strict=True):
                found[at] = one
        answers = [one if served(one) else NO_VALUE for one in found]
        misses = sum(one is NO_VALUE for one in answers)
        self._counters.misses += misses
        self._counters.far_hits += len(answers) - misses
        return answers
