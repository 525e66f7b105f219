"""Functions under the decorators of other packages and ours: the contenders of ``hit_path``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bench.loops import TTL, Loop, awaiting, method, one_argument
from bench.peers import peer
from bench.timing import Contender
from tiered import (
    CacheClient,
    InprocCacheClient,
    NamespaceWrapper,
    NullCacheClient,
    TieredInclusiveClient,
    cached,
)

__all__ = ["POLICIES", "coroutines", "functions", "methods", "our_clients", "tiers"]

POLICIES = ("lru", "s3fifo")
"""The policies of ours that are timed; the first is what users get who do not ask."""

Function = Callable[..., Any]


def tiers(size: int) -> TieredInclusiveClient:
    """Two tiers, of which the far one holds nothing: its server is not what is timed."""
    return TieredInclusiveClient(InprocCacheClient(size), NullCacheClient())


def our_clients(size: int) -> dict[str, CacheClient]:
    """Ways to a value in memory, by what they add to a contender's name."""
    return {
        "": InprocCacheClient(size),
        **{f", {name}": InprocCacheClient(size, policy=name) for name in POLICIES[1:]},
        ", tiers": tiers(size),
        ", NamespaceWrapper": NamespaceWrapper("bench", InprocCacheClient(size)),
    }


def functions(function: Function, size: int, loop: Loop = one_argument) -> list[Contender]:
    """*function* under each decorator, to be called in *loop*."""
    import cachetools

    contenders = [
        Contender("functools.lru_cache", functools.lru_cache(size)(function), loop),
        *(
            Contender(f"tiered @cached{name}", cached(client, TTL)(function), loop)
            for name, client in our_clients(size).items()
        ),
        Contender(
            "cachetools.cached LRU, no lock",
            cachetools.cached(cachetools.LRUCache(size))(function),
            loop,
        ),
        Contender(
            "cachetools.cached TTL, lock",
            cachetools.cached(cachetools.TTLCache(size, TTL), lock=threading.RLock())(function),
            loop,
        ),
    ]
    if cachebox := peer("cachebox"):
        decorate = cachebox.cached(cachebox.TTLCache(size, TTL))
        contenders.append(Contender("cachebox.cached TTL", decorate(function), loop))
    if theine := peer("theine"):
        decorate = theine.Memoize(size, timedelta(seconds=TTL))
        contenders.append(Contender("theine.Memoize", decorate(function), loop, slower=4))
    if region := _region():
        decorate = region.cache_on_arguments(function_key_generator=_dogpile_keys)
        contenders.append(Contender("dogpile cache_on_arguments", decorate(function), loop, 20))
    return contenders


def _region() -> Any:
    found = peer("dogpile.cache")
    if found is None:
        return None
    return found.make_region().configure("dogpile.cache.memory", expiration_time=TTL)


def _dogpile_keys(namespace: Any, function: Function, **_: Any) -> Function:
    """dogpile's own keys refuse keyword arguments; these follow its variant for them."""
    from dogpile.cache.util import kwarg_function_key_generator

    key: Function = kwarg_function_key_generator(namespace, function)
    return key


def methods(size: int) -> list[Contender]:
    """Methods beside a function; what is called is the object's ``f``."""

    class Standard:
        @functools.lru_cache(size)  # noqa: B019 - the object lives as long as the benchmark
        def f(self, x: int) -> int:
            return x

    class Ours:
        @cached(InprocCacheClient(size), TTL)
        def f(self, x: int) -> int:
            return x

    class Shared:
        @cached(InprocCacheClient(size), TTL, ignore=("self",))
        def f(self, x: int) -> int:
            return x

    def function(x: int) -> int:
        return x

    contenders = [
        Contender("functools.lru_cache, method", Standard(), method),
        Contender("tiered @cached, function", cached(InprocCacheClient(size), TTL)(function)),
        Contender("tiered @cached, method", Ours(), method),
        Contender("tiered @cached, method, ignore self", Shared(), method),
    ]
    if cachebox := peer("cachebox"):

        class Boxed:
            f = cachebox.cached(cachebox.TTLCache(size, TTL))(lambda self, x: x)

        contenders.append(Contender("cachebox.cached TTL, method", Boxed(), method))
    return contenders


def coroutines(size: int) -> list[Contender]:
    """Coroutine functions, to be awaited in a running loop."""

    def fresh() -> Function:
        async def function(x: int) -> int:
            return x

        return function

    contenders = [
        Contender("a plain coroutine", fresh(), awaiting),
        *(
            Contender(f"tiered @cached{name}", cached(client, TTL)(fresh()), awaiting)
            for name, client in our_clients(size).items()
        ),
    ]
    if cachebox := peer("cachebox"):
        decorate = cachebox.cached(cachebox.TTLCache(size, TTL))
        contenders.append(Contender("cachebox.cached TTL", decorate(fresh()), awaiting))
    if theine := peer("theine"):
        decorate = theine.Memoize(size, timedelta(seconds=TTL))
        contenders.append(Contender("theine.Memoize", decorate(fresh()), awaiting, 4))
    if aiocache := peer("aiocache"):
        decorate = aiocache.cached(ttl=TTL)
        contenders.append(Contender("aiocache.cached", decorate(fresh()), awaiting, 50))
    if cashews := peer("cashews"):
        memory = cashews.Cache()
        memory.setup(f"mem://?size={size}")
        contenders.append(Contender("cashews cache", memory.cache(ttl=TTL)(fresh()), awaiting, 100))
    return contenders
