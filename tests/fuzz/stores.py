"""The stores to be fuzzed, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from tiered.stores.lru import LockedLRUStore, LRUStore
from tiered.stores.s3fifo import S3FIFOStore

__all__ = ["COMPILED", "STORES", "MakeStore", "is_exact"]

MakeStore = Callable[..., Any]


def _found(module: str, name: str) -> dict[str, MakeStore]:
    """The store *name* of *module*, if this installation has it."""
    try:
        return {name: getattr(importlib.import_module(module), name)}
    except (ImportError, AttributeError):
        return {}


_core = {**_found("tiered._core", "LRUStore"), **_found("tiered._core", "S3FIFOStore")}

COMPILED: dict[str, MakeStore] = {
    name.removesuffix("Store").lower(): store for name, store in _core.items()
}
"""Those of the compiled core, where it is installed."""

STORES: dict[str, MakeStore] = {
    **COMPILED,
    "py-lru": LRUStore,
    "py-locked": LockedLRUStore,
    "py-s3fifo": S3FIFOStore,
}
"""All."""


def is_exact(make: MakeStore) -> bool:
    """Whether the store keeps its books whatever keys do in the middle of an operation.

    The stores in Python do so only while keys behave: a comparison that raises or writes
    between their two dictionaries leaves an entry in one of them, until its key is written
    or removed the next time; and may have a victim announced twice.
    """
    return make in COMPILED.values()
