"""The events of a node that no broker has accepted yet, in their order, within bounds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from tiered.coherence.messages import ALL_TOPICS, Event, Kind, packed, without

__all__ = ["BLOCK_BYTES", "BLOCK_EVENTS", "Owed", "OwedEvents"]

BLOCK_EVENTS: Final = 1024
BLOCK_BYTES: Final = 64 * 1024
"""What is sent in one message, at most."""

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

    def joins(self, other: OwedEvents) -> bool:
        """Whether *other*, the next, can be sent together with this."""
        return (
            other.first == self.last + 1
            and other.urgent == self.urgent
            and self.size + other.size <= BLOCK_EVENTS
            and len(self.events) + len(other.events) <= BLOCK_BYTES
        )

    def joined(self, other: OwedEvents) -> OwedEvents:
        """Both as one."""
        events = self.events + other.events
        return OwedEvents(self.first, self.size + other.size, events, self.urgent, self.since)

    def after(self, serial: int) -> OwedEvents:
        """The part after *serial*."""
        skipped = serial - self.first + 1
        events = without(skipped, self.events)
        return self._replace(first=serial + 1, size=self.size - skipped, events=events)


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
        newest = self._blocks[-1] if self._blocks else None
        if newest is not None and newest.joins(block):
            # So that what is sent again is few messages, however many it was first.
            self._blocks[-1] = newest.joined(block)
        else:
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
        if self._blocks and self._blocks[0].first <= serial:
            oldest = self._blocks[0]
            self._blocks[0] = oldest.after(serial)
            self.size -= oldest.size - self._blocks[0].size
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
