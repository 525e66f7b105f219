"""The newest events of a broker, kept for nodes that missed some."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import takewhile

from tiered.coherence.messages import Block

__all__ = ["Journal"]


class Journal:
    """Blocks in their order, the oldest forgotten first.

    Args:
        most_events, most_bytes: what is kept; the newest block always is.

    Threads: one.
    """

    def __init__(self, most_events: int, most_bytes: int) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._blocks: deque[Block] = deque()
        self._events = 0
        self._bytes = 0

    def add(self, block: Block) -> None:
        self._blocks.append(block)
        self._events += block.size
        self._bytes += len(block.events)
        while len(self._blocks) > 1 and (
            self._events > self._most_events or self._bytes > self._most_bytes
        ):
            oldest = self._blocks.popleft()
            self._events -= oldest.size
            self._bytes -= len(oldest.events)

    @property
    def oldest(self) -> int | None:
        """Number of the oldest event that is kept."""
        return self._blocks[0].first if self._blocks else None

    def after(self, seq: int, most_bytes: int) -> list[Block]:
        """The blocks after event *seq*, in order, until there are *most_bytes* of them."""
        # From the newest backwards: it is nearly always the last few that somebody missed.
        missed = list(takewhile(lambda block: block.first > seq, reversed(self._blocks)))
        missed.reverse()
        return list(_up_to(missed, most_bytes))

    def __len__(self) -> int:
        return self._events


def _up_to(blocks: list[Block], most_bytes: int) -> Iterator[Block]:
    for block in blocks:
        if most_bytes <= 0:
            return
        most_bytes -= len(block.events)
        yield block
