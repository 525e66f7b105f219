"""The ghost of S3-FIFO: which keys were evicted lately, without the keys.

It remembers 32 bits of a hash for each, in two generations. Tags go into the young one; when
that has six tenths as many as the store has entries, it becomes the old one, and what was the
old one is forgotten. So a tag is remembered for 0.6 to 1.2 times as many evictions as there
are entries, 0.9 on average.

Rejected: one queue of exactly 0.9. It finds the same on real traces (0.792 of the optimum both),
takes twice the memory, and to forget the oldest tag with each eviction costs as much as to
evict the entry.
"""

from __future__ import annotations

from typing import Final

from tiered.typing import Key

__all__ = ["Ghost", "tag_of"]

GENERATION: Final = 0.6
"""Tags in a generation, for each entry."""

_WORD: Final = (1 << 64) - 1
_SPREAD: Final = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: Fibonacci hashing


def tag_of(key: Key) -> int:
    """The bits by which *key* is remembered, never 0; hashes it."""
    return ((hash(key) & _WORD) * _SPREAD & _WORD) >> 32 or 1


class Ghost:
    """Tags, as long as they are of use.

    Threads: as of the store, which calls it with its lock held.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remember nothing."""
        self._young: set[int] = set()
        self._old: set[int] = set()

    def remember(self, tag: int, entries: float) -> None:
        """Add a tag; *entries* is how many the store has room for."""
        self._young.add(tag)
        if len(self._young) >= int(GENERATION * entries):
            self._old = self._young
            self._young = set()

    def recall(self, tag: int) -> bool:
        """Whether the tag is remembered; it is no longer, after this."""
        known = tag in self._young or tag in self._old
        self._young.discard(tag)
        self._old.discard(tag)
        return known
