"""From the call of a function to its key in a region, as dogpile.cache spells it; key manglers.

The generators of this module give the keys that dogpile.cache gives, so that both may use one
server while a program moves from one to the other. They put texts beside one another, and so
different calls can share a key, and a value: ``f("a b")`` and ``f("a", "b")``, ``f(1)`` and
``f("1")``, the methods of one name of two classes, the method of two objects, and, with
:func:`kwarg_function_key_generator`, ``f(a=1)`` and ``f(b=1)``. :mod:`tiered.region.exact` has
generators without that.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, NamedTuple

from tiered.region.api import KeyManglerType, KeyType
from tiered.region.exact import exact_key_generator, exact_multi_key_generator

__all__ = [
    "check_namespace",
    "exact_key_generator",
    "exact_multi_key_generator",
    "function_key_generator",
    "function_multi_key_generator",
    "kwarg_function_key_generator",
    "length_conditional_mangler",
    "sha1_mangle_key",
    "skipped_arguments",
]


def function_key_generator(
    namespace: Any, fn: Callable[..., Any], to_str: Callable[[Any], str] = str
) -> Callable[..., KeyType]:
    """A function from the positional arguments of *fn* to ``module:name|namespace|a b``.

    A first parameter that is called ``self`` or ``cls`` is left out.

    Args:
        namespace: goes into each key after the name; ``None`` for nothing.
        fn: the function that is cached.
        to_str: makes texts of the arguments.

    The function raises ``ValueError`` for keyword arguments.
    """
    named = _Named.of(namespace, fn)

    def generate_key(*args: Any, **kwargs: Any) -> KeyType:
        if kwargs:
            raise named.refusal(kwargs)
        return named.prefix + " ".join(map(to_str, args[named.skipped :]))

    return generate_key


def function_multi_key_generator(
    namespace: Any, fn: Callable[..., Any], to_str: Callable[[Any], str] = str
) -> Callable[..., list[KeyType]]:
    """A function that gives a key, ``module:name|namespace|a``, for each of its arguments.

    Arguments and errors are those of :func:`function_key_generator`.
    """
    named = _Named.of(namespace, fn)

    def generate_keys(*args: Any, **kwargs: Any) -> list[KeyType]:
        if kwargs:
            raise named.refusal(kwargs)
        return [named.prefix + to_str(arg) for arg in args[named.skipped :]]

    return generate_keys


def kwarg_function_key_generator(
    namespace: Any, fn: Callable[..., Any], to_str: Callable[[Any], str] = str
) -> Callable[..., KeyType]:
    """A function from any arguments of *fn* to ``module:name|namespace|a b``.

    The values stand in the order of the parameters' names, defaults of parameters that can be
    given by position filled in. A first parameter that is called ``self`` or ``cls`` is left out.

    Arguments are those of :func:`function_key_generator`.

    The function raises ``ValueError`` for more positional arguments than *fn* has names for.
    """
    named = _Named.of(namespace, fn)
    names, defaults = named.names, named.defaults

    def generate_key(*args: Any, **kwargs: Any) -> KeyType:
        if len(args) > len(names):
            raise ValueError(
                f"{named.prefix[:-1]} was called with {len(args)} positional arguments, but keys "
                f"of this kind have names for {len(names)}; use exact_key_generator for *args"
            )
        first = named.skipped
        given = {**defaults, **dict(zip(names[first:], args[first:], strict=False)), **kwargs}
        return named.prefix + " ".join([to_str(given[name]) for name in sorted(given)])

    return generate_key


def sha1_mangle_key(key: str | bytes) -> KeyType:
    """The SHA-1 of *key*, as 40 hexadecimal digits."""
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def length_conditional_mangler(length: int, mangler: KeyManglerType) -> KeyManglerType:
    """A mangler that leaves keys of fewer than *length* characters as they are."""

    def mangle(key: KeyType) -> KeyType:
        return key if len(key) < length else mangler(key)

    return mangle


def check_namespace(namespace: Any) -> None:
    """Raises ``TypeError`` if it is a function: the decorator was written without its call."""
    if inspect.isroutine(namespace):
        raise TypeError(
            f"namespace must be a text or None, not {namespace!r}; write the decorator with "
            f"parentheses, such as @region.cache_on_arguments()"
        )


def skipped_arguments(fn: Callable[..., Any]) -> int:
    """How many of the first arguments of *fn* are in none of its keys: ``self``, or ``cls``."""
    return int([one.name for one in _by_position(fn)][:1] in (["self"], ["cls"]))


def _by_position(fn: Callable[..., Any]) -> list[Parameter]:
    # The function's own parameters, whatever it wraps. What is bound already is no argument.
    parameters = inspect.signature(fn, follow_wrapped=False).parameters.values()
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [one for one in parameters if one.kind in positional]


class _Named(NamedTuple):
    """What of a function is in its keys."""

    prefix: str
    """All that is before the arguments."""

    skipped: int
    """How many of the first arguments are no part of keys."""

    names: list[str]
    """Of the parameters that can be given by position."""

    defaults: dict[str, Any]
    """Of those of them that have one."""

    @classmethod
    def of(cls, namespace: Any, fn: Callable[..., Any]) -> _Named:
        name = getattr(fn, "__name__", None)
        if name is None:
            raise TypeError(
                f"fn must be a function with a name, not {fn!r}, which would share its keys with "
                "others of its kind; wrap it in a function"
            )
        prefix = f"{fn.__module__}:{name}|"
        if namespace is not None:
            prefix += f"{namespace!s}|"
        parameters = _by_position(fn)
        return cls(
            prefix,
            skipped_arguments(fn),
            [one.name for one in parameters],
            {one.name: one.default for one in parameters if one.default is not Parameter.empty},
        )

    def refusal(self, kwargs: dict[str, Any]) -> ValueError:
        return ValueError(
            f"{self.prefix[:-1]} was called with the keyword argument {next(iter(kwargs))!r}, and "
            "this key generator takes positional ones only; make the region with "
            "function_key_generator=kwarg_function_key_generator, or with exact_key_generator"
        )
