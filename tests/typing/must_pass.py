"""What type checkers must accept, with the very types that are written here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, assert_type

from tiered import (
    NO_NAMESPACE,
    AsyncCachedFunction,
    CacheClient,
    CachedFunction,
    Entry,
    InprocCacheClient,
    MultiResult,
    cached,
    from_url,
)
from tiered.clients.claims import AsyncClaim
from tiered.dogpile import Lock, NameRegistry, ThreadMutex
from tiered.region import make_region
from tiered.typing import Key

client = InprocCacheClient(10)
assert_type(from_url("inproc:10 | null:"), CacheClient)


@cached(client, 60)
def plain(x: int, *, flag: bool = False) -> str:
    return str(x)


@cached(client, 60, async_ttl=-10, keep=5, stale_if_error=True, error_backoff=1)
async def awaited(x: int, *, flag: bool = False) -> str:
    return str(x)


@cached(client, lambda value: 5.0, namespace=NO_NAMESPACE, key=lambda x: x, cache_if=bool)
def chosen(x: int) -> list[int]:
    return [x]


class Service:
    @cached(client, 60, ignore=("self",))
    def plain(self, x: int) -> str:
        return str(x)

    @cached(client, 60)
    async def awaited(self, x: int) -> str:
        return str(x)

    @classmethod
    @cached(client, 60)
    def of_class(cls, x: int) -> str:
        return str(x)

    @staticmethod
    @cached(client, 60)
    def static(x: int) -> str:
        return str(x)


def plain_calls() -> None:
    assert_type(plain(1), str)
    assert_type(plain(1, flag=True), str)
    assert_type(plain.peek(1), str)
    assert_type(plain.lazy(1), str)
    assert_type(plain.refresh(1), str)
    assert_type(plain.put(1, _cache_put="1"), bool)
    assert_type(plain.invalidate(1), bool)
    assert_type(plain.expire(1), bool)
    assert_type(plain.get_ttl(1), tuple[str, float])
    assert_type(plain.uncached(1, flag=True), str)
    assert_type(plain.bg()(1), str)
    assert_type(plain.bg().lazy(1, flag=True), str)
    assert_type(plain.bg().get_ttl(1), tuple[str, float])
    assert_type(plain.future()(1), Future[str])
    assert_type(plain.future().get_ttl(1), Future[tuple[str, float]])
    assert_type(plain.future().invalidate(1), Future[bool])
    assert_type(plain.multi([1, 2]), MultiResult[str])
    assert_type(plain.multi([1])[1], str)
    assert_type(plain.multi.get_ttl([1]), MultiResult[tuple[str, float]])
    assert_type(chosen(1), list[int])
    kept: CachedFunction[[int], list[int]] = chosen
    assert kept


async def awaitable_calls() -> None:
    assert_type(await awaited(1), str)
    assert_type(await awaited(1, flag=True), str)
    assert_type(await awaited.peek(1), str)
    assert_type(await awaited.refresh(1), str)
    assert_type(await awaited.put(1, _cache_put="1"), bool)
    assert_type(await awaited.get_ttl(1), tuple[str, float])
    assert_type(await awaited.aio(1), str)
    assert_type(await awaited.bg()(1), str)
    assert_type(awaited.future()(1), Future[str])
    assert_type(await awaited.multi([1]), MultiResult[str])
    assert_type(await plain.aio(1, flag=True), str)
    assert_type(await plain.aio.lazy(1), str)
    assert_type(await plain.aio.invalidate(1), bool)
    assert_type(await plain.aio.multi([1]), MultiResult[str])
    running: Coroutine[Any, Any, str] = awaited(1)
    asyncio.run(running)
    assert_type(asyncio.run(plain.aio(1)), str)


async def method_calls(service: Service) -> None:
    assert_type(service.plain(1), str)
    assert_type(service.plain.peek(1), str)
    assert_type(service.plain.bg()(1), str)
    assert_type(service.plain.future()(1), Future[str])
    assert_type(await service.plain.aio(1), str)
    assert_type(service.plain.multi([1]), MultiResult[str])
    assert_type(Service.plain(service, 1), str)
    assert_type(await service.awaited(1), str)
    assert_type(await service.awaited.get_ttl(1), tuple[str, float])
    assert_type(await Service.awaited(service, 1), str)
    assert_type(Service.static(1), str)


def kinds() -> None:
    one: CachedFunction[..., str] = plain
    other: AsyncCachedFunction[..., str] = awaited
    assert one
    assert other


def dogpile() -> None:
    def create() -> tuple[str, float]:
        return "value", 1.0

    with Lock(ThreadMutex(), create, create, 10) as value:
        assert_type(value, str)

    def named(name: str) -> ThreadMutex:
        return ThreadMutex()

    assert_type(NameRegistry(named).get("a"), ThreadMutex)


async def awaited_client() -> None:
    assert_type(await client.aio.get("k"), Any)
    assert_type(await client.aio.get_ttl("k"), tuple[Any, float])
    assert_type(await client.aio.get_multi(["k"]), dict[Key, Any])
    assert_type(await client.aio.get_ttl_multi(["k"]), dict[Key, tuple[Any, float]])
    assert_type(await client.aio.contains("k", 5), bool)
    assert_type(await client.aio.put_multi({"k": 1}, 60), dict[Key, bool])
    assert_type(await client.aio.purge(), int)
    assert_type(await client.aio.entry("k"), Entry | None)
    claim = await client.aio.claim("k")
    assert_type(claim, AsyncClaim | None)
    if claim is not None:
        async with claim as held:
            assert_type(await held.fill(1, 60), bool)


region = make_region().configure("memory")


@region.cache_on_arguments(expiration_time=10)
def kept(x: int, y: str = "") -> float:
    return x


@region.cache_on_arguments()
async def kept_for_loops(x: int) -> str:
    return str(x)


@region.aio.cache_on_arguments()
def made_for_loops(x: int) -> str:
    return str(x)


@region.aio.cache_on_arguments()
async def also_for_loops(x: int) -> str:
    return str(x)


@region.cache_multi_on_arguments()
def many(*keys: int) -> list[str]:
    return [str(key) for key in keys]


class Repository:
    @region.cache_on_arguments()
    def load(self, x: int) -> str:
        return str(x)


async def regions() -> None:
    assert_type(kept(1, "a"), float)
    assert_type(kept.refresh(1), float)
    assert_type(kept.original(1), float)
    kept.set(1.5, 1)
    kept.invalidate(1)
    assert_type(await kept_for_loops(1), str)
    assert_type(await made_for_loops(1), str)
    assert_type(await also_for_loops(1), str)
    assert_type(many(1, 2), list[str])
    assert_type(Repository().load(1), str)
    Repository().load.invalidate(None, 1)
