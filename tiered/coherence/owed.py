"""The events of a node that no broker has accepted yet, in their order, within bounds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from tiered.coherence.messages import ALL_TOPICS, Event, Kind, packed

__all__ = ["Owed", "OwedEvents"]

_FLOOD: Final = packed([Event(Kind.DISTRUST, ALL_TOPICS, b"")])


class OwedEvents(NamedTuple):
    """*size* events with serials from *first* on, owed since *since* (monotonic)."""

    first: int
    size: int
    events: bytes
    urgent: bool
    since: float

    @property
    def last(self) -> int:
        """Serial of the last one."""
        return self.first + self.size - 1


class Owed:
    """What a node still has to bring to a broker.

    When it becomes too much, all of it is replaced by one event that says so: everybody
    confirms what he holds. Nothing is forgotten in silence, and memory stays bounded.

    Args:
        most: events to keep.

    Threads: one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._blocks: deque[OwedEvents] = deque()
        self.size = 0
        self.collapsed = 0
        """How often all was replaced."""

    def add(self, block: OwedEvents) -> bool:
        """Keep *block*; whether it is what is to be sent, and not all was replaced."""
        self._blocks.append(block)
        self.size += block.size
        if self.size <= self._most:
            return True
        self.collapse()
        return False

    def collapse(self) -> None:
        """Put one event in the place of all."""
        urgent = any(owed.urgent for owed in self._blocks)
        since, last = self._blocks[0].since, self._blocks[-1].last
        self._blocks.clear()
        self._blocks.append(OwedEvents(last, 1, _FLOOD, urgent, since))
        self.size = 1
        self.collapsed += 1

    def accepted(self, serial: int) -> bool:
        """Forget what is accepted, up to *serial*; whether there was any."""
        before = self.size
        while self._blocks and self._blocks[0].last <= serial:
            self.size -= self._blocks.popleft().size
        return self.size != before

    @property
    def first(self) -> int | None:
        """Serial of the oldest one."""
        return self._blocks[0].first if self._blocks else None

    @property
    def since(self) -> float:
        """Since when the oldest one is owed; ``inf`` if there is none."""
        return self._blocks[0].since if self._blocks else math.inf

    def __iter__(self) -> Iterator[OwedEvents]:
        return iter(self._blocks)
