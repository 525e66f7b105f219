"""The part of a region that each call of a cached function reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tiered.acceleration import core
from tiered.region.api import CacheBackend, CachedValue, KeyManglerType
from tiered.region.backends.clients import ClientBackend, near_get, near_store
from tiered.region.backends.memory import MemoryBackend
from tiered.region.invalidation import (
    DefaultInvalidationStrategy,
    RegionInvalidationStrategy,
    SharedInvalidationStrategy,
)
from tiered.region.keeping import VALUE_VERSION
from tiered.typing import Clock

__all__ = ["Near", "PythonNear", "Told", "attach", "follow", "near_nothing"]


class Told(Protocol):
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


class PythonNear:
    """How to find a value in the memory of this process, and what makes it a hit.

    Args:
        kind: of the values: ``CachedValue``.
        version: of their form.
        invalidation: what no value is good after, until :func:`follow` says more.

    Attributes:
        lookup: ``lookup(key, None)`` gives the value that is near, or ``None``.
        mangle: makes the backend's key of a caller's, if it is another one.
        patience: seconds after which a value is out of date.
        invalidation: what the region's strategy tells without being called.
        wall, monotonic: the region's clock.

    Threads: safe; changed while the region is configured.
    """

    __slots__ = (
        "_kind",
        "_version",
        "invalidation",
        "lookup",
        "mangle",
        "monotonic",
        "patience",
        "wall",
    )

    def __init__(self, kind: type[CachedValue], version: int, invalidation: Told) -> None:
        self._kind = kind
        self._version = version
        self.lookup: Callable[[Any, Any], Any] = _nowhere
        self.mangle: KeyManglerType | None = None
        self.patience = math.inf
        self.invalidation = invalidation
        self.wall: Callable[[], float] = _no_time
        self.monotonic: Callable[[], float] = _no_time

    def look_into(
        self, lookup: Callable[[Any, Any], Any] | None, table: object, store: object, clock: Clock
    ) -> None:
        """Find values by *lookup*, or in the dict or the compiled store that it looks into."""
        self.lookup = _nowhere if lookup is None else lookup
        self.wall, self.monotonic = clock.wall, clock.monotonic

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
                and metadata["v"] == self._version
                and (
                    told.horizon is None
                    or (metadata["rv"] == told.revision and told.horizon > self.monotonic())
                )
            ):
                return cached if type(cached) is self._kind else self._kind(*cached)
        except Exception:  # noqa: S110 - what is wrong, the general way finds and tells
            pass
        return None


if TYPE_CHECKING:
    Near = PythonNear
else:
    Near = core.Near if core else PythonNear


def near_nothing() -> Near:
    """One that finds nothing yet."""
    return Near(CachedValue, VALUE_VERSION, _UNTOLD)


def attach(near: Near, backend: CacheBackend | None, clock: Clock) -> None:
    """Let *near* look into *backend*; ``None`` for one that cannot be looked into."""
    if type(backend) is MemoryBackend and type(backend.cache) is dict:
        near.look_into(backend.cache.get, backend.cache, None, clock)
    elif isinstance(backend, ClientBackend):
        near.look_into(near_get(backend.client), None, near_store(backend.client), clock)
    else:
        near.look_into(None, None, None, clock)


def follow(near: Near, strategy: RegionInvalidationStrategy) -> None:
    """Let *near* find invalid what *strategy* does."""
    # A subclass may decide otherwise than its attributes say.
    if type(strategy) in (DefaultInvalidationStrategy, SharedInvalidationStrategy):
        assert isinstance(strategy, (DefaultInvalidationStrategy, SharedInvalidationStrategy))
        near.invalidation = strategy
    else:
        near.invalidation = _UNTOLD


def _nowhere(_key: Any, default: Any) -> Any:
    return default


def _no_time() -> float:
    return math.inf
