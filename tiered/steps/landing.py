"""How a flight ends, however the steps that lead it do."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tiered.concurrency.flight import Flight, Flights
from tiered.concurrency.outcome import Outcome
from tiered.steps.effects import Steps

__all__ = ["begun", "landed"]


def begun(
    flights: Flights,
    key: Hashable,
    flight: Flight,
    steps: Steps[Outcome],
    guarded: Callable[[Callable[[], None]], object],
) -> Steps[Outcome | None]:
    """:func:`landed`, unless somebody leads *flight* already; ``None`` then."""
    if not flight.begin():
        return None  # whoever needed it earlier leads
    try:
        return (yield from landed(flights, key, flight, steps, guarded))
    except BaseException as error:
        # A signal's handler may have raised before these steps had begun.
        if not flight.taken:
            flights.drop(key, flight, error)
        raise


def landed(
    flights: Flights,
    key: Hashable,
    flight: Flight,
    steps: Steps[Outcome],
    guarded: Callable[[Callable[[], None]], object],
) -> Steps[Outcome]:
    """Run *steps* and land *flight*, of *key*, with their outcome, on every exit.

    *guarded* runs what a key that fails to be hashed would break, and swallows that.
    """
    try:
        flight.taken = True
        outcome = yield from steps
    except Exception as error:
        outcome = Outcome(error=error)
    except GeneratorExit:  # its driver was dropped, and nobody waits for that
        flights.drop(key, flight)
        raise
    except BaseException as error:
        flights.drop(key, flight, error)
        raise
    try:
        # A key that fails to be hashed here must not keep the waiters waiting.
        guarded(lambda: flights.finish(key, flight))
    finally:
        flight.land(outcome)
    return outcome
