"""Whether a bus is well, by what its brokers report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tiered.coherence.messages import Row
from tiered.coherence.zeromq.inquiry import Inquiry, Reported

__all__ = ["Health", "looked_at"]

_LOOKS: Final = 5
"""In the time that a node has to come along."""


@dataclass(frozen=True)
class Health:
    """What was found.

    Attributes:
        brokers: those that answered; more than one if the bus is split.
        behind: ids of nodes that have not applied what was there a detection time ago.
        silent: ids of nodes that were not heard of for longer than that.
    """

    brokers: Sequence[Reported]
    behind: frozenset[bytes]
    silent: frozenset[bytes]

    @property
    def is_split(self) -> bool:
        """Whether there are several orders of events."""
        return len({broker.report.epoch for broker in self.brokers}) > 1

    @property
    def well(self) -> bool:
        """Whether one broker is there, and all nodes with it."""
        return bool(self.brokers) and not (self.is_split or self.behind or self.silent)

    @property
    def exit_code(self) -> int:
        """0 if all is well, 1 without a broker, else 3."""
        if not self.brokers:
            return 1
        return 0 if self.well else 3

    def trouble(self, row: Row) -> str:
        """What is wrong with a node, or ""."""
        if row.node in self.silent:
            return "silent"
        return "behind" if row.node in self.behind else ""


def looked_at(
    inquiry: Inquiry, detection: float, sleep: Callable[[float], object] = time.sleep
) -> Health:
    """Ask, and ask again where a node seems to be behind.

    Nodes say a few times in each detection time how far they are, so that any may seem to be
    behind while events come. It is if it is not as far within that time.
    """
    first = brokers = inquiry.ask()
    behind = _behind(first, brokers)
    for _ in range(_LOOKS):
        if not behind:
            break
        sleep(detection / _LOOKS)
        brokers = inquiry.ask()
        behind = _behind(first, brokers)
    silent = frozenset(
        row.node
        for broker in brokers
        for row in broker.report.rows
        if row.silent > detection * 1000
    )
    return Health(brokers, behind, silent)


def _behind(first: Sequence[Reported], now: Sequence[Reported]) -> frozenset[bytes]:
    """The nodes that have not applied what was there at first."""
    newest = {broker.report.epoch: broker.report.seq for broker in first}
    return frozenset(
        row.node
        for broker in now
        for row in broker.report.rows
        if row.seq < newest.get(broker.report.epoch, 0)
    )
