"""Ways for messages that lose, repeat, hold up, and mix them up."""

from __future__ import annotations

import enum
from collections.abc import Callable
from random import Random

from tests.cluster.agenda import Agenda

__all__ = ["Direction", "State"]


class State(enum.Enum):
    """What a way does with messages."""

    OPEN = "in order, soon"
    SLOW = "in order, some time"
    LOSSY = "lost, repeated, out of order"
    HELD = "kept until it is another way again"
    CUT = "lost"


class Direction:
    """From one process to another."""

    def __init__(self, agenda: Agenda, rng: Random) -> None:
        self._agenda = agenda
        self._rng = rng
        self._state = State.OPEN
        self._held: list[Callable[[], None]] = []
        self._last = 0.0

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if state is not State.HELD:
            held, self._held = self._held, []
            for deliver in held:
                self.send(deliver)

    @property
    def works(self) -> bool:
        """Whether somebody at the other end would be found."""
        return self._state not in (State.HELD, State.CUT)

    def send(self, deliver: Callable[[], None]) -> None:
        """Call *deliver* when the message has arrived."""
        rng = self._rng
        if self._state is State.OPEN:
            self._in_order(rng.uniform(0.0002, 0.003), deliver)
        elif self._state is State.SLOW:
            self._in_order(rng.choice((0.05, 0.2, 0.5, 1.1)) * rng.random(), deliver)
        elif self._state is State.HELD:
            self._held.append(deliver)
        elif self._state is State.LOSSY:
            for _ in range(rng.choice((0, 1, 1, 1, 1, 2))):
                self._agenda.after(rng.choice((0.003, 0.1, 0.1, 2.0)) * rng.random(), deliver)

    def _in_order(self, delay: float, deliver: Callable[[], None]) -> None:
        at = max(self._agenda.now + delay, self._last)
        self._last = at
        self._agenda.after(at - self._agenda.now, deliver)
