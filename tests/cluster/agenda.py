"""What happens when: the time of a simulated cluster, and clocks that run at their own pace."""

from __future__ import annotations

import heapq
from collections.abc import Callable

__all__ = ["Agenda", "Clock"]


class Agenda:
    """Things to do, in the order of their time. *before* is called before each of them."""

    def __init__(self, before: Callable[[float, float], None]) -> None:
        self.now = 0.0
        self._before = before
        self._things: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay: float, do: Callable[[], None]) -> None:
        """Do something in *delay* seconds."""
        self._count += 1
        heapq.heappush(self._things, (self.now + delay, self._count, do))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._things and self._things[0][0] <= end:
            at, _, do = heapq.heappop(self._things)
            self._pass(at)
            do()
        self._pass(end)

    def _pass(self, to: float) -> None:
        since, self.now = self.now, to
        self._before(since, to)


class Clock:
    """A monotonic clock of one host: begins anywhere, and runs a little fast or slow."""

    def __init__(self, agenda: Agenda, rate: float, start: float) -> None:
        self._agenda = agenda
        self.rate = rate
        self._start = start

    @property
    def now(self) -> float:
        """What it shows."""
        return self._start + self._agenda.now * self.rate

    def true(self, shown: float) -> float:
        """When it shows *shown*."""
        return (shown - self._start) / self.rate
