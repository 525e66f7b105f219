"""``cached``: the decorator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from tiered.clients.base import CacheClient
from tiered.concurrency.pool import WorkerPool
from tiered.decorators.function import CachedFunction
from tiered.decorators.plan import Plan
from tiered.decorators.refresher import default_pool
from tiered.typing import Key

__all__ = ["cached"]

P = ParamSpec("P")
R = TypeVar("R")


def cached(
    client: CacheClient,
    ttl: float,
    *,
    key: Callable[..., Key] | None = None,
    namespace: str | None = None,
    async_ttl: float | None = None,
    keep: float = 0.0,
    claim_ttl: float = 10.0,
    typed: bool = False,
    ignore: Sequence[str] = (),
    pool: WorkerPool | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Cache what a function returns.

    The cache never breaks a call: when a client, a codec or a key fails, the function
    runs and its caller gets the value; the failure is counted and logged.

    Args:
        client: where to keep values.
        ttl: seconds for which a value is fresh; ``FOREVER`` for no end.
        key: ``key(*args, **kwargs)`` gives the key of a call. By default the key is
            the arguments, bound to the signature, so that ``f(1)`` and ``f(x=1)`` are
            one call.
        namespace: keeps the keys apart from those of other functions on *client*. By
            default ``module.qualname``; functions with the same name share values.
        async_ttl: seconds left at which a refresh is due, in the modes that refresh;
            negative counts from the creation of the value.
        keep: seconds past *ttl* for which a stale value stays readable, at least.
        claim_ttl: where processes share *client*, one of them computes a value while the
            others wait for it; a computing process that died is replaced after this
            many seconds.
        typed: tell ``f(1)``, ``f(1.0)`` and ``f(True)`` apart, which are equal.
        ignore: parameters that are no part of the key, e.g. ``("self",)``.

        pool: the threads for ``bg()`` and ``future()``; by default one of eight threads
            that all functions share.

    Raises:
        TypeError, ValueError: an option that cannot be right, or a function that
            cannot be cached (a generator, a coroutine function).
    """

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        return CachedFunction(
            Plan.checked(
                function,
                client=client,
                ttl=ttl,
                key=key,
                namespace=namespace,
                async_ttl=async_ttl,
                keep=keep,
                claim_ttl=claim_ttl,
                typed=typed,
                ignore=ignore,
                pool=default_pool() if pool is None else pool,
            )
        )

    return decorate
