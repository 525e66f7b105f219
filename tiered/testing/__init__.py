"""A kit for testing caches, ours or yours: a manual clock, contracts, a state machine.

``ManualClock`` needs nothing else installed; the suites need ``pip install
tiered[testing]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tiered.errors import MissingDependency
from tiered.testing.clock import ManualClock

if TYPE_CHECKING:
    from tiered.testing.backends import BackendContract, BackendMutexContract
    from tiered.testing.contract import ClientContract
    from tiered.testing.machine import ClientMachine
    from tiered.testing.mutexes import MutexContract

__all__ = [
    "BackendContract",
    "BackendMutexContract",
    "ClientContract",
    "ClientMachine",
    "ManualClock",
    "MutexContract",
]

_SUITES = {
    "BackendContract": "tiered.testing.backends",
    "BackendMutexContract": "tiered.testing.backends",
    "ClientContract": "tiered.testing.contract",
    "ClientMachine": "tiered.testing.machine",
    "MutexContract": "tiered.testing.mutexes",
}


def __getattr__(name: str) -> Any:
    if name not in _SUITES:
        raise AttributeError(f"module 'tiered.testing' has no attribute {name!r}")
    try:
        import hypothesis  # noqa: F401
        import pytest
    except ImportError as error:
        raise MissingDependency(
            f"tiered.testing.{name} needs pytest and hypothesis: pip install 'tiered[testing]'"
        ) from error
    # Before the import, so that its assertions say what they compared.
    pytest.register_assert_rewrite(_SUITES[name])
    return getattr(importlib.import_module(_SUITES[name]), name)
