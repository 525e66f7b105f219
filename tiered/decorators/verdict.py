"""What was found for a call, and what each mode does about it: the one table.

::

    mode         FRESH   DUE               STALE             ABSENT
    call         value   value             compute           compute
    peek         value   value             miss              miss
    refreshing   value   value + refresh   value + refresh   compute
    lazy         value   value + refresh   miss + refresh    miss + refresh

``DUE`` is fresh with less than ``async_ttl`` left: time to compute anew, while
the value still serves. *compute* joins the flight of whoever computes already, and
*refresh* starts one behind the caller's back. A blocking ``lazy`` has no such back,
and answers as ``peek``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from tiered.entry import Entry

__all__ = ["CALL", "LAZY", "PEEK", "REFRESHING", "Action", "Row", "Verdict", "judge"]


class Verdict(enum.Enum):
    """How good what was found is."""

    FRESH = "fresh"
    DUE = "due"
    STALE = "stale"
    ABSENT = "absent"


class Action(enum.Enum):
    """What to do for the caller."""

    VALUE = "return the value"
    VALUE_AND_REFRESH = "return the value and start a computation"
    COMPUTE = "compute, store and return"
    MISS = "raise CacheMissError"
    MISS_AND_REFRESH = "raise CacheMissError and start a computation"

    @property
    def serves(self) -> bool:
        """Whether the caller gets what was found."""
        return self in (Action.VALUE, Action.VALUE_AND_REFRESH)

    @property
    def refreshes(self) -> bool:
        """Whether a computation is started behind the caller's back."""
        return self in (Action.VALUE_AND_REFRESH, Action.MISS_AND_REFRESH)


Row: TypeAlias = Mapping[Verdict, Action]


def _row(fresh: Action, due: Action, stale: Action, absent: Action) -> Row:
    return MappingProxyType(dict(zip(Verdict, (fresh, due, stale, absent), strict=True)))


CALL: Final = _row(Action.VALUE, Action.VALUE, Action.COMPUTE, Action.COMPUTE)
PEEK: Final = _row(Action.VALUE, Action.VALUE, Action.MISS, Action.MISS)
REFRESHING: Final = _row(
    Action.VALUE, Action.VALUE_AND_REFRESH, Action.VALUE_AND_REFRESH, Action.COMPUTE
)
LAZY: Final = _row(
    Action.VALUE, Action.VALUE_AND_REFRESH, Action.MISS_AND_REFRESH, Action.MISS_AND_REFRESH
)


def judge(entry: Entry | None, now: float, due_below: float) -> Verdict:
    """The verdict on *entry* at *now*; with *due_below* seconds left or fewer it is due."""
    if entry is None:
        return Verdict.ABSENT
    left = entry.deadline - now
    if left <= 0:
        return Verdict.STALE
    return Verdict.DUE if left <= due_below else Verdict.FRESH
