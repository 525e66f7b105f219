"""A bus's place among its neighbours: found, kept, looked for again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from tiered.coherence.messages import Publish
from tiered.coherence.zeromq.foreign import LOGGER
from tiered.coherence.zeromq.neighbours import Neighbours, folder_of
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.settings import Settings

__all__ = ["Meeting"]

_log: Final = logging.getLogger(LOGGER)

_RETRY: Final = 60.0
"""Seconds after which those of this host are looked for again, where they could not be met."""


class Meeting:
    """Has neighbours wherever that is possible.

    Args:
        hear: called with each of their notices.

    Attributes:
        neighbours: those of this host, if there can be any.

    Threads: one.
    """

    def __init__(
        self, settings: Settings, readiness: Readiness, hear: Callable[[Publish], object]
    ) -> None:
        self.neighbours: Neighbours | None = None
        self._settings = settings
        self._readiness = readiness
        self._hear = hear
        self._due = -math.inf

    def keep(self, node: bytes, now: float) -> None:
        """See who is there, as the node with this id; now and then."""
        if self.neighbours is not None and not self.neighbours.look():
            self.part()  # somebody has tidied up
            self._due = now
        if self.neighbours is None and self._settings.neighbours and now >= self._due:
            self._due = now + _RETRY
            self._meet(node)

    def _meet(self, node: bytes) -> None:
        settings = self._settings
        try:
            folder = folder_of(settings.addresses)
            neighbours = Neighbours(folder, node, wire=settings.wire, foreign=settings.foreign)
        except OSError as error:
            _log.info("other processes of this host are told by the broker alone: %s", error)
            return
        self._readiness.add_descriptor(neighbours.descriptor, self._receive)
        self.neighbours = neighbours

    def part(self) -> None:
        """Have no neighbours any more."""
        neighbours, self.neighbours = self.neighbours, None
        if neighbours is not None:
            self._readiness.remove_descriptor(neighbours.descriptor)
            neighbours.close()

    def forget(self) -> None:
        """In a forked child: all of this is the parent's."""
        if self.neighbours is not None:
            self.neighbours.forget()

    def _receive(self) -> None:
        if self.neighbours is not None:
            for notice in self.neighbours.receive():
                self._hear(notice)
