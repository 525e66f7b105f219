"""The namespace of a function that was not given one."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

from tiered.clients.base import CacheClient
from tiered.keys.identity import function_identity

__all__ = ["default_namespace"]


def default_namespace(
    function: Callable[..., Any], client: CacheClient, salt: object = None
) -> str:
    """``module.qualname``, and the salt: the same in every process and on every host.

    Closures, lambdas and redefined functions may bear the name of another function, whose
    values would be wrong for them. On a private client the later one gets a number; on a
    shared one there is no number that all processes would agree on.

    Raises:
        ValueError: the name is taken by another function, and *client* is shared.
    """
    qualname = getattr(function, "__qualname__", type(function).__qualname__)
    name = f"{getattr(function, '__module__', None) or '?'}.{qualname}"
    if salt is not None:
        name += f"?{salt}"
    taken: dict[str, Any] = client.authority.attachments.setdefault("tiered.functions", {})
    identity = function_identity(function)
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
