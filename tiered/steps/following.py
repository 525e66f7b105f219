"""Flights that hear of what other processes do to their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from tiered.concurrency.flight import Flight, Flights
from tiered.concurrency.waker import Waker
from tiered.typing import Following, Key, OnChange

__all__ = ["UNFOLLOWED", "Follow", "Followed", "Follower"]

_MOST: Final = 2
"""How often what was found is looked for again, while others go on changing it."""

Follow: TypeAlias = Callable[[Key, OnChange], Following | None]
"""As of a client."""


class Followed:
    """A flight of one key; this one is told nothing, as on clients that nobody else uses.

    Attributes:
        waker: ends the pauses of its leader; ``None`` if nobody rings.

    Threads: the leader's.
    """

    __slots__ = ()

    waker: Waker | None = None

    def begin(self) -> None:
        """Follow the key until the flight ends; to be called before it is read or claimed."""

    def rearm(self) -> None:
        """A turn begins: claim, look, and wait if need be."""

    def look(self) -> None:
        """What the key holds is about to be read."""

    def decide(self) -> bool:
        """Whether what was read may be the answer; if so, changes supersede the flight from now on.

        If not, the key was changed since the last :meth:`look`, and who asked after that may have
        joined.
        """
        return True

    def compute(self) -> None:
        """The function is about to run: changes supersede the flight from now on."""


UNFOLLOWED: Final = Followed()


class Follower:
    """Lets flights follow their keys.

    Args:
        flights: the table.
        follow: of the client.
        now: the clock of leases, in seconds.
        told: whether it is worth asking: a client that nobody shares is told nothing.

    Threads: safe.
    """

    def __init__(
        self, flights: Flights, follow: Follow, now: Callable[[], float], *, told: bool
    ) -> None:
        self.flights = flights
        self.follow = follow
        self.now = now
        self.told = told

    def of(self, key: Key, flight: Flight, waker: Waker | None = None) -> Followed:
        """*flight*, of *key*; of several that one leader waits for, they have one *waker*."""
        return _Followed(self, key, flight, waker) if self.told else UNFOLLOWED


class _Followed(Followed):
    """One that is told.

    What it reads or computes is older than a change of which it hears meanwhile, and so is not
    for those who ask after that. If it hears of it before it has *decided*, it looks again. After
    that, and when it has looked often enough, it leaves the table: what it brings reaches those
    who wait, and is not kept. While it waits for another process it is woken, also by the end of
    that one's claim.

    Threads: whoever tells of a change waits for nobody.
    """

    __slots__ = (
        "_begun",
        "_changes",
        "_decided",
        "_flight",
        "_follower",
        "_key",
        "_left",
        "_seen",
        "waker",
    )

    def __init__(self, follower: Follower, key: Key, flight: Flight, waker: Waker | None) -> None:
        self._follower = follower
        self._key = key
        self._flight = flight
        self._begun = False
        self._decided = False
        self._changes = 0
        self._seen = 0
        self._left = _MOST
        self.waker = waker

    def begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self.waker = self.waker or Waker()
        now = self._follower.now
        began = now()
        following = self._follower.follow(self._key, self._told)
        if following is None:
            self.waker = None
            self._follower.told = False
            return
        flight = self._flight
        flight.began = began
        flight.told = lambda: now() < following.lease.horizon
        flight.then(lambda _: following.close())

    def rearm(self) -> None:
        if self.waker is not None:
            self.waker.clear()

    def look(self) -> None:
        self._decided = False
        self._seen = self._changes

    def decide(self) -> bool:
        self._decided = True
        if self._changes == self._seen or not self._left:
            return True
        self._left -= 1
        if not self._left:
            self._retire()  # the next look is for those who have asked by now
        return False

    def compute(self) -> None:
        self._decided = True

    def _retire(self) -> None:
        self._follower.flights.retire(self._key, self._flight)

    def _told(self, how: str) -> None:
        if how == "changed":
            # In this order: decide() sees it, or is seen.
            self._changes += 1
            if self._decided:
                self._retire()
        elif how != "done":
            return
        if self.waker is not None:
            self.waker.ring()
