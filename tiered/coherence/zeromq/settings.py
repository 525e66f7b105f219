"""What a bus was made with, for all of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import BusAddress
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.security import CurveKeys
from tiered.typing import Clock

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """See :class:`tiered.coherence.zeromq.bus.ZmqBus`; *foreign* counts what is dropped."""

    addresses: tuple[BusAddress, ...]
    wire: Wire
    curve: CurveKeys | None
    detection: float
    candidate: bool
    neighbours: bool
    clock: Clock
    foreign: ForeignCount
