"""Whether the compiled core is in use.

It is an optional part: where it was not built, where ``TIERED_PURE`` is set to anything but
``0``, and on interpreters without a GIL (it relies on it), everything runs on Python alone.
Who has a compiled twin asks here, and nobody else imports :mod:`tiered._core`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["accelerated", "core", "gil_enabled"]


def gil_enabled() -> bool:
    """Whether this interpreter runs one thread at a time."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _load() -> Any:
    if os.environ.get("TIERED_PURE", "0") not in ("", "0") or not gil_enabled():
        return None
    try:
        return importlib.import_module("tiered._core")
    except ImportError:
        return None


core: Any = _load()
"""The module ``tiered._core``, or ``None``."""

accelerated: bool = core is not None
