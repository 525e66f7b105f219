"""What a manager knows and has counted."""

from __future__ import annotations

from dataclasses import dataclass

from tiered.coherence.bus import BusStats
from tiered.coherence.meter import MeterStats

__all__ = ["CoherenceStats"]


@dataclass(frozen=True, slots=True)
class CoherenceStats:
    """How a private tier is kept in step.

    Attributes:
        verified: whether copies are served unasked just now.
        heard: events of others that meant something to this namespace.
        dropped: of these, how many found a copy, or one about to be made.
        published: events that were sent from here.
        confirmed: reads of a copy that the shared tier was asked about, and confirmed.
        refetched: reads that had to fetch the value anew instead, or found none.
        distrusts: how often all copies had to be confirmed.
        unsettled: changes that were to reach everybody at once, and did not in time.
        meter: how often copies were found right, when others asked for them.
        known: keys in the ledger.
        bus: of the bus.
    """

    verified: bool
    heard: int
    dropped: int
    published: int
    confirmed: int
    refetched: int
    distrusts: int
    unsettled: int
    meter: MeterStats
    known: int
    bus: BusStats
