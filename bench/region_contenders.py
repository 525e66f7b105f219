"""Regions beside dogpile.cache's: in memory, and for processes that share a memcached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.loops import TTL, Loop, one_argument, with_creator
from bench.peers import peer
from bench.servers import pair
from bench.stampede_contenders import Call, Create
from bench.timing import Contender
from tiered import (
    CacheClient,
    Capabilities,
    InprocCacheClient,
    MemcachedClient,
    NullCacheClient,
    TieredInclusiveClient,
)
from tiered.clients.wrapper import Wrapper
from tiered.region import exact_key_generator, make_region

__all__ = ["DOGPILE", "creating", "distributed", "functions", "mixed", "reading", "threaded"]

DOGPILE = "dogpile.cache memory"

_SIZE = 1_000_000


class _Elsewhere(Wrapper):
    """In place of a server, which hits in a near tier do not ask: it holds nothing."""

    @property
    def authority(self) -> CacheClient:
        return self

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(shared=True, near=False, blocking=True, clearable=False)


def _ours() -> dict[str, Any]:
    """Regions by the name of a contender, configured."""
    tiers = TieredInclusiveClient(InprocCacheClient(_SIZE), _Elsewhere(NullCacheClient()))
    return {
        "tiered memory": make_region().configure("memory", TTL),
        "tiered inproc": make_region().configure("inproc", TTL, {"size": _SIZE}),
        "tiered tiers": make_region().configure(tiers, TTL),
    }


def _theirs() -> dict[str, Any]:
    found = peer("dogpile.cache")
    if found is None:
        return {}
    return {DOGPILE: found.make_region().configure("dogpile.cache.memory", TTL)}


def functions(function: Callable[..., Any], loop: Loop = one_argument) -> list[Contender]:
    """*function*, decorated with ``cache_on_arguments`` of each region, to be called in *loop*."""
    decorated = {
        name: region.cache_on_arguments()(function)
        for name, region in (_theirs() | _ours()).items()
    }
    exact = make_region(function_key_generator=exact_key_generator).configure("memory", TTL)
    decorated["tiered memory, exact keys"] = exact.cache_on_arguments()(function)
    return [
        Contender(name, one, loop, slower=4 if name == DOGPILE else 1)
        for name, one in decorated.items()
    ]


def reading() -> list[Contender]:
    """``region.get`` of each."""
    return [Contender(name, region.get) for name, region in _filled().items()]


def creating() -> list[Contender]:
    """``region.get_or_create`` of each."""
    return [
        Contender(name, region.get_or_create, with_creator) for name, region in _filled().items()
    ]


def _filled() -> dict[str, Any]:
    """Regions that hold a value for each text of a number that the benchmark asks for."""
    from bench.kinds import text

    regions = _theirs() | _ours()
    for region in regions.values():
        for number in range(10_000):
            region.set(text(number), number)
    return regions


# -- Cold keys -------------------------------------------------------------------------


def _call(region: Any, create: Create) -> Call:
    return lambda key: region.get_or_create(str(key), create, creator_args=((key,), {}))


def threaded(create: Create) -> dict[str, Call]:
    """For the threads of one process."""
    regions = _ours() | _theirs()
    return {name: _call(region, create) for name, region in regions.items()}


def mixed(create: Create, create_awaited: Create) -> dict[str, tuple[Call, Call]]:
    """For threads and for tasks of one process, which share a region; the second is awaited."""
    return {
        name: (_call(region, create), _call(region.aio, create_awaited))
        for name, region in _ours().items()
    }


def distributed(create: Create, address: str) -> dict[str, Call]:
    """For processes that share a memcached, with ``distributed_lock``."""
    locked = {"distributed_lock": True}
    far = MemcachedClient([address], checksum_key="bench")
    regions: dict[str, Any] = {
        "tiered memcached": make_region("memcached").configure(
            "memcached", TTL, {"url": address, "checksum_key": "bench", "prefix": "far/", **locked}
        ),
        "tiered tiers": make_region("tiers").configure([InprocCacheClient(1000), far], TTL, locked),
    }
    dogpile = peer("dogpile.cache")
    for module, url in (("pymemcache", pair(address)), ("pylibmc", address)):
        if dogpile and peer(module):
            name = f"dogpile.cache.{module}"
            mangler = f"{module}:{{}}".format
            regions[name] = dogpile.make_region(key_mangler=mangler).configure(
                name, TTL, {"url": [url], **locked}
            )
    return {name: _call(region, create) for name, region in regions.items()}
