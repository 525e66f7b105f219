"""What a value that was found is worth: its age, and the invalidations of its region."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tiered.region.api import NO_VALUE, CachedValue, CacheReturnType
from tiered.region.exception import DogpileCacheException, ValidationError
from tiered.region.invalidation import (
    RegionInvalidationStrategy,
    SharedInvalidationStrategy,
    Validity,
    validity,
)
from tiered.region.keeping import VALUE_VERSION
from tiered.typing import Clock

__all__ = ["ExpirationTime", "Freshness", "Standing", "patience_of", "patience_source"]

ExpirationTime: TypeAlias = float | datetime.timedelta | None
"""Seconds after its creation at which a value is made anew; -1 or ``None`` for never."""

_NEVER: Final = -1


class Standing(enum.Enum):
    """What a value is worth."""

    FRESH = "fresh"
    STALE = "stale"
    """Served to all but the one who makes it anew."""
    ABSENT = "absent"


def patience_of(expiration_time: Any) -> float:
    """*expiration_time* as seconds, ``inf`` for never.

    Raises:
        ValidationError: it is no time.
    """
    if expiration_time is None or expiration_time == _NEVER:
        return math.inf
    if isinstance(expiration_time, datetime.timedelta):
        return expiration_time.total_seconds()
    try:
        seconds = float(expiration_time)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(expiration_time, (bool, str, bytes)) or math.isnan(seconds):
        raise ValidationError(
            f"expiration_time must be a number of seconds or a timedelta, -1 or None for never, "
            f"not {expiration_time!r}"
        )
    return seconds


def patience_source(expiration_time: Any) -> Callable[[], float | None]:
    """What gives the patience of a call: ``None`` for the region's own.

    *expiration_time* is as for :func:`patience_of`, or a function that returns that.
    """
    if expiration_time is None:
        return lambda: None
    if not callable(expiration_time):
        patience = patience_of(expiration_time)
        return lambda: patience

    def source() -> float | None:
        given = expiration_time()
        return None if given is None else patience_of(given)

    return source


class Freshness:
    """Judges values by one region's strategy and clock.

    Threads: safe.
    """

    def __init__(self, strategy: RegionInvalidationStrategy, clock: Clock) -> None:
        self.strategy: Final = strategy
        self._clock = clock
        self._validity = validity(strategy)

    @property
    def revision(self) -> str | None:
        """What values of now are stamped with, as far as is known; ``None`` if with nothing."""
        return getattr(self.strategy, "revision", None)

    def standing(self, found: CacheReturnType, patience: float) -> Standing:
        """What *found* is worth to who makes values anew after *patience* seconds.

        Raises:
            DogpileCacheException: it was invalidated softly, and would never be out of date.
        """
        if found is NO_VALUE or found.metadata.get("v") != VALUE_VERSION:
            return Standing.ABSENT
        judged = self._validity(found.metadata)
        if judged is Validity.HARD:
            return Standing.ABSENT
        if judged is Validity.SOFT:
            self.check_patience(patience)
            return Standing.STALE if patience < math.inf else Standing.ABSENT
        return Standing.STALE if self._is_old(found, patience) else Standing.FRESH

    def check_patience(self, patience: float) -> None:
        """Raises ``DogpileCacheException`` if a soft invalidation leaves no sense to *patience*."""
        # Of an invalidation by another process, this one's callers know nothing: to them it is
        # a hard one.
        if math.isinf(patience) and self.strategy.was_soft_invalidated():
            raise DogpileCacheException(
                "after invalidate(hard=False), expiration_time must be given, to the call or to "
                "configure(): it is how long a value is good for; or use invalidate(hard=True)"
            )

    def is_served(self, found: CacheReturnType, patience: float) -> bool:
        """Whether ``get`` returns *found*: there, valid, and no older than *patience* seconds."""
        if found is NO_VALUE or self._is_old(found, patience):
            return False
        if isinstance(self.strategy, SharedInvalidationStrategy):
            return self._validity(found.metadata) is Validity.VALID
        return not self.strategy.is_invalidated(found.metadata["ct"])

    def _is_old(self, found: CachedValue, patience: float) -> bool:
        return self._clock.wall() - found.cached_time > patience
