"""Caches beside each other under one cold key: for threads, for tasks, and for processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

from bench.peers import peer
from bench.servers import pair

__all__ = ["Call", "Create", "Make", "awaited", "distributed", "threaded"]

Call = Callable[[int], Any]
Create = Callable[[int], Any]
Make = Callable[[Create, str], dict[str, Call]]
"""From a creator and a server's address to contenders, by name."""


def threaded(create: Create) -> dict[str, Call]:
    """For the threads of one process."""
    import cachetools

    from tiered import InprocCacheClient, cached

    def ours() -> Any:
        return cached(InprocCacheClient(1000), 3600)

    found: dict[str, Call] = {
        "tiered @cached": ours()(create),
        "tiered .bg()": ours()(create).bg(),
        "tiered .multi": _by_multi(ours()(create).multi),
        "cachetools condition=": cachetools.cached({}, condition=threading.Condition())(create),
        "cachetools lock=": cachetools.cached({}, lock=threading.Lock())(create),
    }
    if dogpile := peer("dogpile.cache"):
        region = dogpile.make_region().configure("dogpile.cache.memory")
        found["dogpile.cache memory"] = lambda key: region.get_or_create(
            str(key), lambda: create(key)
        )
    return found


def _by_multi(multi: Any) -> Call:
    return lambda key: multi([key])[key]


def awaited(create: Callable[[int], Coroutine[Any, Any, Any]]) -> dict[str, Call]:
    """For the tasks of one event loop; calls return awaitables."""
    from tiered import InprocCacheClient, cached

    def fresh() -> Callable[[int], Coroutine[Any, Any, Any]]:
        async def by_key(key: int) -> Any:
            return await create(key)

        return by_key

    found: dict[str, Call] = {"tiered async def": cached(InprocCacheClient(1000), 3600)(create)}
    if cashews := peer("cashews"):
        memory = cashews.Cache()
        memory.setup("mem://")
        found["cashews protected"] = memory.cache(ttl=3600, protected=True)(fresh())
    if aiocache := peer("aiocache"):
        # Its keys have the name of the function; a cache of its own keeps the two apart.
        protected = aiocache.cached_stampede(lease=5, ttl=3600, namespace="protected")
        found["aiocache cached_stampede"] = protected(fresh())
        found["aiocache cached"] = aiocache.cached(ttl=3600, namespace="plain")(fresh())
    return found


def distributed(create: Create, address: str) -> dict[str, Call]:
    """For processes that share a memcached."""
    from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient, cached

    def client() -> Any:
        return MemcachedClient([address], checksum_key="bench", pool_size=16)

    tiers = TieredInclusiveClient(InprocCacheClient(1000), client())

    found: dict[str, Call] = {
        "tiered @cached, memcached": cached(client(), 3600, namespace="far")(create),
        "tiered @cached, tiers": cached(tiers, 3600, namespace="tiers")(create),
    }
    dogpile = peer("dogpile.cache")
    if dogpile is None:
        return found

    def region(locked: bool) -> Any:
        return dogpile.make_region().configure(
            "dogpile.cache.pymemcache",
            arguments={"url": [pair(address)], "distributed_lock": locked},
        )

    safe, fast = region(True), region(False)
    found["dogpile.cache distributed_lock"] = lambda key: safe.get_or_create(
        f"safe{key}", lambda: create(key)
    )
    found["dogpile.cache"] = lambda key: fast.get_or_create(f"fast{key}", lambda: create(key))
    return found
