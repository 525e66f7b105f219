"""Every store there is, for the tests that all of them must pass."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cachetools

from tiered.entry import ALWAYS, Condition
from tiered.stores.lru import LockedLRUStore, LRUStore
from tiered.stores.mapping import MappingStore, policy_store
from tiered.stores.s3fifo import LockedS3FIFOStore, S3FIFOStore
from tiered.typing import Store


@dataclass(frozen=True)
class Kind:
    """A store and what may be asked of it.

    Attributes:
        make: ``make(capacity, weigher=None, on_evict=None)``.
        tells: announces whatever leaves for size.
        weighs: knows weights.
        robust: keys may do anything when they are compared.
    """

    make: Callable[..., Store]
    tells: bool = True
    weighs: bool = True
    robust: bool = True


def _policy(name: str) -> Kind:
    return Kind(lambda *args, **options: policy_store(name, *args, **options), robust=False)


def _foreign(capacity: float, *args: Any, **options: Any) -> Store:
    return MappingStore(cachetools.LRUCache(capacity), capacity, *args, **options)


KINDS: dict[str, Kind] = {
    "lru": Kind(LRUStore),
    "lru-locked": Kind(LockedLRUStore),
    "s3fifo": Kind(S3FIFOStore),
    "s3fifo-locked": Kind(LockedS3FIFOStore),
    "dict": Kind(lambda *args, **options: MappingStore({}, *args, **options), robust=False),
    "lfu": _policy("lfu"),
    "fifo": _policy("fifo"),
    "rr": _policy("rr"),
    "foreign": Kind(_foreign, tells=False, weighs=False, robust=False),
}

COMPILED: dict[str, Kind] = {}
"""The compiled twins, by policy; empty where the core was not built."""

try:
    _core = importlib.import_module("tiered._core")
except ImportError:
    pass
else:
    COMPILED = {"lru": Kind(_core.LRUStore), "s3fifo": Kind(_core.S3FIFOStore)}
    KINDS |= {f"{policy}-compiled": kind for policy, kind in COMPILED.items()}


def put(
    store: Store,
    key: Any,
    value: Any = None,
    deadline: float = math.inf,
    now: float = 0.0,
    condition: Condition = ALWAYS,
) -> bool:
    """``store.put`` with an answer for everything."""
    return store.put(key, value, deadline, now, condition)


def held(store: Store, keys: Iterable[Any]) -> list[Any]:
    """Those of *keys* that *store* holds; a use of each."""
    return [key for key in keys if store.entry(key) is not None]


def by_value(key: Any, value: Any) -> Any:
    """A weigher: values are their own weights."""
    return value
