"""The decorators: ``cached`` and what it makes."""

from __future__ import annotations

from tiered.decorators.cached import cached
from tiered.decorators.function import BoundCachedFunction, CachedFunction
from tiered.decorators.stats import CallStats

__all__ = ["BoundCachedFunction", "CachedFunction", "CallStats", "cached"]
