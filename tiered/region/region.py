"""The region: a backend, for how long values are good, and how they are made.

Programs import what they give to a region from here too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tiered.region.aio import AsyncRegion
from tiered.region.api import (
    NO_VALUE,
    CachedValue,
    CacheReturnType,
    KeyType,
    NoValueType,
    ValuePayload,
)
from tiered.region.configured import ConfiguredRegion
from tiered.region.creation import Order
from tiered.region.freshness import ExpirationTime, patience_of
from tiered.region.functions import FunctionKeyGenerator, cache_decorator
from tiered.region.invalidation import DefaultInvalidationStrategy, RegionInvalidationStrategy
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


class CacheRegion(ConfiguredRegion):
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

    def get(
        self, key: KeyType, expiration_time: ExpirationTime = None, ignore_expiration: bool = False
    ) -> ValuePayload | NoValueType:
        """The value of *key*; :data:`NO_VALUE` if there is none that is good.

        Args:
            key: of the value.
            expiration_time: in place of the region's.
            ignore_expiration: take what there is, however old, and invalidated or not.
        """
        return self._got(key, expiration_time, ignore_expiration).payload

    def get_value_metadata(
        self, key: KeyType, expiration_time: ExpirationTime = None, ignore_expiration: bool = False
    ) -> CachedValue | None:
        """The value of *key* with its metadata, as of :meth:`get`; ``None`` if there is none."""
        found = self._got(key, expiration_time, ignore_expiration)
        return None if found is NO_VALUE else found

    def get_multi(
        self,
        keys: Iterable[KeyType],
        expiration_time: ExpirationTime = None,
        ignore_expiration: bool = False,
    ) -> list[ValuePayload | NoValueType]:
        """:meth:`get` of each of *keys*, in their order."""
        return [one.payload for one in self.found(keys, expiration_time, ignore_expiration)]

    def set(self, key: KeyType, value: ValuePayload) -> None:
        """Keep *value*, in place of what is being made for *key*."""
        self.core.put({self.mangled(key): value}, self.near.patience)

    def set_multi(self, mapping: Mapping[KeyType, ValuePayload]) -> None:
        """:meth:`set` each of *mapping*; all get one creation time."""
        core = self.core
        core.put({self.mangled(key): mapping[key] for key in mapping}, self.near.patience)

    def delete(self, key: KeyType) -> None:
        """Forget *key*; what is being made for it reaches who waits, but is not kept."""
        self.core.forget([self.mangled(key)])

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        """:meth:`delete` each of *keys*."""
        self.core.forget(self.mangled_all(keys))

    def key_is_locked(self, key: KeyType) -> bool:
        """Whether the value of *key* is being made just now."""
        return self.core.is_locked(self.mangled(key))

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
        return self._counters.snapshot(sum(count() for count in self._hit_counts))

    def count_hits(self, count: Callable[[], int]) -> None:
        """Let :attr:`stats` have the hits that *count* tells."""
        self._hit_counts.append(count)

    # -- Shared by the faces -----------------------------------------------------

    def mangled(self, key: KeyType) -> KeyType:
        """*key* as the backend knows it."""
        mangle = self.near.mangle
        return key if mangle is None else mangle(key)

    def mangled_all(self, keys: Iterable[KeyType]) -> list[KeyType]:
        """*keys* as the backend knows them."""
        return [self.mangled(key) for key in keys]

    def patience(self, expiration_time: ExpirationTime) -> float:
        """*expiration_time* in seconds, or the region's own."""
        return self.near.patience if expiration_time is None else patience_of(expiration_time)

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

    def hit(self, key: KeyType, patience: float) -> CachedValue | None:
        """The value of *key*, if a good one is in the memory of this process."""
        hit = self.near.hit(self.mangled(key), patience)
        if hit is not None:
            self._counters.far_hits += 1
        return hit

    def found(
        self, keys: Iterable[KeyType], expiration_time: ExpirationTime, ignoring: bool
    ) -> list[CacheReturnType]:
        """What ``get_multi`` finds for *keys*, with its metadata."""
        keeping, freshness = self.core.keeping, self.core.freshness
        patience = math.inf if ignoring else self.patience(expiration_time)

        def served(one: CacheReturnType) -> bool:
            return one is not NO_VALUE and (ignoring or freshness.is_served(one, patience))

        wanted = self.mangled_all(keys)
        found = keeping.read_many(wanted)
        missing = [at for at, one in enumerate(found) if not served(one)]
        if missing and keeping.has_copies:
            again = keeping.read_many([wanted[at] for at in missing], youngest=True)
            for at, one in zip(missing, again, strict=True):
                found[at] = one
        answers = [one if served(one) else NO_VALUE for one in found]
        misses = sum(one is NO_VALUE for one in answers)
        self._counters.misses += misses
        self._counters.far_hits += len(answers) - misses
        return answers

    def _got(
        self, key: KeyType, expiration_time: ExpirationTime, ignoring: bool
    ) -> CacheReturnType:
        hit = self.hit(key, math.inf if ignoring else self.patience(expiration_time))
        return self.found([key], expiration_time, ignoring)[0] if hit is None else hit

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
