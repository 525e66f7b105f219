"""The front door: what a decorated function runs on a hit, and nothing else.

Key, lookup, deadline, count, value: one Python frame, generated for the function's
own signature and for what its client can do. Whatever is not a hit in the nearest
tier (a miss, something stale, a key that cannot be hashed) goes to *settle*.

The count is a closure variable: ``+= 1`` on it is not interrupted under the GIL
(see :class:`tiered.stats.counters.Counters`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tiered.clients.namespace import NamespaceWrapper
from tiered.keys.call import CallShape

__all__ = ["FrontDoor", "front_door"]

Settle = Callable[..., Any]

_HIT: Final = """\
nonlocal _tiered_hits
try:
    _tiered_entry = _tiered_lookup((_tiered_space.prefix, {key}))
    if _tiered_entry is not None and _tiered_entry.deadline > _tiered_now(){horizon}:
{note}\
        _tiered_hits += 1
        return _tiered_entry.value
except Exception:
    pass  # a key that cannot be made or hashed, a failing client, an entry just evicted: settle it
"""

_SETTLE: Final = "return _tiered_settle({args}, {kwargs})"

_PREAMBLE: Final = """\
_tiered_hits = 0
def _tiered_count():
    return _tiered_hits
_tiered_expose(_tiered_count)
"""


class FrontDoor(NamedTuple):
    """*call* has the signature of the decorated function; *hits* tells how often it hit."""

    call: Callable[..., Any]
    hits: Callable[[], int]


def front_door(
    shape: CallShape, space: NamespaceWrapper, settle: Callable[[tuple[Any, ...], Any], Any]
) -> FrontDoor:
    """The front door of a function with the calls *shape*, cached in *space*.

    Args:
        shape: from the decorated function.
        space: the namespaced client.
        settle: ``settle(args, kwargs)`` answers every call that is not a hit.
    """
    path = space.client.hot_path()
    body = _SETTLE.format(args=shape.args, kwargs=shape.kwargs)
    scope: dict[str, Any] = {"_tiered_settle": settle}
    if path is None:
        return FrontDoor(shape.build(body, scope), int)
    # A private client's namespace changes at once for all who use it; only where a
    # server has the last word must the revision be confirmed from time to time.
    shared = space.client.capabilities.shared
    hit = _HIT.format(
        key=shape.key,
        horizon=" < _tiered_space.horizon" if shared else "",
        note="        _tiered_note(_tiered_entry.place)\n" if path.note else "",
    )
    counts: list[Callable[[], int]] = []
    scope |= {
        "_tiered_space": space.state,
        "_tiered_lookup": path.lookup,
        "_tiered_note": path.note,
        "_tiered_now": space.clock.monotonic,
        "_tiered_expose": counts.append,
    }
    call = shape.build(hit + body, scope, preamble=_PREAMBLE)
    return FrontDoor(call, counts[0])
