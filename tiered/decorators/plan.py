"""The options of ``cached``, checked once and frozen."""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tiered.clients.base import CacheClient
from tiered.concurrency.pool import WorkerPool
from tiered.decorators.naming import default_namespace
from tiered.typing import Key
from tiered.validation import check_number, check_ttl

__all__ = ["NO_NAMESPACE", "NoNamespace", "NoNamespaceType", "Plan", "check_answers_at_once"]


class NoNamespace(enum.Enum):
    """The type of :data:`NO_NAMESPACE`."""

    NO_NAMESPACE = "NO_NAMESPACE"

    def __repr__(self) -> str:
        return "NO_NAMESPACE"


NoNamespaceType: TypeAlias = Literal[NoNamespace.NO_NAMESPACE]

NO_NAMESPACE: Final = NoNamespace.NO_NAMESPACE
"""For ``namespace=``: the keys are used as they are. Others' keys must be certain to differ."""

_SECONDS = "seconds, 0 or more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one function is cached: the options of :func:`tiered.cached`, which describes them.

    :meth:`checked` is how one is made; the constructor checks nothing.
    """

    function: Callable[..., Any]
    client: CacheClient
    ttl: float | Callable[[Any], float]
    pool: WorkerPool
    key: Callable[..., Key] | None = None
    namespace: str | NoNamespaceType | None = None
    autonamespace_version_salt: object = None
    async_ttl: float | None = None
    renew_time: float | None = None
    ttl_spread: float | bool | Literal["auto"] | None = "auto"
    keep: float = 0.0
    stale_if_error: bool = False
    error_backoff: float = 0.0
    soft_timeout: float | None = None
    hard_timeout: float | None = None
    early_refresh: float | bool = False
    cache_if: Callable[..., object] | None = None
    cache_errors: Mapping[type[Exception], float] | None = None
    claim_ttl: float = 10.0
    wait_time: float | None = None
    tags: Callable[..., Iterable[Key]] | None = None
    typed: bool = False
    ignore: tuple[str, ...] = ()
    value_serialization_function: Callable[[Any], Any] | None = None
    value_deserialization_function: Callable[[Any], Any] | None = None
    initialize: Callable[[], Any] | None = None
    decorate: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None

    @property
    def awaits(self) -> bool:
        """Whether the function is a coroutine function."""
        return _is_coroutine_function(self.function)

    @property
    def times_out(self) -> bool:
        """Whether callers do not wait for a computation to its end, whatever it takes."""
        return self.soft_timeout is not None or self.hard_timeout is not None

    @property
    def remembers_failures(self) -> bool:
        """Whether what became of a failed computation is stored beside the values."""
        return bool(self.cache_errors) or (self.stale_if_error and self.error_backoff > 0)

    @property
    def name(self) -> str:
        """Of the function, for people."""
        if isinstance(self.namespace, str):
            return self.namespace
        qualname = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"{getattr(self.function, '__module__', '?')}.{qualname}"

    @property
    def due_below(self) -> float:
        """Seconds left at which a refresh is due, by ``async_ttl``; 0 for never before the end."""
        if self.async_ttl is None:
            return 0.0
        if self.async_ttl >= 0 or callable(self.ttl):
            return self.async_ttl
        return self.ttl + self.async_ttl

    @classmethod
    def checked(cls, **options: Any) -> Plan:
        """A plan, if the options make sense together.

        Raises:
            TypeError, ValueError: the option's name, its value, and what would be right.
        """
        plan = cls(**options)
        _check_function(plan.function)
        _check_types(plan)
        _check_times(plan)
        _check_together(plan)
        return plan._completed()

    def _completed(self) -> Plan:
        """With the values that follow from others."""
        made: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        made["ignore"] = tuple(self.ignore)
        made["early_refresh"] = float(self.early_refresh)
        if self.cache_errors is not None:
            made["cache_errors"] = dict(self.cache_errors)
        if self.namespace is None:
            made["namespace"] = default_namespace(
                self.function, self.client, self.autonamespace_version_salt
            )
        return Plan(**made)


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is async
    )


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


_CALLBACKS: Final = (
    "key",
    "tags",
    "cache_if",
    "value_serialization_function",
    "value_deserialization_function",
    "initialize",
    "decorate",
)


def _check_types(plan: Any) -> None:  # by now, whatever was given
    if not isinstance(plan.client, CacheClient):
        raise TypeError(f"client must be a CacheClient, not {plan.client!r}")
    if not isinstance(plan.pool, WorkerPool):
        raise TypeError(f"pool must be a WorkerPool, not {plan.pool!r}")
    for name in _CALLBACKS:
        callback = getattr(plan, name)
        if callback is not None and not callable(callback):
            raise TypeError(f"{name} must be callable, not {callback!r}")
        check_answers_at_once(name, callback)
    check_answers_at_once("ttl", plan.ttl)
    namespace = plan.namespace
    if namespace is not None and namespace is not NO_NAMESPACE:
        if not isinstance(namespace, str) or not namespace:
            raise TypeError(f"namespace must be a str that is not empty, not {namespace!r}")
        if plan.autonamespace_version_salt is not None:
            raise ValueError(
                "autonamespace_version_salt alters the namespace that is made for you; put the "
                "version into namespace= by yourself"
            )
    if isinstance(plan.ignore, str) or not all(isinstance(name, str) for name in plan.ignore):
        raise TypeError(
            f"ignore must be a tuple of parameter names such as ('self',), not {plan.ignore!r}"
        )
    errors = plan.cache_errors
    if errors is not None and not isinstance(errors, Mapping):
        raise TypeError(f"cache_errors must be a dict of exception type to ttl, not {errors!r}")
    for kind in errors or ():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"cache_errors names {kind!r}, which is no type of Exception")


def check_answers_at_once(name: str, callback: Any) -> None:
    """Refuse a coroutine function where nobody awaits."""
    if callback is not None and _is_coroutine_function(callback):
        raise TypeError(
            f"{name} must answer at once: {callback!r} is a coroutine function, which nobody "
            f"would await there"
        )


def _check_times(plan: Plan) -> None:
    if not callable(plan.ttl) and check_ttl("ttl", plan.ttl) <= 0:
        raise ValueError(f"ttl must be a positive number of seconds, not {plan.ttl!r}")
    check_number("keep", plan.keep, low=0.0, hint=_SECONDS)
    check_number("error_backoff", plan.error_backoff, low=0.0, hint=_SECONDS)
    check_number("claim_ttl", plan.claim_ttl, low=0.0, hint="a number of seconds, 0 or more")
    if plan.wait_time is not None:
        check_number("wait_time", plan.wait_time, low=0.0, hint="a number of seconds, 0 or more")
    if plan.renew_time is not None:
        check_number("renew_time", plan.renew_time, low=0.0, hint=_SECONDS)
    for name in ("soft_timeout", "hard_timeout"):
        timeout = getattr(plan, name)
        if timeout is not None:
            check_number(name, timeout, low=0.0, hint=_SECONDS)
    if not isinstance(plan.early_refresh, bool):
        check_number("early_refresh", plan.early_refresh, low=0.0, hint="a beta, 0 or more")
    for kind, ttl in (plan.cache_errors or {}).items():
        if check_ttl(f"cache_errors[{kind.__name__}]", ttl) <= 0:
            raise ValueError(f"cache_errors[{kind.__name__}] must be above 0, not {ttl!r}")
    _check_async_ttl(plan)
    _check_spread(plan)


def _check_async_ttl(plan: Plan) -> None:
    if plan.async_ttl is None:
        return
    check_ttl("async_ttl", plan.async_ttl)
    if callable(plan.ttl):
        if plan.async_ttl < 0:
            raise ValueError(
                f"a negative async_ttl counts from the creation by the ttl, which a callable "
                f"ttl decides for each value; give the seconds left instead of {plan.async_ttl!r}"
            )
        return
    if not 0 <= plan.due_below < plan.ttl:  # NaN, of two infinite ones, is refused too
        raise ValueError(
            f"async_ttl must be below ttl (counted from the end), or negative and above -ttl "
            f"(counted from the creation), not {plan.async_ttl!r} with a ttl of {plan.ttl!r}"
        )


def _check_spread(plan: Plan) -> None:
    spread = plan.ttl_spread
    if spread is None or isinstance(spread, bool) or spread == "auto":
        return
    check_number("ttl_spread", spread, low=0.0, hint="True, None, or seconds, 0 or more")
    limit = math.inf if callable(plan.ttl) else plan.ttl - plan.due_below
    if spread >= limit:
        raise ValueError(
            f"ttl_spread must be less than the {limit:g} s for which a value is not yet due, "
            f"not {spread!r}"
        )


def _check_together(plan: Plan) -> None:
    if plan.key is not None and (plan.typed or plan.ignore):
        raise ValueError(
            "typed and ignore shape the key that is made from the arguments; "
            "a key function of your own decides that by itself"
        )
    if plan.stale_if_error and not plan.keep:
        raise ValueError(
            "stale_if_error needs keep=..., the seconds past the ttl for which a stale value "
            "may be returned"
        )
    if plan.error_backoff and not plan.stale_if_error:
        raise ValueError(
            f"error_backoff={plan.error_backoff!r} is the pause between two attempts while "
            f"stale_if_error answers with the stale value; it needs stale_if_error=True"
        )
    soft, hard = plan.soft_timeout, plan.hard_timeout
    if soft is not None and hard is not None and soft >= hard:
        raise ValueError(f"soft_timeout must be below hard_timeout, not {soft!r} and {hard!r}")
    if plan.tags is not None and plan.client.capabilities.bytes_only:
        raise ValueError(
            f"tags need a client that can keep more than bytes, as the versions of the tags are "
            f"kept with each value: {plan.client!r} cannot"
        )
    if plan.awaits and plan.pool.inline and plan.client.capabilities.blocking:
        raise ValueError(
            f"{plan.pool!r} would ask {plan.client!r} in the event loop's own thread, and stop "
            f"the loop meanwhile; a coroutine function needs a pool with workers"
        )
