"""One log line per subject and interval, however often it fails."""

from __future__ import annotations

import logging
from collections.abc import Hashable

from tiered.typing import Clock

__all__ = ["Reports"]


class Reports:
    """A logger that says a thing once per interval, with the number of repeats.

    A dead server fails thousands of requests a second; each is counted, but a
    log that repeats it thousands of times hides everything else.

    Threads: safe. Two threads that report the same new subject in the same
    microsecond may both log it.
    """

    MAX_SUBJECTS = 1024

    def __init__(self, name: str, clock: Clock, interval: float = 30.0) -> None:
        self._logger = logging.getLogger(name)
        self._clock = clock
        self._interval = interval
        self._said: dict[Hashable, tuple[float, int]] = {}

    def warn(self, subject: Hashable, message: str, *args: object) -> None:
        """Log *message* as a warning unless *subject* was logged in this interval."""
        now = self._clock.monotonic()
        last, repeats = self._said.get(subject, (-float("inf"), 0))
        if now - last < self._interval:
            self._said[subject] = (last, repeats + 1)
            return
        if len(self._said) >= self.MAX_SUBJECTS:
            self._said.clear()
        self._said[subject] = (now, 0)
        if repeats:
            message += " (and %d more since the last such line)"
            args = (*args, repeats)
        self._logger.warning(message, *args)
