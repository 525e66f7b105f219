"""Coherence: a bus that keeps the private tiers of many processes in step."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiered.coherence.bus import Bus, BusStats
    from tiered.coherence.client import CoherentWrapperClient
    from tiered.coherence.hostfiles import HostFiles
    from tiered.coherence.manager import CoherenceManager
    from tiered.coherence.stats import CoherenceStats
    from tiered.coherence.zeromq.broker import ZmqBroker
    from tiered.coherence.zeromq.bus import ZmqBus
    from tiered.coherence.zeromq.security import CurveKeys

__all__ = [
    "Bus",
    "BusStats",
    "CoherenceManager",
    "CoherenceStats",
    "CoherentWrapperClient",
    "CurveKeys",
    "HostFiles",
    "ZmqBroker",
    "ZmqBus",
]

_HOMES = {
    "Bus": "tiered.coherence.bus",
    "BusStats": "tiered.coherence.bus",
    "CoherenceManager": "tiered.coherence.manager",
    "CoherenceStats": "tiered.coherence.stats",
    "CoherentWrapperClient": "tiered.coherence.client",
    "CurveKeys": "tiered.coherence.zeromq.security",
    "HostFiles": "tiered.coherence.hostfiles",
    "ZmqBroker": "tiered.coherence.zeromq.broker",
    "ZmqBus": "tiered.coherence.zeromq.bus",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tiered.coherence' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
