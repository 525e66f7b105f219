"""Many calls at once: one look at each tier for all of them, one computation for each that misses.

The flights of all calls are entered before the cache is asked, and begun one by one after it:
whoever needs one of them sooner begins it himself, and no answer is used that is older than
a computation which ended in between.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from tiered.concurrency.flight import Flight
from tiered.concurrency.outcome import Outcome
from tiered.decorators.engine import Engine
from tiered.decorators.verdict import CALL, Row
from tiered.entry import time_left
from tiered.errors import CacheMissError
from tiered.keys.call import BoundCall
from tiered.steps.effects import Each, Lead, Steps
from tiered.typing import Key

__all__ = ["ManyCalls", "MultiResult"]

R = TypeVar("R")

_Entered: TypeAlias = tuple[BoundCall, Flight | None, bool]
"""A call, its flight, and whether that is new; none for a key that fails to be compared."""
_Keyed: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], BoundCall | None]


class MultiResult(dict[Any, R]):
    """The answers for many calls: a dict of those that there are.

    Asking for one that failed raises its exception, as the call itself would have.

    Attributes:
        errors: the exceptions of the others, by item; of misses, ``CacheMissError``.

    Threads: as a dict.
    """

    errors: dict[Any, Exception]

    def __init__(self, outcomes: Mapping[Any, Outcome]) -> None:
        super().__init__(
            (item, outcome.value) for item, outcome in outcomes.items() if outcome.error is None
        )
        self.errors = {
            item: outcome.error for item, outcome in outcomes.items() if outcome.error is not None
        }

    def __missing__(self, item: Any) -> NoReturn:
        if item in self.errors:
            raise self.errors[item]
        raise KeyError(item)

    def __repr__(self) -> str:
        failed = f", errors={self.errors!r}" if self.errors else ""
        return f"MultiResult({dict(self)!r}{failed})"


class ManyCalls:
    """The operations on many calls, as steps.

    An item stands for a call: of a function of one parameter it is the argument; of others,
    a tuple is the positional arguments and anything else the first of them.

    Args:
        engine: of the function.
        function: the function.
        first: arguments that come before those of each item: ``self``, of a method.

    Threads: safe.
    """

    def __init__(
        self, engine: Engine, function: Callable[..., Any], first: tuple[Any, ...] = ()
    ) -> None:
        self._engine = engine
        self._reading = engine.reading
        self._first = first
        self._single: Final = _takes_one(function, len(first))

    def args(self, item: Any) -> tuple[Any, ...]:
        """The positional arguments that *item* stands for."""
        if self._single or not isinstance(item, tuple):
            return (*self._first, item)
        return self._first + item

    def answer(self, row: Row, items: Iterable[Hashable]) -> Steps[Outcome]:
        """A :class:`MultiResult` of what *row* says of each item."""
        calls, alone = self._keyed(items, self._reading.tagged)
        outcomes: dict[Any, Outcome] = {}
        missing = calls
        if row is not CALL:
            found = yield from self._reading.find_all(calls.values())
            missing = {}
            for item, call in calls.items():
                outcome = yield from self._engine.judged(row, call, found.get(call.key))
                if outcome is None:
                    missing[item] = call
                else:
                    outcomes[item] = outcome
        outcomes |= yield from self._computed(missing)
        many = [self._engine.answer(row, self.args(item), {}) for item in alone]
        outcomes |= dict(zip(alone, (yield Each(many)) if many else (), strict=True))
        return Outcome(MultiResult({item: outcomes[item] for item in (*calls, *alone)}))

    def _computed(self, calls: Mapping[Any, BoundCall]) -> Steps[dict[Any, Outcome]]:
        """Each call's value, found or computed once."""
        entered: dict[Key, _Entered] = {}
        try:
            for call in calls.values():
                if call.key not in entered:
                    entered[call.key] = (call, *(yield from self._engine.entering.entered(call)))
            leader = self._engine.leader
            patience = leader.patience()
            ours = {
                key: leader.led(flight, call, patience)
                for key, (call, flight, new) in entered.items()
                if flight is not None and new
            }
            found = yield from self._reading.find_all(
                [led.call for led in ours.values()],
                followed=[led.followed for led in ours.values()],
            )
            many = []
            for key, (call, flight, new) in entered.items():
                if flight is None:
                    many.append(leader.computed(call))
                    continue
                if new:
                    known = {one: found[one] for one in self._reading.beside(key) if one in found}
                    steps = leader.lead_on(ours[key], known)
                else:
                    steps = leader.lead(flight, call, patience)
                many.append(self._engine.landed(Lead(flight, call, steps, new)))
            outcomes = dict(zip(entered, (yield Each(many)) if many else (), strict=True))
        finally:
            self._leave(entered)
        return {item: outcomes[call.key] for item, call in calls.items()}

    def _leave(self, entered: Mapping[Key, _Entered]) -> None:
        """Take back the flights that we put into the table and nobody has begun."""
        for key, (_, flight, new) in entered.items():
            if flight is not None and new and not flight.ended and flight.begin():
                self._engine.flights.drop(key, flight)

    def refresh(self, items: Iterable[Hashable]) -> Steps[Outcome]:
        """All computed anew."""
        wanted = list(dict.fromkeys(items))
        many = [self._engine.refresh(self.args(item), {}) for item in wanted]
        outcomes = (yield Each(many)) if many else []
        return Outcome(MultiResult(dict(zip(wanted, outcomes, strict=True))))

    def get_ttl(self, items: Iterable[Hashable]) -> Steps[Outcome]:
        """``(value, seconds left)`` of each item that something is held for."""
        calls, alone = self._keyed(items, self._reading.keyed)
        found = yield from self._reading.find_all(calls.values())
        now = self._reading.monotonic()
        outcomes: dict[Any, Outcome] = {}
        for item in (*calls, *alone):
            entry = found.get(calls[item].key) if item in calls else None
            if entry is None:
                outcomes[item] = Outcome(error=CacheMissError(item))
            else:
                outcomes[item] = Outcome((entry.value, time_left(entry, now)))
        return Outcome(MultiResult(outcomes))

    def put(self, values: Mapping[Any, Any]) -> Steps[Outcome]:
        """Hold the values of a mapping from items."""
        engine = self._engine
        many = [engine.put(value, self.args(item), {}) for item, value in values.items()]
        return (yield from self._each(list(values), many))

    def invalidate(self, items: Iterable[Hashable]) -> Steps[Outcome]:
        """Forget all; which were there."""
        wanted = list(dict.fromkeys(items))
        many = [self._engine.invalidate(self.args(item), {}) for item in wanted]
        return (yield from self._each(wanted, many))

    def expire(self, items: Iterable[Hashable]) -> Steps[Outcome]:
        """Make all stale; which were fresh."""
        wanted = list(dict.fromkeys(items))
        many = [self._engine.expire(self.args(item), {}) for item in wanted]
        return (yield from self._each(wanted, many))

    def _each(self, items: list[Any], many: list[Steps[Outcome]]) -> Steps[Outcome]:
        outcomes = (yield Each(many)) if many else []
        return Outcome({item: outcome.value for item, outcome in zip(items, outcomes, strict=True)})

    def _keyed(
        self, items: Iterable[Hashable], keyed: _Keyed
    ) -> tuple[dict[Any, BoundCall], list[Any]]:
        """The calls by item, and the items whose calls the cache cannot use."""
        calls: dict[Any, BoundCall] = {}
        alone: list[Any] = []
        for item in dict.fromkeys(items):
            call = keyed(self.args(item), {})
            if call is None:
                alone.append(item)
            else:
                calls[item] = call
        return calls, alone


def _takes_one(function: Callable[..., Any], given: int) -> bool:
    """Whether *function* takes one argument, after the first *given*."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[given:]
    except (TypeError, ValueError):  # a builtin that does not tell
        return False
    kinds = [parameter.kind for parameter in parameters]
    return kinds in (
        [inspect.Parameter.POSITIONAL_ONLY],
        [inspect.Parameter.POSITIONAL_OR_KEYWORD],
    )
