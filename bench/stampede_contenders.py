"""Caches beside each other under one cold key: for threads, for tasks, and for processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

from bench.servers import pair

__all__ = ["Call", "Create", "awaited", "distributed", "threaded"]

Call = Callable[[int], Any]
Create = Callable[[int], Any]


def threaded(create: Create) -> dict[str, Call]:
    """For the threads of one process."""
    import cachetools
    from dogpile.cache import make_region

    from tiered import InprocCacheClient, cached

    def ours() -> Any:
        return cached(InprocCacheClient(1000), 3600)

    region = make_region().configure("dogpile.cache.memory")
    return {
        "tiered @cached": ours()(create),
        "tiered .bg()": ours()(create).bg(),
        "tiered .multi": _by_multi(ours()(create).multi),
        "dogpile.cache memory": lambda key: region.get_or_create(str(key), lambda: create(key)),
        "cachetools condition=": cachetools.cached({}, condition=threading.Condition())(create),
        "cachetools lock=": cachetools.cached({}, lock=threading.Lock())(create),
    }


def _by_multi(multi: Any) -> Call:
    return lambda key: multi([key])[key]


def awaited(create: Callable[[int], Coroutine[Any, Any, Any]]) -> dict[str, Call]:
    """For the tasks of one event loop; calls return awaitables."""
    import aiocache
    from cashews import Cache

    from tiered import InprocCacheClient, cached

    memory = Cache()
    memory.setup("mem://")

    async def by_key(key: int) -> Any:
        return await create(key)

    async def stampede(key: int) -> Any:
        return await create(key)

    async def plain(key: int) -> Any:
        return await create(key)

    return {
        "tiered async def": cached(InprocCacheClient(1000), 3600)(create),
        "cashews protected": memory.cache(ttl=3600, protected=True)(by_key),
        "aiocache cached_stampede": aiocache.cached_stampede(lease=5, ttl=3600)(stampede),
        "aiocache cached": aiocache.cached(ttl=3600)(plain),
    }


def distributed(create: Create, address: str) -> dict[str, Call]:
    """For processes that share a memcached."""
    from dogpile.cache import make_region

    from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient, cached

    def client() -> Any:
        return MemcachedClient([address], checksum_key="bench", pool_size=16)

    tiers = TieredInclusiveClient(InprocCacheClient(1000), client())

    def region(locked: bool) -> Any:
        return make_region().configure(
            "dogpile.cache.pymemcache",
            arguments={"url": [pair(address)], "distributed_lock": locked},
        )

    safe, fast = region(True), region(False)
    return {
        "tiered @cached, memcached": cached(client(), 3600, namespace="far")(create),
        "tiered @cached, tiers": cached(tiers, 3600, namespace="tiers")(create),
        "dogpile.cache distributed_lock": lambda key: safe.get_or_create(
            f"safe{key}", lambda: create(key)
        ),
        "dogpile.cache": lambda key: fast.get_or_create(f"fast{key}", lambda: create(key)),
    }
