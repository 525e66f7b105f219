"""From what a user asks for to a store: compiled, Python with or without locks, or a mapping."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final

from tiered.acceleration import core, gil_enabled
from tiered.stores.lru import LockedLRUStore, LRUStore
from tiered.stores.mapping import POLICIES, MappingStore, policy_store
from tiered.stores.s3fifo import LockedS3FIFOStore, S3FIFOStore
from tiered.typing import OnEvict, Store, Weigher
from tiered.validation import check_number

__all__ = ["POLICY_NAMES", "choose_store"]


def _own() -> dict[str, type[Any]]:
    if core:
        return {"lru": core.LRUStore, "s3fifo": core.S3FIFOStore}
    if gil_enabled():
        return {"lru": LRUStore, "s3fifo": S3FIFOStore}
    return {"lru": LockedLRUStore, "s3fifo": LockedS3FIFOStore}


_OWN: Final = _own()
"""The policies of this package, with their stores."""

POLICY_NAMES: Final = tuple(sorted([*_OWN, *POLICIES]))
"""All policies, by the name that users give."""


def choose_store(
    size: float,
    policy: str,
    store: Any,
    weigher: Weigher | None,
    on_evict: OnEvict | None,
) -> Store:
    """The store for the arguments of ``InprocCacheClient``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a negative size, an unknown policy.
    """
    check_number("size", size, low=0, hint="a number of entries (or units of weigher), 0 or more")
    for name, function in (("weigher", weigher), ("on_evict", on_evict)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be callable, not {function!r}")
    if store is not None:
        if isinstance(store, type) and issubclass(store, MutableMapping):
            make: Callable[[float], Any] = store
            store = make(size)
        if not isinstance(store, MutableMapping):
            raise TypeError(f"store must be a mutable mapping or the class of one, not {store!r}")
        return MappingStore(store, size, weigher, on_evict)
    if policy in _OWN:
        own: Store = _OWN[policy](size, weigher, on_evict)
        return own
    if policy in POLICIES:
        return policy_store(policy, size, weigher, on_evict)
    raise ValueError(f"policy must be one of {list(POLICY_NAMES)}, not {policy!r}")
