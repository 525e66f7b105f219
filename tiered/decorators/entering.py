"""Which flight a call joins: that of its key, unless it is too old for who calls now."""

from __future__ import annotations

from functools import partial

from tiered.concurrency.flight import CircularWait, Flight, Flights
from tiered.decorators.reading import Reading
from tiered.keys.call import BoundCall
from tiered.steps.effects import Await, Steps

__all__ = ["Entering"]


class Entering:
    """Enters the flights of one decorated function.

    Threads: safe.
    """

    def __init__(self, reading: Reading, flights: Flights) -> None:
        self._reading = reading
        self._flights = flights
        plan = reading.plan
        self._patience = plan.hard_timeout if plan.soft_timeout is None else plan.soft_timeout

    def entered(self, call: BoundCall) -> Steps[tuple[Flight | None, bool]]:
        """The flight of *call*, and whether it is new; none for a key that fails to be compared.

        Who calls after a tag was invalidated does not join what began before that. Nor does
        who calls while nobody tells of others' changes join what began before the call: he waits
        for its end, and joins the next one, with all who wait like him.
        """
        reading, tagging = self._reading, self._reading.tagging
        called = reading.monotonic()
        while True:
            entered = reading.guarded(lambda: self._flights.enter(call.key), None)
            if entered is None:
                return None, False
            flight, new = entered
            if flight.began < called and flight.told is not None and not flight.told():
                try:
                    ended = yield Await(flight, self._patience)
                except CircularWait:
                    return None, False
                if ended:
                    continue
            if tagging is None:
                return entered
            if new:
                tagging.entered(flight)
                return entered
            if not (yield from tagging.overtaken(flight, call)):
                return entered
            yield from reading.ask(partial(self._dismiss, call, flight), None)

    def restarted(self, call: BoundCall) -> Flight:
        """A new flight of *call*, led by the caller, in place of the one that runs."""
        flight = self._flights.restart(call.key)
        try:
            if self._reading.tagging is not None:
                self._reading.tagging.entered(flight)
        except BaseException as error:  # nobody would lead it
            self._flights.drop(call.key, flight, error)
            raise
        return flight

    def _dismiss(self, call: BoundCall, flight: Flight) -> None:
        if self._flights.dismiss(call.key, flight):
            # Whoever comes in its place is not to wait for its claim.
            self._reading.space.client.revoke(call.key)
