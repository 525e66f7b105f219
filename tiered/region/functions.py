"""Functions that are decorated with a region: their calls, and what hangs on them.

The call is a function that is generated for the signature: it makes the key, looks into the
memory of this process where the backend is there, and returns on a hit. All else is done by
*settle*. The hit is one Python frame: key, lookup, age, invalidations, count, value.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tiered.acceleration import core
from tiered.keys.call import BoundCall, CallShape
from tiered.region.api import KeyType, ValuePayload
from tiered.region.creation import Order
from tiered.region.exact import generator_with_names
from tiered.region.freshness import patience_source
from tiered.region.keeping import VALUE_VERSION
from tiered.region.keys import check_namespace, function_key_generator, skipped_arguments
from tiered.sentinels import MISSING

if TYPE_CHECKING:
    from tiered.region.region import CacheRegion

__all__ = [
    "FunctionKeyGenerator",
    "cache_decorator",
    "hang",
    "made_key_generator",
    "refuse_generators",
]

FunctionKeyGenerator: TypeAlias = Callable[..., Callable[..., KeyType]]
"""``generator(namespace, function[, to_str])`` -> ``key(*args, **kwargs)``."""

_HIT: Final = """\
nonlocal _tiered_hits
_tiered_name = {key}
try:
    _tiered_mangle = _tiered_near.mangle
    _tiered_cached = _tiered_near.lookup(
        _tiered_name if _tiered_mangle is None else _tiered_mangle(_tiered_name), None
    )
    if _tiered_cached is not None:
        _tiered_metadata = _tiered_cached[1]
        _tiered_made = _tiered_metadata["ct"]
        _tiered_told = _tiered_near.invalidation
        if (
            _tiered_made >= _tiered_told.floor
            and _tiered_near.wall() - _tiered_made <= {patience}
            and _tiered_metadata["v"] == {version}
            and (
                _tiered_told.horizon is None
                or (
                    _tiered_metadata["rv"] == _tiered_told.revision
                    and _tiered_told.horizon > _tiered_near.monotonic()
                )
            )
        ):
            _tiered_hits += 1
            return _tiered_cached[0]
except Exception:
    pass  # a mangler that fails, a foreign value: settle it
return {wait}_tiered_settle(_tiered_name, {args}, {kwargs})
"""

_FOUND: Final = """\
_tiered_name = {key}
_tiered_payload = _tiered_find(_tiered_name)
if _tiered_payload is not _tiered_nothing:
    return _tiered_payload
return {wait}_tiered_settle(_tiered_name, {args}, {kwargs})
"""

_PREAMBLE: Final = """\
_tiered_hits = 0
def _tiered_count():
    return _tiered_hits
_tiered_expose(_tiered_count)
"""


def made_key_generator(
    generator: FunctionKeyGenerator, namespace: Any, function: Any, to_str: Any
) -> Callable[..., Any]:
    """What *generator* makes for *function*."""
    # A generator of the user's need not know of to_str, unless somebody gives one.
    if to_str is str:
        return generator(namespace, function)
    return generator(namespace, function, to_str)


def cache_decorator(
    region: CacheRegion,
    namespace: Any,
    *,
    expiration_time: Any,
    should_cache_fn: Callable[[ValuePayload], bool] | None,
    to_str: Callable[[Any], str],
    key_generator: FunctionKeyGenerator,
    stale_if_error: bool | None,
    awaitable: bool = False,
) -> Any:
    """The decorator of :meth:`CacheRegion.cache_on_arguments`; see there.

    Args:
        awaitable: the decorated function is a coroutine function, whatever the function is.
    """
    check_namespace(namespace)
    patience = patience_source(expiration_time)

    def decorate(function: Callable[..., Any]) -> Any:
        refuse_generators(function)
        generator = generator_with_names(key_generator, region.function_names)
        make_key = made_key_generator(generator, namespace, function, to_str)
        plain = key_generator is function_key_generator and to_str is str
        calls = _Calls(
            region,
            function,
            make_key,
            patience=patience,
            wanted=should_cache_fn,
            stale_if_error=stale_if_error,
            guess=not plain,
        )
        awaits = awaitable or inspect.iscoroutinefunction(function)
        prefix = make_key() if plain else None  # the key of no arguments
        call = calls.door(prefix, expiration_time, awaits=awaits)
        functools.update_wrapper(call, function)
        hang(call, function, calls.operations(awaits=awaits))
        return call

    return decorate


def refuse_generators(function: Any) -> None:
    """Raises ``TypeError`` for a function whose result serves one user only."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function!r} is a generator function: its result can be read only once, so there is "
            f"nothing to cache; return a list or a tuple"
        )


def hang(call: Any, function: Callable[..., Any], operations: dict[str, Any]) -> None:
    """Hang *operations* on *call*, and *function* itself as ``original``."""
    for name, operation in operations.items():
        operation.__name__ = name
        operation.__qualname__ = f"{call.__qualname__}.{name}"
        setattr(call, name, operation)
    call.original = function


class _Calls:
    """The calls of one decorated function. Threads: safe."""

    def __init__(
        self,
        region: CacheRegion,
        function: Callable[..., Any],
        make_key: Callable[..., KeyType],
        *,
        patience: Callable[[], float | None],
        wanted: Callable[[ValuePayload], bool] | None,
        stale_if_error: bool | None,
        guess: bool,
    ) -> None:
        self._region = region
        self._function = function
        self._make_key = make_key
        self._patience = patience
        self._wanted = wanted
        self._stale_if_error = stale_if_error
        self._guess = guess
        self._shape = CallShape.of(function)
        self._bind = self._shape.binder()

    # -- The call ----------------------------------------------------------------

    def door(self, prefix: str | None, expiration_time: Any, *, awaits: bool) -> Callable[..., Any]:
        """The call itself; *prefix* of its keys, where the default generator makes them."""
        shape = self._shape
        key = None if prefix is None else _default_key(self._function, prefix)
        sources = {
            "key": key or f"_tiered_keymaker(*{shape.args}, **{shape.kwargs})",
            "args": shape.args,
            "kwargs": shape.kwargs,
            "wait": "await " if awaits else "",
        }
        scope: dict[str, Any] = {
            "_tiered_settle": self._asettle if awaits else self._settle,
            "_tiered_keymaker": self._make_key,
        }
        near, own = self._region.near, callable(expiration_time)
        fixed = None if own or expiration_time is None else self._own_patience()
        call: Callable[..., Any]
        if core is not None:
            look = core.Look(near, fixed, self._own_patience if own else None, MISSING)
            scope |= {"_tiered_find": look.find, "_tiered_nothing": MISSING}
            call = shape.build(_FOUND.format(**sources), scope, coroutine=awaits)
            self._region.count_hits(call, lambda: look.hits)
            return call
        counts: list[Callable[[], int]] = []
        scope |= {
            "_tiered_near": near,
            "_tiered_own": self._own_patience,
            "_tiered_patience": fixed,
            "_tiered_expose": counts.append,
        }
        patience = "_tiered_own()" if own else "_tiered_patience"
        if expiration_time is None:
            patience = "_tiered_near.patience"
        body = _HIT.format(**sources, patience=patience, version=VALUE_VERSION)
        call = shape.build(body, scope, preamble=_PREAMBLE, coroutine=awaits)
        self._region.count_hits(call, counts[0])
        return call

    def _own_patience(self) -> float:
        given = self._patience()
        return self._region.near.patience if given is None else given

    def _settle(self, key: KeyType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = self._region.core
        return parts.blocking.run(parts.creation.answer(self._order(key, args, kwargs))).get()

    async def _asettle(self, key: KeyType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = self._region.core
        order = self._order(key, args, kwargs)
        order.loop = asyncio.get_running_loop()
        return await parts.awaiting.get(parts.creation.answer(order))

    def _order(self, key: KeyType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Order:
        region = self._region
        return region.order(
            key,
            self._function,
            self._own_patience(),
            creator_args=(args, kwargs),
            wanted=self._wanted,
            stale_if_error=self._stale_if_error,
        )

    # -- What hangs on it --------------------------------------------------------

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[KeyType, BoundCall]:
        """The call in its canonical spelling, and its key: the one that the call itself has."""
        try:
            bound = self._bind(*args, **kwargs)
        except TypeError:
            if not self._guess:
                raise
            # A generator of the user's may do with less than a call.
            bound = BoundCall(None, args, kwargs)
        return self._make_key(*bound.args, **bound.kwargs), bound

    def operations(self, *, awaits: bool) -> dict[str, Callable[..., Any]]:
        """``set``, ``get``, ``refresh`` and ``invalidate``."""
        return self._awaitable() if awaits else self._blocking()

    def _blocking(self) -> dict[str, Callable[..., Any]]:
        region, function = self._region, self._function

        def put(value: Any, *args: Any, **kwargs: Any) -> None:
            """Keep *value* for the call."""
            region.set(self._call(args, kwargs)[0], value)

        def get(*args: Any, **kwargs: Any) -> Any:
            """What is kept for the call, or ``NO_VALUE``; nothing is made."""
            return region.get(self._call(args, kwargs)[0], self._own_patience())

        def refresh(*args: Any, **kwargs: Any) -> Any:
            """Make the value of the call anew, keep and return it, whatever is there."""
            key, bound = self._call(args, kwargs)
            name = region.mangled(key)
            with region.core.refresh([name], self._own_patience()) as anew:
                anew.confirm()
                value = function(*bound.args, **bound.kwargs)
                anew.keep({name: value})
            return value

        def invalidate(*args: Any, **kwargs: Any) -> None:
            """Forget the value of the call."""
            region.delete(self._call(args, kwargs)[0])

        return {"set": put, "get": get, "refresh": refresh, "invalidate": invalidate}

    def _awaitable(self) -> dict[str, Callable[..., Any]]:
        region, function = self._region, self._function

        async def put(value: Any, *args: Any, **kwargs: Any) -> None:
            """Keep *value* for the call."""
            await region.aio.set(self._call(args, kwargs)[0], value)

        async def get(*args: Any, **kwargs: Any) -> Any:
            """What is kept for the call, or ``NO_VALUE``; nothing is made."""
            return await region.aio.get(self._call(args, kwargs)[0], self._own_patience())

        async def refresh(*args: Any, **kwargs: Any) -> Any:
            """Make the value of the call anew, keep and return it, whatever is there."""
            key, bound = self._call(args, kwargs)
            name = region.mangled(key)
            with region.core.refresh([name], self._own_patience()) as anew:
                await region.aio.asked(anew.confirm)
                value = await region.core.made(function, *bound.args, **bound.kwargs)
                await region.aio.asked(lambda: anew.keep({name: value}))
            return value

        async def invalidate(*args: Any, **kwargs: Any) -> None:
            """Forget the value of the call."""
            await region.aio.delete(self._call(args, kwargs)[0])

        return {"set": put, "get": get, "refresh": refresh, "invalidate": invalidate}


def _default_key(function: Callable[..., Any], prefix: str) -> str | None:
    """Source of the default generator's key, over the parameters; ``None`` if it is not plain."""
    parameters = list(inspect.signature(function).parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    if not kinds <= {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}:
        return None
    names = [parameter.name for parameter in parameters][skipped_arguments(function) :]
    literal = prefix.replace("{", "{{").replace("}", "}}")
    # A quoted literal's prefix and the fields in one: the same as " ".join(map(str, ...)).
    return "f" + repr(literal + " ".join(f"{{{name}!s}}" for name in names))
