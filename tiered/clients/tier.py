"""One client among the tiers: its place, its share of a life, and what it has contributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiered.clients.base import CacheClient
from tiered.stats.counters import ClientStats
from tiered.validation import check_number

__all__ = ["Tier", "TierStats", "TieredStats", "tiers_of"]


@dataclass(frozen=True, slots=True)
class TierStats:
    """What one tier has contributed.

    Attributes:
        client: the tier's ``repr``.
        hits: reads that this tier answered with a fresh value.
        misses: reads that went past it.
        promotions: values copied into it from farther tiers.
        errors: calls of it that raised, and were skipped.
    """

    client: str
    hits: int
    misses: int
    promotions: int
    errors: int


@dataclass(frozen=True, slots=True)
class TieredStats(ClientStats):
    """The counts of the whole, and of each tier, nearest first."""

    tiers: tuple[TierStats, ...] = ()


class Tier:
    """A client in its place. Threads: the counts are as in ``stats.counters``."""

    __slots__ = ("client", "errors", "fraction", "hits", "misses", "promotions")

    def __init__(self, client: CacheClient, fraction: float) -> None:
        self.client = client
        self.fraction = fraction
        self.hits = 0
        self.misses = 0
        self.promotions = 0
        self.errors = 0

    def deadline(self, deadline: float, now: float) -> float:
        """The tier's share of a life until *deadline*; never more than that life."""
        return now + (deadline - now) * self.fraction if deadline > now else deadline

    def snapshot(self) -> TierStats:
        return TierStats(repr(self.client), self.hits, self.misses, self.promotions, self.errors)


def tiers_of(clients: Sequence[Any], fractions: Any) -> list[Tier]:
    """A tier for each client, with its share of a value's life; all of it, if that is ``None``.

    Raises:
        TypeError, ValueError: as :class:`tiered.TieredInclusiveClient` says.
    """
    _check_clients(clients)
    shares = _shares(fractions, len(clients))
    return [Tier(*pair) for pair in zip(clients, shares, strict=True)]


def _check_clients(clients: Sequence[Any]) -> None:
    if not clients:
        raise ValueError("clients must name at least one tier, not none")
    for index, client in enumerate(clients):
        if not isinstance(client, CacheClient):
            raise TypeError(f"clients[{index}] must be a CacheClient, not {client!r}")
        if any(client is other for other in clients[:index]):
            raise ValueError(
                f"clients[{index}] is {client!r} again; each tier must be a client of its own"
            )
        if client.clock is not clients[0].clock:
            raise ValueError(
                f"clients[{index}] has the clock {client.clock!r} and clients[0] has "
                f"{clients[0].clock!r}; deadlines can be compared on one clock only"
            )


def _shares(fractions: Any, tiers: int) -> Sequence[float]:
    if fractions is None:
        return (1.0,) * tiers
    if isinstance(fractions, str) or not isinstance(fractions, Sequence):
        raise TypeError(f"ttl_fractions must be a sequence of numbers, not {fractions!r}")
    if len(fractions) != tiers:
        raise ValueError(f"ttl_fractions must hold {tiers} numbers, one a tier, not {fractions!r}")
    for index, fraction in enumerate(fractions):
        name = f"ttl_fractions[{index}]"
        check_number(name, fraction, low=0.0, hint="above 0 and at most 1")
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"{name} must be above 0 and at most 1, not {fraction!r}")
    return tuple(fractions)
