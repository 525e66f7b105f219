"""Who is the broker: the first candidate, in a fixed order, where one answers or can begin.

There is no vote. An address can be bound by one process only, so who binds one is the broker
there, and everybody agrees on the order of the addresses. What the rules below avoid is that
two processes begin at two addresses because each has not looked long enough for the other:

* An address counts as vacant when connecting is refused, or does not come about in a while.
* A broker at a later address is followed at once only if all earlier ones are vacant.
* Nobody binds before all are vacant, nor all at the same moment.
* An address that is taken, but where nobody answers, belongs to a process that has just begun
  or hangs: look again, and pass it over when that stays so.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Bind", "BindResult", "Decision", "Election", "Follow", "Prospect", "Wait"]

_JITTER: Final = 0.05
_STAGGER: Final = 0.05
"""Seconds by which binding the next address is later: its machine gives way to those before."""
_AGAIN: Final = 0.1
_MOST_BUSY: Final = 3


class Prospect(enum.Enum):
    """What is known of an address."""

    UNKNOWN = "unknown"
    """Neither connected nor refused, yet."""
    VACANT = "vacant"
    """Nobody is there, or none of ours."""
    THERE = "there"
    """Connected with somebody who knows the protocol below ours."""


class BindResult(enum.Enum):
    """What came of binding an address."""

    BOUND = "bound"
    BUSY = "busy"
    """Somebody else has it."""
    ELSEWHERE = "elsewhere"
    """It is not this machine's, or cannot be bound by this process."""


class Follow(NamedTuple):
    """Follow the broker at the address number *place*."""

    place: int


class Bind(NamedTuple):
    """Try to become the broker at the address number *place*."""

    place: int


class Wait(NamedTuple):
    """Nothing can be done before *until* (monotonic), unless a prospect changes."""

    until: float


Decision: TypeAlias = Follow | Bind | Wait


class Election:
    """Looks for a broker, and tells when to become one.

    Args:
        size: number of addresses.
        candidate: whether this process may become the broker.
        patience: seconds after which an address that does not answer counts as vacant, and
            one whose broker has failed us, or that cannot be bound, is tried again.
        chance: of the moment at which to bind.

    Threads: one.
    """

    def __init__(
        self, size: int, *, candidate: bool, patience: float, chance: random.Random
    ) -> None:
        self._size = size
        self._candidate = candidate
        self._patience = patience
        self._chance = chance
        self._ready_again = [-math.inf] * size
        self.begin(-math.inf)

    def begin(self, now: float) -> None:
        """Look for a broker, from *now* on."""
        self._unknown_until = now + self._patience
        self._begin_round(None)

    def _begin_round(self, bind_from: float | None) -> None:
        self._bind_from = bind_from
        self._passed_over: set[int] = set()
        self._busy = [0] * self._size

    def failed(self, index: int, now: float) -> None:
        """Whoever is at *index* does not answer as a broker, or is about to leave."""
        self._ready_again[index] = now + self._patience

    def renewed(self, index: int) -> None:
        """Whoever was at *index* is gone; who is there next has not failed us."""
        self._ready_again[index] = -math.inf

    def tried(self, index: int, result: BindResult, now: float) -> None:
        """Binding number *index* came to *result*."""
        if result is BindResult.ELSEWHERE:
            self._passed_over.add(index)
        elif result is BindResult.BUSY:
            self._busy[index] += 1
            if self._busy[index] >= _MOST_BUSY:
                self._passed_over.add(index)
            else:
                self._bind_from = now + _AGAIN + self._jitter()

    def decide(self, prospects: Sequence[Prospect], now: float) -> Decision:
        """What to do, as far as *prospects*, one for each address, are known."""
        wake = math.inf
        for index, prospect in enumerate(prospects):
            if prospect is Prospect.THERE:
                ready = self._ready_again[index]
                if now >= ready:
                    return Follow(index)
                wake = min(wake, ready)
            elif prospect is Prospect.UNKNOWN and now < self._unknown_until:
                return Wait(min(wake, self._unknown_until))
        return self._begin_one(now, wake) if self._candidate else Wait(wake)

    def _begin_one(self, now: float, wake: float) -> Decision:
        """Nobody is to be followed now."""
        if len(self._passed_over) == self._size:
            self._begin_round(now + self._patience)
        if self._bind_from is None:
            self._bind_from = now + self._jitter()
        index = min(set(range(self._size)) - self._passed_over)
        at = self._bind_from + index * _STAGGER
        return Bind(index) if now >= at else Wait(min(at, wake))

    def _jitter(self) -> float:
        return self._chance.uniform(0.0, _JITTER)
