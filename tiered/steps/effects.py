"""What answering a call needs from the outside, as data.

The engine is written once, for threads, pools and event loops. It does no I/O, waits for
nothing and never calls the user's function: it is a generator that *yields* what it needs,
one of the effects below, and is sent what came of it. Who drives the generator decides how:

=============  =======================  ==========================  =========================
effect         a caller's thread        a pool, for a future        an event loop
=============  =======================  ==========================  =========================
``Ask``        calls                    calls                       calls; in a thread where
                                                                    the client may block
``Compute``    calls                    calls                       awaits; in a thread where
                                                                    the function blocks
``Lead``       drives it, or has a      drives it                   makes a task of it, or has
               pool drive it                                        a pool drive it
``Await``      blocks                   comes back when it lands    awaits
``Pause``      sleeps, or waits to be   comes back later            sleeps as a task, or waits
               woken                                                to be woken
``Behind``     gives it to the pool     gives it to the pool        makes a task of it
``Each``       one after the other      one after the other         all together
=============  =======================  ==========================  =========================

Values and exceptions of the user's function travel as an :class:`Outcome`; what is thrown
into a generator is only what ends it (``KeyboardInterrupt``, cancellation, its own closing).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from tiered.concurrency import circles
from tiered.concurrency.flight import Flight
from tiered.concurrency.outcome import Outcome
from tiered.concurrency.waker import Waker
from tiered.keys.call import BoundCall

__all__ = [
    "Ask",
    "Await",
    "Behind",
    "Compute",
    "Each",
    "Effect",
    "Lead",
    "Pause",
    "Steps",
    "caught",
    "in_turn",
]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Ask:
    """Call *operation*, which may block on a server and does not raise; sends its answer."""

    operation: Callable[[], Any]


@dataclass(slots=True, eq=False)
class Compute:
    """Call the user's function; sends its :class:`Outcome`.

    *flight* is the one that this is for, or ``None`` where the caller computes for himself.
    """

    call: BoundCall
    flight: Flight | None = None


@dataclass(slots=True, eq=False)
class Lead:
    """See that *flight* is led: by *steps*, unless somebody begins it first.

    Sends the outcome if that happened here and now, or ``None`` if it is to be awaited.
    *new* says that this call has put the flight into the table, and *begun* that it has
    begun it, so that nobody else will.
    """

    flight: Flight
    call: BoundCall
    steps: Steps[Outcome | None]
    new: bool
    begun: bool = False

    def to_be_led(self) -> bool:
        """Whether who performs this elsewhere is the one to see to it."""
        return self.begun or self.flight.assign()


@dataclass(slots=True, eq=False)
class Await:
    """Wait until *flight* has ended; sends ``False`` if *timeout* seconds were not enough.

    Throws ``CircularWait`` where that would take for ever.
    """

    flight: Flight
    timeout: float | None


@dataclass(slots=True, eq=False)
class Pause:
    """Let *seconds* pass, or fewer if *waker* rings."""

    seconds: float
    waker: Waker | None = None


@dataclass(slots=True, eq=False)
class Behind:
    """See that a new *flight* is led, behind the caller's back."""

    flight: Flight
    call: BoundCall
    steps: Steps[Outcome | None]


@dataclass(slots=True, eq=False)
class Each:
    """Perform all of *many*, one after the other or together; sends their answers in order."""

    many: list[Steps[Any]]


Effect: TypeAlias = Ask | Compute | Lead | Await | Pause | Behind | Each
Steps: TypeAlias = Generator[Effect, Any, T]


def in_turn(many: list[Steps[Any]]) -> Steps[list[Any]]:
    """``Each``, one after the other."""
    answers: list[Any] = []
    for steps in many:
        answers.append((yield from steps))
    return answers


def caught(function: Callable[..., Any], effect: Compute) -> Outcome:
    """Perform ``Compute`` by calling *function*; how that ended."""
    call, flight = effect.call, effect.flight
    token = None if flight is None else circles.enter(flight)
    try:
        return Outcome(function(*call.args, **call.kwargs))
    except Exception as error:
        return Outcome(error=error)
    finally:
        if token is not None:
            circles.leave(token)
