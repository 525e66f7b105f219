"""The newest events of a broker, kept for nodes that missed some."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import takewhile

from tiered.coherence.messages import Block
from tiered.coherence.owed import BLOCK_BYTES, BLOCK_EVENTS

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
    """*blocks*, until there are *most_bytes*; those of one node in a row as one."""
    joined: Block | None = None
    for block in blocks:
        if most_bytes <= 0:
            break
        most_bytes -= len(block.events)
        if joined is not None and _joins(joined, block):
            joined = joined._replace(
                size=joined.size + block.size, events=joined.events + block.events
            )
            continue
        if joined is not None:
            yield joined
        joined = block
    if joined is not None:
        yield joined


def _joins(block: Block, following: Block) -> bool:
    return (
        block.node == following.node
        and block.serial + block.size == following.serial
        and block.urgent == following.urgent
        and block.size + following.size <= BLOCK_EVENTS
        and len(block.events) + len(following.events) <= BLOCK_BYTES
    )
