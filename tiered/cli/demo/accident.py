"""What happens to the broker in the middle of the demo."""

from __future__ import annotations

import time
from typing import Final

from tiered.cli.demo.broker import BrokerProcess

__all__ = ["Accident"]

_SHARE: Final = 0.4
"""Of the run, before it happens."""
_LEFT: Final = 2.4
"""Seconds that have to be left for the others to go on."""


class Accident:
    """The broker is killed, once, if the run is long enough to see what comes of it.

    Args:
        seconds: of the run.

    Attributes:
        happened_at: when (monotonic), or ``None``.
    """

    def __init__(self, broker: BrokerProcess, seconds: float) -> None:
        self._broker = broker
        self._after = seconds * _SHARE if seconds * (1 - _SHARE) >= _LEFT else None
        self.happened_at: float | None = None

    def happen(self, served: float) -> None:
        """Let it happen if it is due; workers have served for *served* seconds."""
        if self._after is None or self.happened_at is not None or served < self._after:
            return
        self.happened_at = time.monotonic()
        self._broker.kill()
