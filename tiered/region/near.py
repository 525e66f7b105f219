"""The part of a region that each call of a cached function reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from tiered.region.api import CacheBackend, CachedValue, KeyManglerType
from tiered.region.backends.clients import ClientBackend, near_get
from tiered.region.backends.memory import MemoryBackend
from tiered.region.invalidation import (
    DefaultInvalidationStrategy,
    RegionInvalidationStrategy,
    SharedInvalidationStrategy,
)
from tiered.region.keeping import VALUE_VERSION
from tiered.typing import Clock

__all__ = ["Near"]


class _Trusted(Protocol):
    """What can be told of an invalidation strategy without calling it."""

    @property
    def floor(self) -> float: ...

    @property
    def revision(self) -> str | None: ...

    @property
    def horizon(self) -> float | None: ...


class _Untold:
    """Of a stranger's strategy: nothing."""

    floor = math.inf
    revision = None
    horizon = None


_UNTOLD = _Untold()


class Near:
    """How to find a value in the memory of this process, and what makes it a hit.

    Attributes:
        lookup: ``lookup(key, None)`` gives the value that is near, or ``None``.
        mangle: makes the backend's key of a caller's, if it is another one.
        patience: seconds after which a value is out of date.
        invalidation: what the region's strategy tells without being called.
        wall, monotonic: the region's clock.

    Threads: safe; changed while the region is configured.
    """

    __slots__ = ("invalidation", "lookup", "mangle", "monotonic", "patience", "wall")

    def __init__(self) -> None:
        self.lookup: Callable[[Any, Any], Any] = _nowhere
        self.mangle: KeyManglerType | None = None
        self.patience = math.inf
        self.invalidation: _Trusted = _UNTOLD
        self.wall: Callable[[], float] = _no_time
        self.monotonic: Callable[[], float] = _no_time

    def attach(self, backend: CacheBackend | None, clock: Clock) -> None:
        """Look into *backend*; ``None`` for one that cannot be looked into."""
        self.wall, self.monotonic = clock.wall, clock.monotonic
        self.lookup = _nowhere
        if type(backend) is MemoryBackend and type(backend.cache) is dict:
            self.lookup = backend.cache.get
        elif isinstance(backend, ClientBackend):
            self.lookup = near_get(backend.client) or _nowhere

    def follow(self, strategy: RegionInvalidationStrategy) -> None:
        """Invalidate as *strategy* does."""
        # A subclass may decide otherwise than its attributes say.
        if type(strategy) in (DefaultInvalidationStrategy, SharedInvalidationStrategy):
            assert isinstance(strategy, (DefaultInvalidationStrategy, SharedInvalidationStrategy))
            self.invalidation = strategy
        else:
            self.invalidation = _UNTOLD

    def hit(self, key: Any, patience: float) -> CachedValue | None:
        """A value of the backend's *key* that is certainly fresh, if one is near."""
        try:
            cached = self.lookup(key, None)
            if cached is None:
                return None
            metadata, told = cached[1], self.invalidation
            made = metadata["ct"]
            if (
                made >= told.floor
                and self.wall() - made <= patience
                and metadata["v"] == VALUE_VERSION
                and (
                    told.horizon is None
                    or (metadata["rv"] == told.revision and told.horizon > self.monotonic())
                )
            ):
                return cached if type(cached) is CachedValue else CachedValue(*cached)
        except Exception:  # noqa: S110 - what is wrong, the general way finds and tells
            pass
        return None


def _nowhere(_key: Any, default: Any) -> Any:
    return default


def _no_time() -> float:
    return math.inf
