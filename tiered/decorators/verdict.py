"""What was found for a call, and what each mode does about it: the one table.

::

    mode         FRESH   DUE               KEPT              STALE             ABSENT
    call         value   value             compute           compute           compute
    early call   value   value + refresh   compute           compute           compute
    awaited      value   value + refresh   value + refresh   compute           compute
    refreshing   value   value + refresh   value + refresh   value + refresh   compute
    lazy         value   value + refresh   miss + refresh    miss + refresh    miss + refresh
    peek         value   value             miss              miss              miss

``DUE`` is fresh, but time to compute anew: less than ``async_ttl`` is left, or an early
refresh was drawn. ``KEPT`` is stale for no longer than ``keep`` seconds. *compute* joins
the flight of whoever computes already, and *refresh* starts one behind the caller's back.

``call`` is ``f(...)``; with ``early_refresh`` it is ``early call``, and of a coroutine
function ``awaited``. ``refreshing`` are ``bg``, ``future`` and ``aio``, which say that they
may answer with a stale value. A blocking ``lazy`` has no back to compute behind, and is
``peek``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from tiered.entry import Entry

__all__ = [
    "AWAITED",
    "CALL",
    "EARLY_CALL",
    "LAZY",
    "PEEK",
    "REFRESHING",
    "Action",
    "Row",
    "Verdict",
    "judge",
]


class Verdict(enum.Enum):
    """How good what was found is."""

    FRESH = "fresh"
    DUE = "due"
    KEPT = "kept"
    STALE = "stale"
    ABSENT = "absent"

    @property
    def is_fresh(self) -> bool:
        """Whether the deadline is still ahead."""
        return self in (Verdict.FRESH, Verdict.DUE)


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


def _row(fresh: Action, due: Action, kept: Action, stale: Action, absent: Action) -> Row:
    actions = (fresh, due, kept, stale, absent)
    return MappingProxyType(dict(zip(Verdict, actions, strict=True)))


_VALUE, _BOTH = Action.VALUE, Action.VALUE_AND_REFRESH
_COMPUTE, _MISS, _LATER = Action.COMPUTE, Action.MISS, Action.MISS_AND_REFRESH

CALL: Final = _row(_VALUE, _VALUE, _COMPUTE, _COMPUTE, _COMPUTE)
EARLY_CALL: Final = _row(_VALUE, _BOTH, _COMPUTE, _COMPUTE, _COMPUTE)
AWAITED: Final = _row(_VALUE, _BOTH, _BOTH, _COMPUTE, _COMPUTE)
REFRESHING: Final = _row(_VALUE, _BOTH, _BOTH, _BOTH, _COMPUTE)
LAZY: Final = _row(_VALUE, _BOTH, _LATER, _LATER, _LATER)
PEEK: Final = _row(_VALUE, _VALUE, _MISS, _MISS, _MISS)


def judge(entry: Entry | None, now: float, due_below: float, keep: float = 0.0) -> Verdict:
    """The verdict on *entry* at *now*.

    Args:
        entry: what was found.
        now: on the clock of its deadline.
        due_below: seconds left at which it is due.
        keep: seconds past the deadline for which it is kept.
    """
    if entry is None:
        return Verdict.ABSENT
    left = entry.deadline - now
    if left <= 0:
        return Verdict.KEPT if -left < keep else Verdict.STALE
    return Verdict.DUE if left <= due_below else Verdict.FRESH
