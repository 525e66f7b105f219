"""Stores and bare caches, ours and others': how each is made, read, written and asked.

They differ in how they say that a key is missing and in how they take a ttl, so each kind names
the loops that call it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from bench.decorated import POLICIES
from bench.loops import (
    TTL,
    Loop,
    fetching,
    fetching_function,
    fetching_or_inserting,
    fetching_pairs,
    fetching_with_ttl,
    one_argument,
    putting,
    putting_with_deadline,
    putting_with_timedelta,
    putting_with_ttl,
)
from bench.peers import peer
from tiered import InprocCacheClient
from tiered.stores.choose import choose_store

__all__ = ["Kind", "kinds", "text", "texts"]


@dataclass(frozen=True)
class Kind:
    """A kind of cache.

    Attributes:
        make: an empty one with room for so many entries.
        get, put: from a cache to what is called.
        putting: the loop for *put*.
        fetching: the loop that gets, and puts what was missing; None if there is none.
        slower: as in a contender.
        bounded: whether it evicts.
        safe: whether several threads may read it at a time.
    """

    name: str
    make: Callable[[int], Any]
    get: Callable[[Any], Any]
    put: Callable[[Any], Any]
    putting: Loop
    fetching: Loop | None
    slower: int = 1
    bounded: bool = True
    safe: bool = True

    def pair(self, cache: Any) -> tuple[Any, Any]:
        """What *fetching* calls."""
        return self.get(cache), self.put(cache)


_get = attrgetter("get")
_set = attrgetter("__setitem__")
_mapped = partial(Kind, get=_get, put=_set, putting=putting, fetching=fetching_pairs)


def kinds() -> dict[str, Kind]:
    """All that are installed, by name."""
    found = [_mapped("dict", lambda _: {}, bounded=False), _lru_cache()]
    # The fast ones side by side: what is compared most often runs at nearly the same time.
    if cachebox := peer("cachebox"):
        found += _cachebox(cachebox)
    if lru := peer("lru"):
        found.append(_mapped("lru-dict", lru.LRU))
    found += [*_ours(), *_cachetools()]
    if theine := peer("theine"):
        found.append(_theine(theine))
    return {kind.name: kind for kind in found}


def _ours() -> list[Kind]:
    clients = [
        Kind(
            f"tiered {policy}",
            partial(InprocCacheClient, policy=policy),
            _get,
            attrgetter("put"),
            putting_with_ttl,
            fetching_with_ttl,
        )
        for policy in POLICIES
    ]
    stores = [
        Kind(
            f"tiered {policy}, bare store",
            partial(_store, policy),
            attrgetter("entry"),
            attrgetter("put"),
            putting_with_deadline,
            None,
        )
        for policy in POLICIES
    ]
    return clients + stores


def _store(policy: str, size: int) -> Any:
    return choose_store(size, policy, None, None, None)


def _lru_cache() -> Kind:
    return Kind(
        "functools.lru_cache",
        lambda size: functools.lru_cache(size)(_computed),
        _itself,
        _itself,
        one_argument,
        fetching_function,
    )


def _computed(key: Any) -> Any:
    return key


def _itself(cache: Any) -> Any:
    return cache


def _cachetools() -> list[Kind]:
    import cachetools

    return [
        _mapped("cachetools LRUCache", cachetools.LRUCache, slower=2, safe=False),
        _mapped("cachetools LFUCache", cachetools.LFUCache, slower=2, safe=False),
        _mapped(
            "cachetools TTLCache",
            lambda size: cachetools.TTLCache(size, TTL),
            slower=4,
            safe=False,
        ),
    ]


def _cachebox(cachebox: Any) -> list[Kind]:
    return [
        _mapped("cachebox LRUCache", cachebox.LRUCache, put=attrgetter("insert")),
        Kind(
            "cachebox VTTLCache",
            cachebox.VTTLCache,
            _get,
            attrgetter("insert"),
            putting_with_ttl,
            fetching_or_inserting,
        ),
    ]


def _theine(theine: Any) -> Kind:
    return Kind(
        "theine",
        theine.Cache,
        _get,
        attrgetter("set"),
        putting_with_timedelta,
        fetching,
        slower=8,
    )


def text(number: int) -> str:
    """A key as applications have them; a new object each time."""
    return f"user:{number}"


def texts(numbers: Iterable[int]) -> list[str]:
    """Keys as applications have them."""
    return [text(number) for number in numbers]
