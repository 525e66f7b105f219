"""The tags of one function's calls: which they are, and what its values are kept with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tiered.clients.tagged import Stamped, TaggedView
from tiered.clients.tags import Moment, Stamp, tag_name, tag_names
from tiered.concurrency.flight import Flight
from tiered.decorators.plan import Plan
from tiered.decorators.space import Space
from tiered.keys.call import BoundCall, TaggedCall
from tiered.sentinels import MISSING, MissingType
from tiered.steps.effects import Ask, Steps
from tiered.typing import Key

__all__ = ["Tagging", "stamped"]


_Guarded = Callable[[Callable[[], Any], Any], Any]


class Tagging:
    """What a function with ``tags=`` has more than others.

    Args:
        plan: its options.
        space: its clients.
        guarded: ``guarded(operation, fallback)`` gives the latter if the former fails.

    Attributes:
        values: the client of its space.
        table: of the tags that all functions on the client have in common.

    Threads: safe.
    """

    def __init__(self, plan: Plan, space: Space, guarded: _Guarded) -> None:
        assert plan.tags is not None
        assert isinstance(space.client, TaggedView)
        self._tags = plan.tags
        self._guarded = guarded
        self.values: Final = space.client
        self.table: Final = space.client.table

    def tagged(self, call: BoundCall) -> BoundCall:
        """*call* with the names of its tags.

        Raises:
            Exception: what the user's function raises, or what it returns are no tags.
        """
        names = tag_names(self._tags(*call.args, **call.kwargs))
        for name in names:
            self.table.tag(name)  # known from now on: see entered()
        return TaggedCall.of(call, names)

    def versions(self, call: BoundCall) -> tuple[tuple[Key, str], ...]:
        """Each tag of *call*, and its version by now. Raises as :meth:`tagged`."""
        tags = list(self._tags(*call.args, **call.kwargs))
        self.table.confirm(self.table.due(tag_names(tags)))
        return tuple((tag, self.table.tag(tag_name(tag)).version) for tag in tags)

    def stamp(self, call: BoundCall) -> Steps[Stamp | MissingType]:
        """What a value that is computed from now on is to be kept with.

        ``MISSING`` if nobody knows: then it cannot be kept.
        """
        table = self.table
        stamp: Stamp | MissingType | None = table.stamp_at_once(call.tags)
        if stamp is None:
            stamp = yield Ask(lambda: self._guarded(lambda: table.stamp(call.tags), MISSING))
        assert stamp is not None
        return stamp

    # -- Flights -----------------------------------------------------------------

    def entered(self, flight: Flight) -> None:
        """*flight* was put into the table just now: what it brings is no older than this."""
        flight.born = self.table.moment()

    def overtaken(self, flight: Flight, call: BoundCall) -> Steps[bool]:
        """Whether what *flight* brings may be out of date for who makes *call* now."""
        if flight.born is None:
            return False  # it is being entered just now, and has not looked at anything
        born, table = Moment(*flight.born), self.table
        # A flight that began a moment ago knows as much as would have been believed anyway.
        due = table.due(call.tags, born)
        if due:
            yield Ask(lambda: self._guarded(lambda: table.confirm(due), None))
        return table.changed_since(call.tags, born)


def stamped(value: Any, stamp: Stamp | None) -> Any:
    """*value* as it is given to the clients."""
    return value if stamp is None else Stamped(value, stamp)
