"""Functions of many keys that are decorated with a region: one value is kept for each key."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tiered.concurrency.outcome import Outcome
from tiered.region.api import NO_VALUE, KeyType, ValuePayload
from tiered.region.exact import generator_with_names
from tiered.region.freshness import patience_source
from tiered.region.functions import hang, refuse_generators
from tiered.region.keys import check_namespace
from tiered.region.refreshing import Refresh
from tiered.steps.effects import Steps

if TYPE_CHECKING:
    from tiered.region.region import CacheRegion

__all__ = ["FunctionMultiKeyGenerator", "cache_multi_decorator"]

FunctionMultiKeyGenerator: TypeAlias = Callable[..., Callable[..., Sequence[KeyType]]]
"""``generator(namespace, function, to_str=...)`` -> ``keys(*args)``, one for each argument."""


def cache_multi_decorator(
    region: CacheRegion,
    namespace: Any,
    *,
    expiration_time: Any,
    should_cache_fn: Callable[[ValuePayload], bool] | None,
    asdict: bool,
    to_str: Callable[[Any], str],
    key_generator: FunctionMultiKeyGenerator,
    stale_if_error: bool | None,
    awaitable: bool = False,
) -> Any:
    """The decorator of :meth:`CacheRegion.cache_multi_on_arguments`; see there.

    Args:
        awaitable: the decorated function is a coroutine function, whatever the function is.
    """
    check_namespace(namespace)
    patience = patience_source(expiration_time)

    def decorate(function: Callable[..., Any]) -> Any:
        refuse_generators(function)
        generator = generator_with_names(key_generator, region.function_names)
        make_keys = generator(namespace, function, to_str=to_str)
        calls = _ManyCalls(
            region,
            function,
            make_keys,
            patience=patience,
            wanted=should_cache_fn,
            stale_if_error=stale_if_error,
            asdict=asdict,
        )
        awaits = awaitable or inspect.iscoroutinefunction(function)
        call, operations = calls.awaitable() if awaits else calls.blocking()
        functools.update_wrapper(call, function)
        hang(call, function, operations)
        return call

    return decorate


class _ManyCalls:
    """The calls of one decorated function. Threads: safe."""

    def __init__(
        self,
        region: CacheRegion,
        function: Callable[..., Any],
        make_keys: Callable[..., Sequence[KeyType]],
        *,
        patience: Callable[[], float | None],
        wanted: Callable[[ValuePayload], bool] | None,
        stale_if_error: bool | None,
        asdict: bool,
    ) -> None:
        self._region = region
        self._function = function
        self._make_keys = make_keys
        self._patience = patience
        self._wanted = wanted
        self._stale_if_error = stale_if_error
        self._asdict = asdict
        parameters = list(inspect.signature(function).parameters)
        self._before = 1 if parameters and parameters[0] in ("self", "cls") else 0

    def _split(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The object that a method belongs to, if it is one, and the arguments that are keys."""
        return args[: self._before], args[self._before :]

    def _keys(self, *args: Any, **kwargs: Any) -> list[KeyType]:
        """A key for each of the arguments that are keys."""
        keys = list(self._make_keys(*args, **kwargs))
        # Where the function is wrapped, a generator may take the object for a key as well.
        return keys[self._before :] if len(keys) == len(args) else keys

    def _answer(self, on_loop: bool, args: tuple[Any, ...], /, **kwargs: Any) -> Steps[Outcome]:
        """What a call comes to."""
        owner, asked = self._split(args)
        names = self._keys(*args, **kwargs)
        argument_of = dict(zip(names, asked, strict=True))

        def creator(*missing: KeyType) -> Any:
            wanted = [argument_of[name] for name in missing]
            made = self._function(*owner, *wanted)
            if inspect.isawaitable(made):
                return _awaited(made, lambda come: self._listed(come, wanted))
            return self._listed(made, wanted)

        order = self._region.many_order(
            names, creator, None, self._kept if self._asdict else self._wanted, self._stale_if_error
        )
        order.on_loop = on_loop
        given = self._patience()
        if given is not None:
            order.patience = given
        outcome: Outcome = yield from self._region.core.many.answer(order)
        if outcome.error is not None:
            return outcome
        values = order.payloads(outcome.value, names)
        if not self._asdict:
            return Outcome(values)
        pairs = zip(asked, values, strict=True)
        return Outcome({argument: value for argument, value in pairs if value is not NO_VALUE})

    def _listed(self, made: Any, wanted: Sequence[Any]) -> Any:
        """What the function returned, as one value for each of *wanted*."""
        return [made.get(one, NO_VALUE) for one in wanted] if self._asdict else made

    def _kept(self, value: Any) -> bool:
        if value is NO_VALUE:
            return False
        return self._wanted is None or self._wanted(value)

    def _named(self, args: tuple[Any, ...], made: Any) -> dict[KeyType, Any]:
        """What the function returned for the call, by backend key."""
        _, asked = self._split(args)
        names = self._region.mangled_all(self._keys(*args))
        pairs = zip(names, self._listed(made, asked), strict=True)
        return {name: value for name, value in pairs if value is not NO_VALUE}

    def _refresh(self, args: tuple[Any, ...]) -> Refresh:
        region = self._region
        given = self._patience()
        patience = region.near.patience if given is None else given
        return region.core.refresh(region.mangled_all(self._keys(*args)), patience)

    def _given(self, mapping: Mapping[Any, Any]) -> dict[KeyType, Any]:
        keys = self._keys(*((None,) * self._before), *mapping)
        return dict(zip(keys, mapping.values(), strict=True))

    def blocking(self) -> tuple[Callable[..., Any], dict[str, Callable[..., Any]]]:
        """The call, and what hangs on it."""
        region = self._region

        def call(*args: Any, **kwargs: Any) -> Any:
            return region.core.blocking.run(self._answer(False, args, **kwargs)).get()

        def put(mapping: Mapping[Any, Any]) -> None:
            """Keep the values of *mapping*, by argument."""
            region.set_multi(self._given(mapping))

        def get(*args: Any) -> Any:
            """What is kept for each argument, or ``NO_VALUE``; nothing is made."""
            return region.get_multi(self._keys(*args), self._patience())

        def refresh(*args: Any) -> Any:
            """Make the values anew, keep and return them, whatever is there."""
            with self._refresh(args) as anew:
                anew.confirm()
                made = self._function(*args)
                anew.keep(self._named(args, made), many=True)
            return made

        def invalidate(*args: Any) -> None:
            """Forget the values."""
            region.delete_multi(self._keys(*args))

        return call, {"set": put, "get": get, "refresh": refresh, "invalidate": invalidate}

    def awaitable(self) -> tuple[Callable[..., Any], dict[str, Callable[..., Any]]]:
        """The same as coroutine functions."""
        region = self._region

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await region.core.awaiting.get(self._answer(True, args, **kwargs))

        async def put(mapping: Mapping[Any, Any]) -> None:
            """Keep the values of *mapping*, by argument."""
            await region.aio.set_multi(self._given(mapping))

        async def get(*args: Any) -> Any:
            """What is kept for each argument, or ``NO_VALUE``; nothing is made."""
            return await region.aio.get_multi(self._keys(*args), self._patience())

        async def refresh(*args: Any) -> Any:
            """Make the values anew, keep and return them, whatever is there."""
            with self._refresh(args) as anew:
                await region.aio.asked(anew.confirm)
                made = await region.core.made(self._function, *args)
                named = self._named(args, made)
                await region.aio.asked(lambda: anew.keep(named, many=True))
            return made

        async def invalidate(*args: Any) -> None:
            """Forget the values."""
            await region.aio.delete_multi(self._keys(*args))

        return call, {"set": put, "get": get, "refresh": refresh, "invalidate": invalidate}


async def _awaited(made: Any, then: Callable[[Any], Any]) -> Any:
    return then(await made)
