"""What a cache holds for a key, and the conditions of writing it."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = [
    "ALWAYS",
    "IF_ABSENT",
    "IF_OLDER",
    "Condition",
    "Entry",
    "Versioned",
    "admits",
    "time_left",
]


class Entry:
    """A value and the moment until which it is fresh.

    Read-only by agreement: clients hand out the very object that they keep.
    It is a slotted class rather than a named tuple because the decorator's hit
    reads both fields, and a slot is read five times faster than a tuple subclass.

    Attributes:
        value: what was stored; ``None`` is a value like any other.
        deadline: on the client's monotonic clock, in seconds; ``inf`` never passes.
    """

    __slots__ = ("deadline", "value")

    value: Any
    deadline: float

    def __init__(self, value: Any, deadline: float) -> None:
        self.value = value
        self.deadline = deadline

    def __iter__(self) -> Iterator[Any]:
        yield self.value
        yield self.deadline

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return bool(self.deadline == other.deadline and self.value == other.value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Entry({self.value!r}, deadline={self.deadline!r})"


class Versioned(NamedTuple):
    """What is held for a key, and which writing of it that is.

    Attributes:
        entry: what is held, fresh or stale.
        version: hashable, and equal to another of the same key as long as nobody has written,
            deleted or given another deadline to the entry in between; ``None`` if the client
            cannot tell.
    """

    entry: Entry | None
    version: object | None = None


class Condition(enum.Enum):
    """When a write may replace what is there."""

    ALWAYS = "always"
    IF_ABSENT = "if absent"
    """Only where no fresh entry is."""
    IF_OLDER = "if older"
    """Only where nothing is, or something with an earlier deadline."""


ALWAYS: Final = Condition.ALWAYS
IF_ABSENT: Final = Condition.IF_ABSENT
IF_OLDER: Final = Condition.IF_OLDER


def time_left(entry: Entry, now: float) -> float:
    """Seconds until the deadline; below 0 for what is stale, also in the very moment."""
    left = entry.deadline - now
    return left if left > 0 else min(left, -math.ulp(0.0))


def admits(condition: Condition, present: Entry | None, deadline: float, now: float) -> bool:
    """Whether *condition* lets a value with *deadline* replace *present*."""
    if present is None or condition is ALWAYS:
        return True
    if condition is IF_ABSENT:
        return present.deadline <= now
    return present.deadline < deadline
