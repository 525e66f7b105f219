"""What was found for a call, and what each mode does about it: the one table.

::

    mode    FRESH   DUE     STALE     ABSENT
    call    value   value   compute   compute
    peek    value   value   miss      miss
    lazy    value   value   miss      miss
    refresh compute compute compute   compute

``DUE`` is fresh with less than ``async_ttl`` left: time to compute anew, while
the value still serves. The modes that refresh behind the caller's back add rows,
not branches.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from tiered.entry import Entry

__all__ = ["CALL", "LAZY", "PEEK", "REFRESH", "Action", "Row", "Verdict", "judge"]


class Verdict(enum.Enum):
    """How good what was found is."""

    FRESH = "fresh"
    DUE = "due"
    STALE = "stale"
    ABSENT = "absent"


class Action(enum.Enum):
    """What to do for the caller."""

    VALUE = "return the value"
    COMPUTE = "compute, store and return"
    MISS = "raise CacheMissError"


Row: TypeAlias = Mapping[Verdict, Action]


def _row(fresh: Action, due: Action, stale: Action, absent: Action) -> Row:
    return MappingProxyType(dict(zip(Verdict, (fresh, due, stale, absent), strict=True)))


CALL: Final = _row(Action.VALUE, Action.VALUE, Action.COMPUTE, Action.COMPUTE)
PEEK: Final = _row(Action.VALUE, Action.VALUE, Action.MISS, Action.MISS)
LAZY: Final = PEEK
"""Blocking, ``lazy`` has nowhere to compute behind the caller, so it is ``peek``."""
REFRESH: Final = _row(Action.COMPUTE, Action.COMPUTE, Action.COMPUTE, Action.COMPUTE)


def judge(entry: Entry | None, now: float, due_below: float) -> Verdict:
    """The verdict on *entry* at *now*; with *due_below* seconds left or fewer it is due."""
    if entry is None:
        return Verdict.ABSENT
    left = entry.deadline - now
    if left <= 0:
        return Verdict.STALE
    return Verdict.DUE if left <= due_below else Verdict.FRESH
