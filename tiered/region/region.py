"""The region: a backend, for how long values are good, and how they are made.

Programs import what they give to a region from here too.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tiered.region.aio import AsyncRegion
from tiered.region.api import (
    KeyType,
    ValuePayload,
)
from tiered.region.creation import Order
from tiered.region.freshness import ExpirationTime
from tiered.region.functions import FunctionKeyGenerator, cache_decorator
from tiered.region.invalidation import DefaultInvalidationStrategy, RegionInvalidationStrategy
from tiered.region.kept import KeptRegion
from tiered.region.loading import register_backend
from tiered.region.many import ManyOrder
from tiered.region.multifunctions import FunctionMultiKeyGenerator, cache_multi_decorator
from tiered.region.typed import RegionDecorator
from tiered.steps.counting import CallStats

__all__ = [
    "CacheRegion",
    "DefaultInvalidationStrategy",
    "RegionInvalidationStrategy",
    "make_region",
    "register_backend",
]


class CacheRegion(KeptRegion):
    """A cache with dogpile.cache's interface.

    Made first, often where a module is imported, for functions to be decorated with;
    :meth:`configure` gives it a backend later.

    Args:
        name: of the region. Regions of one name on the same servers are invalidated together.
        function_key_generator: ``generator(namespace, function[, to_str])`` gives a function
            from the arguments of a call to its key.
        function_multi_key_generator: the same for :meth:`cache_multi_on_arguments`: to a list
            of keys, one for each argument.
        key_mangler: from every key to the one that the backend gets; ``None`` for the
            backend's own, ``False`` for none.
        serializer, deserializer: between payloads and the bytes that the backend keeps;
            ``None`` for the backend's own.
        async_creation_runner: sees to new values where there are old ones, in place of the
            callers.
        stale_if_error: an old value is served where no new one can be made.
        clock: tells the time; by default the backend's client's, or the system's.

    Threads: safe, once it is configured; and in forked children. What the backend or the
    serialiser raises is a miss, counted in :attr:`stats` and logged: the caller gets a value.
    """

    # -- Values ------------------------------------------------------------------

    def get_or_create(
        self,
        key: KeyType,
        creator: Callable[..., ValuePayload],
        expiration_time: ExpirationTime = None,
        should_cache_fn: Callable[[ValuePayload], bool] | None = None,
        creator_args: tuple[Any, Mapping[str, Any]] | None = None,
        *,
        stale_if_error: bool | None = None,
    ) -> ValuePayload:
        """The value of *key*, made if there is none that is good: once, whoever asks.

        Where there is an old one, one caller makes a new one and the others get the old one.

        Args:
            key: of the value.
            creator: makes it, without arguments or with *creator_args*.
            expiration_time: in place of the region's; -1 for never.
            should_cache_fn: says of a new value whether it is to be kept.
            creator_args: positional and keyword arguments for *creator*.
            stale_if_error: in place of the region's.

        Raises:
            DogpileCacheException: after a soft invalidation, without an expiration time.
            Exception: what *creator* raised, to all who waited for it.
        """
        core = self.core
        patience = self.patience(expiration_time)
        hit = self.hit(key, patience)
        if hit is not None:
            return hit.payload
        order = self.order(
            key,
            creator,
            patience,
            creator_args=creator_args,
            wanted=should_cache_fn,
            stale_if_error=stale_if_error,
        )
        return core.blocking.run(core.creation.answer(order)).get()

    def get_or_create_multi(
        self,
        keys: Iterable[KeyType],
        creator: Callable[..., Sequence[ValuePayload]],
        expiration_time: ExpirationTime = None,
        should_cache_fn: Callable[[ValuePayload], bool] | None = None,
        *,
        stale_if_error: bool | None = None,
    ) -> list[ValuePayload]:
        """The values of *keys*, in their order, of which one call makes all that miss.

        Args:
            keys: of the values.
            creator: ``creator(*missing)`` returns a value for each key that it is given.
            expiration_time, should_cache_fn, stale_if_error: as of :meth:`get_or_create`.

        Raises:
            DogpileCacheException: as of :meth:`get_or_create`; or *creator* has returned
                another number of values than it was asked for.
            Exception: what *creator* raised.
        """
        core = self.core
        wanted = list(keys)
        order = self.many_order(wanted, creator, expiration_time, should_cache_fn, stale_if_error)
        made = core.blocking.run(core.many.answer(order)).get()
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
    ) -> RegionDecorator:
        """A decorator: the function's value for given arguments is made once, and kept.

        The decorated function has the attributes ``set(value, *args)``, ``get(*args)``,
        ``refresh(*args)`` and ``invalidate(*args)``, which take the arguments of a call in any
        spelling (of a method, with the object first), and ``original``. Of a coroutine function
        all of these are coroutine functions.

        Args:
            namespace: for the key generator, to tell functions apart.
            expiration_time: as of :meth:`get_or_create`, or a function without arguments that
                returns it.
            should_cache_fn: as of :meth:`get_or_create`.
            to_str: from an argument to its part of the key.
            function_key_generator: in place of the region's.
            stale_if_error: in place of the region's.

        Raises:
            ValidationError: *expiration_time* is no time.
            ValueError: on a call, that the key generator cannot make a key of.
        """
        decorator: RegionDecorator = cache_decorator(
            self,
            namespace,
            expiration_time=expiration_time,
            should_cache_fn=should_cache_fn,
            to_str=to_str,
            key_generator=function_key_generator or self.function_key_generator,
            stale_if_error=stale_if_error,
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
    ) -> RegionDecorator:
        """A decorator for ``function(*keys)`` that returns a value for each: each is kept apart.

        The decorated function has the attributes ``set(mapping)``, ``get(*keys)``,
        ``refresh(*keys)``, ``invalidate(*keys)`` and ``original``.

        Args:
            asdict: the function returns a dict, and so does the decorated one; what it leaves
                out is not kept, and left out.
            namespace, expiration_time, should_cache_fn, to_str, stale_if_error: as of
                :meth:`cache_on_arguments`.
            function_multi_key_generator: in place of the region's.
        """
        decorator: RegionDecorator = cache_multi_decorator(
            self,
            namespace,
            expiration_time=expiration_time,
            should_cache_fn=should_cache_fn,
            asdict=asdict,
            to_str=to_str,
            key_generator=function_multi_key_generator or self.function_multi_key_generator,
            stale_if_error=stale_if_error,
        )
        return decorator

    # -- More --------------------------------------------------------------------

    @property
    def aio(self) -> AsyncRegion:
        """The region for event loops: ``await region.aio.get_or_create(key, creator)``."""
        return AsyncRegion(self)

    @property
    def stats(self) -> CallStats:
        """A frozen snapshot of what was counted."""
        counts = list(self._hit_counts.values())
        return self._counters.snapshot(self._past_hits + sum(count() for count in counts))

    def count_hits(self, call: Callable[..., Any], count: Callable[[], int]) -> None:
        """Let :attr:`stats` have the hits of *call* that *count* tells."""
        counts = self._hit_counts

        def gone(reference: weakref.ref[Any]) -> None:
            self._past_hits += counts.pop(reference)()

        counts[weakref.ref(call, gone)] = count

    # -- For the faces of the region ---------------------------------------------

    def order(
        self,
        key: KeyType,
        creator: Callable[..., ValuePayload],
        patience: float,
        *,
        creator_args: tuple[Any, Mapping[str, Any]] | None,
        wanted: Callable[[ValuePayload], bool] | None,
        stale_if_error: bool | None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Order:
        """What a caller of :meth:`get_or_create` wants, on an event *loop* if it is on one."""
        args, kwargs = creator_args or ((), {})
        runner = self.async_creation_runner
        return Order(
            self.mangled(key),
            key,
            creator,
            patience,
            tuple(args),
            kwargs,
            wanted,
            self.stale_if_error if stale_if_error is None else stale_if_error,
            None
            if runner is None
            else lambda name, create, mutex: runner(self, name, create, mutex),
            loop,
        )

    def many_order(
        self,
        keys: Sequence[KeyType],
        creator: Callable[..., Sequence[ValuePayload]],
        expiration_time: ExpirationTime,
        wanted: Callable[[ValuePayload], bool] | None,
        stale_if_error: bool | None,
    ) -> ManyOrder:
        """What a caller of :meth:`get_or_create_multi` wants."""
        return ManyOrder(
            {key: self.mangled(key) for key in _sorted(dict.fromkeys(keys))},
            creator,
            self.patience(expiration_time),
            wanted,
            self.stale_if_error if stale_if_error is None else stale_if_error,
        )

    def __repr__(self) -> str:
        backend = "not configured" if self._core is None else repr(self._core.backend)
        return f"<CacheRegion {self.name or ''!r} {backend}>"


def make_region(*args: Any, **options: Any) -> CacheRegion:
    """A :class:`CacheRegion`, which takes the same arguments."""
    return CacheRegion(*args, **options)


def _sorted(keys: Iterable[KeyType]) -> list[KeyType]:
    wanted = list(keys)
    try:
        return sorted(wanted)
    except TypeError:  # of several types, which have no order
        return wanted
