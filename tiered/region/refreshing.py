"""Values that are made anew on demand, whatever is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from tiered.concurrency.flight import Flight, Flights, publishing
from tiered.concurrency.outcome import Outcome
from tiered.region.api import CachedValue, KeyType
from tiered.region.creation import Found
from tiered.region.keeping import Keeping

__all__ = ["Refresh"]


class Refresh:
    """Takes the place of what is being made for some keys, while their values are made anew.

    A context manager around the function, which calls :meth:`confirm` before and :meth:`keep`
    after it. Who finds no value meanwhile waits for this one; what is deleted meanwhile is not
    kept. No lock keeps two of these apart: the one that began last is kept.

    Args:
        flights, keeping: of the region.
        keys: as the backend knows them.
        patience: seconds after which the values are out of date.

    Threads: one uses it, or one task.
    """

    def __init__(
        self, flights: Flights, keeping: Keeping, keys: Iterable[KeyType], patience: float
    ) -> None:
        self._table = flights
        self._keeping = keeping
        self._keys = list(dict.fromkeys(keys))
        self._patience = patience
        self._flights: dict[KeyType, Flight] = {}
        self._revision: str | None = None
        self._computing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            for key in self._keys:
                flight = self._flights[key] = self._table.restart(key)
                # What the function asks for of these very keys, it makes for itself.
                self._computing.enter_context(flight.computing())
        except BaseException:  # a signal's handler has raised: nobody else ends them
            self._leave()
            raise
        return self

    def confirm(self) -> None:
        """Find out in which revision of the region this is made; may ask a server."""
        self._revision = self._keeping.revision(confirmed=True)

    def keep(self, payloads: Mapping[KeyType, Any], *, many: bool = False) -> None:
        """Keep *payloads*, but for what was deleted since; may ask a server."""
        metadata = self._keeping.stamp(self._revision)
        made = {key: CachedValue(payload, metadata) for key, payload in payloads.items()}
        with publishing({key: self._flights[key] for key in made}) as allowed:
            kept = {key: value for key, value in made.items() if key in allowed}
            self._keeping.write(kept, self._patience, many=many)
        for key, value in made.items():
            self._table.finish(key, self._flights[key])
            self._flights[key].land(Outcome(Found(value, made=True)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._computing.close()
        for key, flight in self._flights.items():
            # One that has not landed is abandoned: its waiters make the value themselves.
            self._table.drop(key, flight)
