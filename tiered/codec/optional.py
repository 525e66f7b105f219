"""Packages that are not required: imported when they are used, and asked for by name if absent."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from tiered.errors import MissingDependency

__all__ = ["optional_module"]


@cache
def optional_module(name: str, purpose: str, extra: str) -> Any:
    """The module *name*, which the extra *extra* of this package installs.

    Args:
        purpose: what it is needed for, as the message is to say it.

    Raises:
        MissingDependency: it cannot be imported. That is not remembered.

    Threads: safe.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(
            f"{purpose} needs the package {name.partition('.')[0]}: pip install 'tiered[{extra}]'"
        ) from error
