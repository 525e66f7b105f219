"""The options of ``cached``, checked once and frozen."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tiered.clients.base import CacheClient
from tiered.concurrency.pool import WorkerPool
from tiered.typing import Key
from tiered.validation import check_number, check_ttl

__all__ = ["Plan", "default_namespace"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one function is cached.

    Attributes:
        function: what is decorated.
        client: where values are kept, without the namespace.
        namespace: keeps this function's keys apart from others' on the client.
        ttl: seconds for which a value is fresh.
        due_below: seconds left at which a refresh is due; 0 for never before the end.
        keep: seconds past the ttl for which stale values are wanted.
        claim_ttl: seconds after which a process that is computing is given up.
        key: computes keys from arguments, or ``None`` for the arguments themselves.
        typed: tell arguments of different types apart although they are equal.
        ignore: parameters that are left out of the key.
        pool: where computations behind a caller's back run.
    """

    function: Callable[..., Any]
    client: CacheClient
    namespace: str
    ttl: float
    due_below: float
    keep: float
    claim_ttl: float
    key: Callable[..., Key] | None
    typed: bool
    ignore: tuple[str, ...]
    pool: WorkerPool

    @classmethod
    def checked(
        cls,
        function: Any,
        *,
        client: Any,
        ttl: Any,
        key: Any,
        namespace: Any,
        async_ttl: Any,
        keep: Any,
        claim_ttl: Any,
        typed: bool,
        ignore: Sequence[str],
        pool: Any,
    ) -> Plan:
        """A plan, if the options make sense together.

        Raises:
            TypeError, ValueError: the option's name, its value, and what would be right.
        """
        _check_function(function)
        if not isinstance(client, CacheClient):
            raise TypeError(f"client must be a CacheClient, not {client!r}")
        if check_ttl("ttl", ttl) <= 0:
            raise ValueError(f"ttl must be a positive number of seconds, not {ttl!r}")
        if key is not None and not callable(key):
            raise TypeError(f"key must be callable, not {key!r}")
        if key is not None and (typed or ignore):
            raise ValueError(
                "typed and ignore shape the key that is made from the arguments; "
                "a key function of your own decides that by itself"
            )
        if namespace is not None and (not isinstance(namespace, str) or not namespace):
            raise TypeError(f"namespace must be a str that is not empty, not {namespace!r}")
        if isinstance(ignore, str) or not all(isinstance(name, str) for name in ignore):
            raise TypeError(
                f"ignore must be a tuple of parameter names such as ('self',), not {ignore!r}"
            )
        if not isinstance(pool, WorkerPool):
            raise TypeError(f"pool must be a WorkerPool, not {pool!r}")
        return cls(
            function=function,
            client=client,
            namespace=namespace or default_namespace(function, client),
            ttl=ttl,
            due_below=_due_below(ttl, async_ttl),
            keep=check_number("keep", keep, low=0.0, hint="seconds, 0 or more"),
            claim_ttl=check_number(
                "claim_ttl", claim_ttl, low=0.0, hint="a number of seconds, 0 or more"
            ),
            key=key,
            typed=bool(typed),
            ignore=tuple(ignore),
            pool=pool,
        )


def default_namespace(function: Callable[..., Any], client: CacheClient) -> str:
    """``module.qualname``: the same in every process and on every host.

    Closures, lambdas and redefined functions may bear the name of another function, whose
    values would be wrong for them. On a private client the later one gets a number; on a
    shared one there is no number that all processes would agree on.

    Raises:
        ValueError: the name is taken by another function, and *client* is shared.
    """
    qualname = getattr(function, "__qualname__", type(function).__qualname__)
    name = f"{getattr(function, '__module__', None) or '?'}.{qualname}"
    taken: dict[str, Any] = client.authority.attachments.setdefault("tiered.functions", {})
    identity = _identity(function)
    known = taken.setdefault(name, identity)
    if known is identity or known == identity:
        return name
    if not client.capabilities.shared:
        return f"{name}#{next(_numbers)}"
    if inspect.isfunction(function) and "<" not in qualname:
        return name  # a function of a module that was loaded again
    raise ValueError(
        f"another function is cached as {name!r} on this shared client, and its values would be "
        f"taken for those of {function!r}; give each a namespace=... of its own"
    )


_numbers = itertools.count(2)


def _identity(function: Callable[..., Any]) -> object:
    """Equal for functions that are the same code and nothing else."""
    code: object = getattr(function, "__code__", None)
    bound = (
        getattr(function, "__closure__", None),
        getattr(function, "__defaults__", None),
        getattr(function, "__kwdefaults__", None),
        getattr(function, "__self__", None),
    )
    return function if code is None or any(bound) else code


def _check_function(function: Any) -> None:
    if isinstance(function, (classmethod, staticmethod)):
        kind = type(function).__name__
        raise TypeError(f"put @cached below @{kind}, not above it")
    if not callable(function):
        raise TypeError(f"cached decorates a function, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function!r} is a generator function: its result can be read only once, so "
            f"there is nothing to cache; return a list or a tuple"
        )
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{function!r} is a coroutine function: its result can be awaited only once, "
            f"and cached() does not await"
        )


def _due_below(ttl: float, async_ttl: Any) -> float:
    if async_ttl is None:
        return 0.0
    check_ttl("async_ttl", async_ttl)
    # Negative counts from the creation: -60 means "when it is a minute old".
    due = async_ttl if async_ttl >= 0 else ttl + async_ttl
    if not 0 <= due < ttl:
        raise ValueError(
            f"async_ttl must be below ttl (counted from the end), or negative and above -ttl "
            f"(counted from the creation), not {async_ttl!r} with a ttl of {ttl!r}"
        )
    return due if not math.isnan(due) else 0.0
