"""``cached``: the decorator."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from tiered.clients.base import CacheClient
from tiered.concurrency.pool import WorkerPool, default_pool
from tiered.decorators.function import AsyncCachedFunction, CachedFunction
from tiered.decorators.plan import NoNamespaceType, Plan
from tiered.typing import Key

__all__ = ["CachedDecorator", "cached"]

P = ParamSpec("P")
R = TypeVar("R")


class CachedDecorator(Protocol):
    """What ``cached(...)`` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCachedFunction[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...


def cached(
    client: CacheClient,
    ttl: float | Callable[[Any], float],
    *,
    key: Callable[..., Key] | None = None,
    namespace: str | NoNamespaceType | None = None,
    async_ttl: float | None = None,
    renew_time: float | None = None,
    ttl_spread: float | bool | Literal["auto"] | None = "auto",
    keep: float = 0.0,
    typed: bool = False,
    ignore: Sequence[str] = (),
    claim_ttl: float = 10.0,
    wait_time: float | None = None,
    pool: WorkerPool | None = None,
    stale_if_error: bool = False,
    error_backoff: float = 0.0,
    soft_timeout: float | None = None,
    hard_timeout: float | None = None,
    early_refresh: float | bool = False,
    cache_if: Callable[..., object] | None = None,
    cache_errors: Mapping[type[Exception], float] | None = None,
    tags: Callable[..., Iterable[Key]] | None = None,
    value_serialization_function: Callable[[Any], Any] | None = None,
    value_deserialization_function: Callable[[Any], Any] | None = None,
    autonamespace_version_salt: object = None,
    initialize: Callable[[], Any] | None = None,
    decorate: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
) -> CachedDecorator:
    """Cache what a function, or a coroutine function, returns.

    The cache never breaks a call: when a client, a codec or a key fails, the function
    runs and its caller gets the value; the failure is counted and logged. All times are
    in seconds.

    Args:
        client: where to keep values.
        ttl: for which a value is fresh; ``FOREVER`` for no end. ``ttl(value)`` decides for
            each value by itself; 0 or less keeps it out of the cache.
        key: ``key(*args, **kwargs)`` gives the key of a call. By default the key is
            the arguments, bound to the signature, so that ``f(1)`` and ``f(x=1)`` are
            one call.
        namespace: keeps the keys apart from those of other functions on *client*. By
            default ``module.qualname``; functions with the same name share values.
            ``NO_NAMESPACE`` uses the keys as they are.
        async_ttl: time left at which a refresh is due, in the modes that refresh;
            negative counts from the creation of the value.
        renew_time: when a refresh starts behind a caller, what is there lives on for
            *async_ttl* and this long, so that other processes do not start one too. A stale
            value is thereby fresh again for a while.
        ttl_spread: lives are cut by up to this much, at random, so that what was stored
            together does not end together. ``True`` is a twentieth of the time before a refresh
            is due. ``"auto"`` is that much, where processes share *client* and there is an
            *async_ttl*; else, as ``None``, nothing.
        keep: time past *ttl* for which a stale value stays readable, at least.
        typed: tell ``f(1)``, ``f(1.0)`` and ``f(True)`` apart, which are equal.
        ignore: parameters that are no part of the key, e.g. ``("self",)``.
        claim_ttl: where processes share *client*, one of them computes a value while the
            others wait for it; a computing process that died is replaced after this long.
        wait_time: for which they wait at most; then each computes for its own callers, and
            does not store it. ``None`` for as long as somebody computes it.
        pool: the threads for ``bg()``, ``future()`` and ``aio``; by default one of eight
            threads that all functions share.
        stale_if_error: when the function raises, return a stale value that is not older
            than *ttl* and *keep*, and count the failure.
        error_backoff: after such a failure, return the stale value for this long without
            another attempt, in every process that shares *client*.
        soft_timeout: after waiting this long for the function, return a stale value if
            there is one; the computation goes on behind, and is stored.
        hard_timeout: after waiting this long, raise ``ComputationTimeout``. With one of the
            two, plain functions compute in *pool*.
        early_refresh: refresh values before their end, by a chance that rises towards it
            and with the time that a computation takes: at *t* from the end it is
            ``exp(-t / (beta * cost))`` for each reader. A number is the beta; ``True`` is 1.
        cache_if: ``cache_if(value)`` or ``cache_if(value, *args, **kwargs)`` tells whether to
            store a value. What is not stored still reaches everybody who waited for it.
        cache_errors: types of exceptions that are answers, and for how long they are:
            ``{NotFound: 5.0}``. Subclasses are included; the client must be able to hold
            exceptions (of memcached's serialisers, pickle can).
        tags: ``tags(*args, **kwargs)`` gives the tags of a call's value, any keys:
            ``client.invalidate_tag(tag)`` makes all values that have it count as absent. They
            are asked for when a value is computed, and kept with it.
        value_serialization_function, value_deserialization_function: applied to values
            before they are stored, and to what is read.
        autonamespace_version_salt: makes another default namespace of the same name; change
            it when old values are of no use to new code.
        initialize: called before every access until it returns ``True``; what it raises
            reaches the caller.
        decorate: a decorator to apply to ``f``, and to each of its modes.

    Raises:
        TypeError, ValueError: an option that cannot be right, or a function that
            cannot be cached (a generator).
    """
    options: dict[str, Any] = {**locals(), "pool": default_pool() if pool is None else pool}

    def decorator(function: Any) -> Any:
        plan = Plan.checked(function=function, **options)
        return AsyncCachedFunction(plan) if plan.awaits else CachedFunction(plan)

    return decorator
