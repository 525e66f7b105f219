"""The decorators: ``cached`` and what it makes."""

from __future__ import annotations

from tiered.concurrency.pool import WorkerPool
from tiered.decorators.bound import BoundAwaitable, BoundCachedFunction
from tiered.decorators.cached import cached
from tiered.decorators.coherent import coherent_cached
from tiered.decorators.function import AsyncCachedFunction, CachedFunction
from tiered.decorators.many import MultiResult
from tiered.decorators.plan import NO_NAMESPACE
from tiered.steps.counting import CallStats, MissTimes

__all__ = [
    "NO_NAMESPACE",
    "AsyncCachedFunction",
    "BoundAwaitable",
    "BoundCachedFunction",
    "CachedFunction",
    "CallStats",
    "MissTimes",
    "MultiResult",
    "WorkerPool",
    "cached",
    "coherent_cached",
]
