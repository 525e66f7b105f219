"""The connections of a node to the addresses where brokers may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, TypeAlias

from tiered.coherence.zeromq.election import Prospect
from tiered.coherence.zeromq.foreign import LOGGER
from tiered.coherence.zeromq.link import Link
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.settings import Settings
from tiered.coherence.zeromq.tuning import Context
from tiered.stats.reports import Reports

__all__ = ["SLOWLY", "SOON", "Links"]

SOON: Final = 0.2
SLOWLY: Final = 1.0
"""Seconds between attempts to reach an address: at most, and where that is not urgent."""

_At: TypeAlias = Callable[[int], object]


class Links:
    """Up to one connection to each address, by the address's number.

    An address that cannot be dialled now, as its name is not known or as whoever is there
    refuses us, is put aside for a second, and counts as vacant.

    Args:
        receive, watch: called with the number when its connection has messages, or when
            something has happened to it.

    Attributes:
        get: gives the connection to the address of that number, if there is one.

    Threads: one.
    """

    def __init__(
        self,
        context: Context,
        settings: Settings,
        readiness: Readiness,
        *,
        receive: _At,
        watch: _At,
    ) -> None:
        self._context = context
        self._settings = settings
        self._readiness = readiness
        self._receive = receive
        self._watch = watch
        self._now = settings.clock.monotonic
        self._reports = Reports(LOGGER, settings.clock)
        self._links: dict[int, Link] = {}
        self.get: Callable[[int], Link | None] = self._links.get
        self._aside: dict[int, float] = {}
        self._longest = SOON

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    @property
    def prospects(self) -> list[Prospect]:
        """What is known of each address."""
        return [
            self._links[number].prospect if number in self._links else Prospect.VACANT
            for number in range(len(self._settings.addresses))
        ]

    def open(self, numbers: Iterable[int], longest: float) -> None:
        """Have connections to these, and try at least each *longest* seconds."""
        self._longest = longest
        for number in numbers:
            if number not in self._links and number not in self._aside:
                self._open(number)

    def _open(self, number: int) -> None:
        settings = self._settings
        address = settings.addresses[number]
        try:
            link = Link(
                self._context,
                address,
                wire=settings.wire,
                curve=settings.curve,
                foreign=settings.foreign,
                longest=self._longest,
            )
        except OSError as error:
            self._reports.warn(number, "%s: %s", address, error)
            self._aside[number] = self._now() + SLOWLY
            return
        self._links[number] = link
        self._readiness.add(link.socket, partial(self._receive, number))
        self._readiness.add(link.monitor, partial(self._watch, number))

    def renew(self) -> None:
        """Put aside where we are refused, and dial again what was put aside long enough."""
        now = self._now()
        for number, link in list(self._links.items()):
            if link.is_refused:
                self._settings.foreign.refuse(str(link.address), "no common key or language")
                self.close(number)
                self._aside[number] = now + SLOWLY
        for number in [number for number, until in self._aside.items() if now >= until]:
            del self._aside[number]
            self._open(number)

    def close(self, number: int, linger: float = 0.0) -> None:
        """Have no connection to that address."""
        link = self._links.pop(number)
        self._readiness.remove(link.socket)
        self._readiness.remove(link.monitor)
        link.close(linger)

    def close_all(self, *, but: int | None = None, linger: float = 0.0) -> None:
        """Have no connection, *but* that one, nor any that is put aside."""
        self._aside.clear()
        for number in self._links.keys() - {but}:
            self.close(number, linger)

    def __len__(self) -> int:
        return len(self._links) + len(self._aside)
