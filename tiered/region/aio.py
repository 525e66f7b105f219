"""A region for event loops, in the same lock domain as for threads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiered.region.api import (
    NO_VALUE,
    CachedValue,
    CacheReturnType,
    KeyType,
    NoValueType,
    ValuePayload,
)
from tiered.region.freshness import ExpirationTime
from tiered.region.functions import FunctionKeyGenerator, cache_decorator
from tiered.region.multifunctions import FunctionMultiKeyGenerator, cache_multi_decorator
from tiered.region.typed import AsyncRegionDecorator
from tiered.steps.effects import Ask, Steps

if TYPE_CHECKING:
    from tiered.region.region import CacheRegion

__all__ = ["AsyncRegion"]


class AsyncRegion:
    """The operations of a region as coroutines: ``await region.aio.get(key)``.

    Each takes and returns what the one of :class:`CacheRegion` with its name does. What a
    thread makes, tasks wait for, and the other way round. Creators may be coroutine functions;
    others run in a thread. A task that is cancelled does not cancel what others wait for too.

    Threads: safe; any loop.
    """

    __slots__ = ("_region",)

    def __init__(self, region: CacheRegion) -> None:
        self._region = region

    async def asked(self, operation: Callable[[], Any]) -> Any:
        """What *operation* comes to; in a thread where the backend may block."""

        def steps() -> Steps[Any]:
            return (yield Ask(operation))

        return await self._region.core.awaiting.run(steps())

    # -- Values ------------------------------------------------------------------

    async def get(
        self, key: KeyType, expiration_time: ExpirationTime = None, ignore_expiration: bool = False
    ) -> ValuePayload | NoValueType:
        """The value of *key*; ``NO_VALUE`` if there is none that is good."""
        return (await self._found(key, expiration_time, ignore_expiration)).payload

    async def get_value_metadata(
        self, key: KeyType, expiration_time: ExpirationTime = None, ignore_expiration: bool = False
    ) -> CachedValue | None:
        """The value of *key* with its metadata; ``None`` if there is none that is good."""
        found = await self._found(key, expiration_time, ignore_expiration)
        return None if found is NO_VALUE else found

    async def _found(
        self, key: KeyType, expiration_time: ExpirationTime, ignoring: bool
    ) -> CacheReturnType:
        region = self._region
        near = region.hit(key, math.inf if ignoring else region.patience(expiration_time))
        if near is not None:
            return near
        found: list[CacheReturnType]
        found = await self.asked(lambda: region.found([key], expiration_time, ignoring))
        return found[0]

    async def get_multi(
        self,
        keys: Iterable[KeyType],
        expiration_time: ExpirationTime = None,
        ignore_expiration: bool = False,
    ) -> list[ValuePayload | NoValueType]:
        """:meth:`get` of each of *keys*, in their order."""
        wanted = list(keys)
        region = self._region
        found: list[Any]
        found = await self.asked(
            lambda: region.get_multi(wanted, expiration_time, ignore_expiration)
        )
        return found

    async def set(self, key: KeyType, value: ValuePayload) -> None:
        """Keep *value*, in place of what is being made for *key*."""
        await self.asked(lambda: self._region.set(key, value))

    async def set_multi(self, mapping: Mapping[KeyType, ValuePayload]) -> None:
        """:meth:`set` each of *mapping*; all get one creation time."""
        await self.asked(lambda: self._region.set_multi(mapping))

    async def delete(self, key: KeyType) -> None:
        """Forget *key*; what is being made for it reaches who waits, but is not kept."""
        await self.asked(lambda: self._region.delete(key))

    async def delete_multi(self, keys: Iterable[KeyType]) -> None:
        """:meth:`delete` each of *keys*."""
        wanted = list(keys)
        await self.asked(lambda: self._region.delete_multi(wanted))

    async def invalidate(self, hard: bool = True) -> None:
        """Make invalid all that the region has made so far."""
        await self.asked(lambda: self._region.invalidate(hard))

    async def key_is_locked(self, key: KeyType) -> bool:
        """Whether the value of *key* is being made just now."""
        locked: bool = await self.asked(lambda: self._region.key_is_locked(key))
        return locked

    async def get_or_create(
        self,
        key: KeyType,
        creator: Callable[..., Any],
        expiration_time: ExpirationTime = None,
        should_cache_fn: Callable[[ValuePayload], bool] | None = None,
        creator_args: tuple[Any, Mapping[str, Any]] | None = None,
        *,
        stale_if_error: bool | None = None,
    ) -> ValuePayload:
        """The value of *key*, made if there is none that is good: once, whoever asks."""
        region = self._region
        core = region.core
        patience = region.patience(expiration_time)
        hit = region.hit(key, patience)
        if hit is not None:
            return hit.payload
        order = region.order(
            key,
            creator,
            patience,
            creator_args=creator_args,
            wanted=should_cache_fn,
            stale_if_error=stale_if_error,
            loop=asyncio.get_running_loop(),
        )
        return await core.awaiting.get(core.creation.answer(order))

    async def get_or_create_multi(
        self,
        keys: Iterable[KeyType],
        creator: Callable[..., Any],
        expiration_time: ExpirationTime = None,
        should_cache_fn: Callable[[ValuePayload], bool] | None = None,
        *,
        stale_if_error: bool | None = None,
    ) -> list[ValuePayload]:
        """The values of *keys*, in their order, of which one call makes all that miss."""
        region = self._region
        core = region.core
        wanted: Sequence[KeyType] = list(keys)
        order = region.many_order(wanted, creator, expiration_time, should_cache_fn, stale_if_error)
        order.on_loop = True
        made = await core.awaiting.get(core.many.answer(order))
        return order.payloads(made, wanted)

    # -- Functions ---------------------------------------------------------------

    def cache_on_arguments(
        self,
        namespace: Any = None,
        expiration_time: ExpirationTime | Callable[[], ExpirationTime] = None,
        should_cache_fn: Callable[[ValuePayload], bool] | None = None,
        to_str: Callable[[Any], str] = str,
        function_key_generator: FunctionKeyGenerator | None = None,
        *,
        stale_if_error: bool | None = None,
    ) -> AsyncRegionDecorator:
        """The decorator, which makes a coroutine function of any function."""
        region = self._region
        decorator: AsyncRegionDecorator = cache_decorator(
            region,
            namespace,
            expiration_time=expiration_time,
            should_cache_fn=should_cache_fn,
            to_str=to_str,
            key_generator=function_key_generator or region.function_key_generator,
            stale_if_error=stale_if_error,
            awaitable=True,
        )
        return decorator

    def cache_multi_on_arguments(
        self,
        namespace: Any = None,
        expiration_time: ExpirationTime | Callable[[], ExpirationTime] = None,
        should_cache_fn: Callable[[ValuePayload], bool] | None = None,
        asdict: bool = False,
        to_str: Callable[[Any], str] = str,
        function_multi_key_generator: FunctionMultiKeyGenerator | None = None,
        *,
        stale_if_error: bool | None = None,
    ) -> AsyncRegionDecorator:
        """The decorator for functions of many keys, which makes a coroutine function."""
        region = self._region
        decorator: AsyncRegionDecorator = cache_multi_decorator(
            region,
            namespace,
            expiration_time=expiration_time,
            should_cache_fn=should_cache_fn,
            asdict=asdict,
            to_str=to_str,
            key_generator=function_multi_key_generator or region.function_multi_key_generator,
            stale_if_error=stale_if_error,
            awaitable=True,
        )
        return decorator

    def __repr__(self) -> str:
        return f"<AsyncRegion of {self._region!r}>"
