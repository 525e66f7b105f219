"""Events that were heard of before their turn, so that they are not heard of twice.

A node may learn of another one's event beside the bus, ahead of it: that is a *notice*. Whoever
publishes has written the shared tier before, so a copy that is dropped at a notice is dropped
late enough, and what is read after it is not older than the event. When the event comes in its
order there is nothing left to do, and to do it again would do harm: a computation that began
between the two would be taken for one that began before the change.

Notices may be lost, come twice, late, or before what was published earlier. An event that was
noticed is known by its node, its serial and its bytes: a serial alone may come to stand for more
than was noticed (:meth:`tiered.coherence.owed.Owed.collapse`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from tiered.coherence.messages import Block, Kind, Publish, packed, unpacked

__all__ = ["AHEAD", "Neighbourhood", "Notices"]

AHEAD: Final = frozenset({Kind.DELETE, Kind.EXPIRE, Kind.STORED})
"""The events that may be heard of before their turn: each means what lies under its name alone.

Others tell of something that the broker has to know first (a claim that was given back), or of
the order itself.
"""

_THE_ONLY_ONE: Final = (0,)
_MOST: Final = 1024
"""Notices whose events are awaited."""
_MOST_NODES: Final = 4096


class Neighbourhood(Protocol):
    """Whom this process can tell of its events by itself. Threads: safe."""

    @property
    def others(self) -> Sequence[object]:
        """Those who are there, as far as is known."""
        ...

    def tell(self, notice: Publish) -> None:
        """Send *notice* to them. Never waits."""
        ...


class Notices:
    """What a node has heard of ahead of the bus.

    Threads: one.
    """

    def __init__(self) -> None:
        self._awaited: dict[tuple[bytes, int], bytes] = {}
        self._last: dict[bytes, int] = {}
        """By node, the serial of its newest event that came in the order."""

    def is_new(self, notice: Publish) -> bool:
        """Note what *notice* tells; whether it is to be heard of now."""
        serial = notice.first
        if serial <= self._last.get(notice.node, 0):
            return False
        if (notice.node, serial) in self._awaited:
            return False
        while len(self._awaited) >= _MOST:
            # Its event was lost, or replaced, or is on its way, and will be heard of twice.
            del self._awaited[next(iter(self._awaited))]
        self._awaited[notice.node, serial] = notice.events
        return True

    def among(self, block: Block) -> Collection[int]:
        """Which events of *block*, which comes in the order, were heard of already, from 0."""
        if len(self._last) >= _MOST_NODES:
            self._last.clear()  # a notice that is late is heard of again, that is all
        self._last[block.node] = block.serial + block.size - 1
        if not self._awaited:
            return ()
        if block.size == 1:
            known = self._awaited.pop((block.node, block.serial), None) == block.events
            return _THE_ONLY_ONE if known else ()
        return self._among_many(block)

    def _among_many(self, block: Block) -> Collection[int]:
        awaited = {
            number: self._awaited.pop((block.node, block.serial + number))
            for number in range(block.size)
            if (block.node, block.serial + number) in self._awaited
        }
        if not awaited:
            return ()
        try:
            events = list(unpacked(block.size, block.events))
        except ValueError:
            return ()
        return [number for number, event in awaited.items() if packed([events[number]]) == event]
