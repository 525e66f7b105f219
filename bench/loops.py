"""The loops that contenders are called in: one for each way to call.

A wrapper that made all calls alike would be timed with what it wraps, so each way to call
has a loop of its own. A loop takes what is called, and the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

__all__ = [
    "Loop",
    "awaiting",
    "empty",
    "fetching",
    "fetching_function",
    "fetching_or_inserting",
    "fetching_pairs",
    "fetching_with_ttl",
    "method",
    "one_argument",
    "putting",
    "putting_with_deadline",
    "putting_with_timedelta",
    "putting_with_ttl",
    "three_arguments",
    "two_arguments",
    "with_creator",
]

Loop = Callable[[Any, Sequence[Any]], Any]

TTL = 3600
VALUE = "value"
_HOUR = timedelta(seconds=TTL)
_runner = asyncio.Runner()
"""One event loop for a process, as caches tie their locks to it."""


def empty(_: Any, keys: Sequence[Any]) -> None:
    """What is subtracted from the other loops."""
    for _key in keys:
        pass


# -- Calls -----------------------------------------------------------------------------


def one_argument(call: Any, keys: Sequence[Any]) -> None:
    """``f(key)``."""
    for key in keys:
        call(key)


def two_arguments(call: Any, keys: Sequence[Any]) -> None:
    """``f(key, "abc")``."""
    for key in keys:
        call(key, "abc")


def with_creator(call: Any, keys: Sequence[Any]) -> None:
    """``get_or_create(key, creator)``."""
    for key in keys:
        call(key, _value)


def _value() -> str:
    return VALUE


def three_arguments(call: Any, keys: Sequence[Any]) -> None:
    """``f(key, "abc", z=3)``."""
    for key in keys:
        call(key, "abc", z=3)


def method(owner: Any, keys: Sequence[Any]) -> None:
    """``owner.f(key)``."""
    for key in keys:
        owner.f(key)


def awaiting(call: Any, keys: Sequence[Any]) -> None:
    """``await f(key)``, in a running event loop."""
    _runner.run(_awaiting(call, keys))


async def _awaiting(call: Any, keys: Sequence[Any]) -> None:
    for key in keys:
        await call(key)


# -- Writes ----------------------------------------------------------------------------


def putting(put: Any, keys: Sequence[Any]) -> None:
    """``put(key, value)``."""
    for key in keys:
        put(key, VALUE)


def putting_with_ttl(put: Any, keys: Sequence[Any]) -> None:
    """``put(key, value, seconds)``."""
    for key in keys:
        put(key, VALUE, TTL)


def putting_with_deadline(put: Any, keys: Sequence[Any]) -> None:
    """``put(key, value, deadline, now)``, as our stores are called by their clients."""
    now = monotonic()
    deadline = now + TTL
    for key in keys:
        put(key, VALUE, deadline, now)


def putting_with_timedelta(put: Any, keys: Sequence[Any]) -> None:
    """``put(key, value, timedelta)``."""
    for key in keys:
        put(key, VALUE, _HOUR)


# -- Get, and put what was not there; they return the hits -----------------------------


def fetching_pairs(cache: Any, keys: Sequence[Any]) -> int:
    """``get(key)`` gives None on a miss; ``put(key, value)``."""
    get, put = cache
    missed = 0
    for key in keys:
        if get(key) is None:
            missed += 1
            put(key, VALUE)
    return len(keys) - missed


def fetching_or_inserting(cache: Any, keys: Sequence[Any]) -> int:
    """``get(key)`` gives None on a miss; ``put(key, value, seconds)``."""
    get, put = cache
    missed = 0
    for key in keys:
        if get(key) is None:
            missed += 1
            put(key, VALUE, TTL)
    return len(keys) - missed


def fetching_with_ttl(cache: Any, keys: Sequence[Any]) -> int:
    """``get(key, None)`` and ``put(key, value, seconds)``: our clients."""
    get, put = cache
    missed = 0
    for key in keys:
        if get(key, None) is None:
            missed += 1
            put(key, VALUE, TTL)
    return len(keys) - missed


def fetching(cache: Any, keys: Sequence[Any]) -> int:
    """``get(key)`` gives a value and whether it was there; ``put(key, value, timedelta)``."""
    get, put = cache
    missed = 0
    for key in keys:
        if not get(key)[1]:
            missed += 1
            put(key, VALUE, _HOUR)
    return len(keys) - missed


def fetching_function(cache: Any, keys: Sequence[Any]) -> int:
    """A function under ``functools.lru_cache``."""
    call, _ = cache
    before: int = call.cache_info().hits
    for key in keys:
        call(key)
    hits: int = call.cache_info().hits
    return hits - before
