"""Counters of the public operations of a client, and their frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClientStats", "Counters"]


@dataclass(frozen=True, slots=True)
class ClientStats:
    """What a client has done since it was made.

    Attributes:
        hits: reads answered with a fresh value.
        misses: reads that found nothing, or only something stale.
        puts: values written.
        drops: values that could not be written (too large, refused, server down).
        deletes: keys that a delete found and removed.
        errors: failures that were turned into misses or drops.
    """

    hits: int = 0
    misses: int = 0
    puts: int = 0
    drops: int = 0
    deletes: int = 0
    errors: int = 0

    @property
    def hit_ratio(self) -> float:
        """Share of the reads that were hits, 0 to 1; 0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0


class Counters:
    """The live side of :class:`ClientStats`.

    Threads: plain ``+= 1`` on slots. CPython with a GIL switches threads only at
    calls and backward jumps, none of which lies between the load and the store,
    so no count is lost; a free-threaded build may lose a few. A lock would cost
    more than the lookup that it counts.
    """

    __slots__ = ("deletes", "drops", "errors", "hits", "misses", "puts")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.puts = 0
        self.drops = 0
        self.deletes = 0
        self.errors = 0

    def snapshot(self, near_hits: int = 0, near_puts: int = 0) -> ClientStats:
        """The counts as of now, frozen; with hits and puts that were counted elsewhere."""
        return ClientStats(
            hits=self.hits + near_hits,
            misses=self.misses,
            puts=self.puts + near_puts,
            drops=self.drops,
            deletes=self.deletes,
            errors=self.errors,
        )
