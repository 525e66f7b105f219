"""The front door: what a decorated function runs on a hit, and nothing else.

Key, lookup, deadline, count, value. Over a compiled store the door is compiled too
(``tiered/compiled/door.pxi``); otherwise it is one Python frame, generated for the function's
own signature and for what its client can do. Whatever is not a hit in the nearest
tier (a miss, something stale or due, a key that cannot be hashed) goes to *settle*.

The count is a closure variable: ``+= 1`` on it is not interrupted under the GIL
(see :class:`tiered.stats.counters.Counters`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tiered.acceleration import core
from tiered.clients.namespace import unwrapped
from tiered.decorators.space import Space
from tiered.decorators.terms import Terms
from tiered.keys.call import CallShape

__all__ = ["FrontDoor", "front_door"]

Settle = Callable[[tuple[Any, ...], dict[str, Any]], Any]

_HIT: Final = """\
nonlocal _tiered_hits
try:
    _tiered_entry = _tiered_lookup({key}){believed}
    if _tiered_entry is not None and _tiered_entry.deadline{ahead} > {now}{leased}:
{note}\
        _tiered_hits += 1
        return _tiered_entry.value
except Exception:
    pass  # a key that cannot be made or hashed, a failing client, an entry just evicted: settle it
"""

_NOTE: Final = "        _tiered_note(_tiered_entry.place)\n"
_COUNT: Final = "        _tiered_entry.uses += 1\n"

_SETTLE: Final = "return {wait}_tiered_settle({args}, {kwargs})"

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
    shape: CallShape,
    space: Space,
    settle: Settle,
    *,
    coroutine: bool = False,
    ahead: Terms | None = None,
) -> FrontDoor:
    """The front door of a function with the calls *shape*, cached in *space*.

    Args:
        shape: from the decorated function.
        space: its clients.
        settle: ``settle(args, kwargs)`` answers every call that is not a hit.
        coroutine: make a coroutine function, and await what *settle* returns.
        ahead: of what is due for a refresh on these terms, *settle* is told; ``None`` if
            the mode does not refresh.
    """
    # Namespaces are looked through, the nearest to the function first.
    client, states = unwrapped(space.client)
    path = client.hot_path()
    # A private client's namespace changes at once for all who use it; only where a
    # server has the last word must the revision be confirmed from time to time.
    confirmed = any(state.shared for state in states)
    if ahead is not None and not ahead.looks_ahead:
        ahead = None
    now = client.clock.monotonic
    if path is not None and path.store is not None:
        # What a door does not need is not generated: that is most of what decorating costs.
        plain = shape.plain
        if plain is not None and len(plain.names) > core.most_parameters:
            plain = None
        door = core.Door(
            path,
            plain,
            None if plain else shape.keymaker(),
            shape.checker() if coroutine else None,
            settle,
            now,
            states[-1] if states else None,
            states[:-1],
            confirmed,
            ahead.horizon if ahead and ahead.is_steady else 0.0,
            None if ahead and ahead.is_steady else ahead,
            coroutine,
        )
        door.__name__, door.__qualname__ = shape.name, shape.qualname
        return FrontDoor(door, lambda: door.hits)
    body = _SETTLE.format(args=shape.args, kwargs=shape.kwargs, wait="await " if coroutine else "")
    scope: dict[str, Any] = {"_tiered_settle": settle}
    if path is None:
        return FrontDoor(shape.build(body, scope, coroutine=coroutine), int)
    # In this order: a prefix that is read while it is not believed may be an old one.
    key = shape.key
    horizons: list[str] = []
    for number, state in enumerate(states):
        key = f"(_tiered_space{number}.prefix, {key})"
        scope[f"_tiered_space{number}"] = state
        if confirmed:
            moment = "_tiered_moment" if horizons else "(_tiered_moment := _tiered_now())"
            horizons.append(f"{moment} < _tiered_space{number}.horizon")
    hit = _HIT.format(
        key=key,
        believed=f" if {' and '.join(horizons)} else None" if confirmed else "",
        ahead="" if ahead is None else " - _tiered_terms.horizon",
        now="_tiered_moment" if confirmed else "_tiered_now()",
        leased="" if path.lease is None else " < _tiered_lease.horizon",
        note=_COUNT if path.counts else _NOTE if path.note else "",
    )
    counts: list[Callable[[], int]] = []
    scope |= {
        "_tiered_terms": ahead,
        "_tiered_lookup": path.lookup,
        "_tiered_note": path.note,
        "_tiered_lease": path.lease,
        "_tiered_now": now,
        "_tiered_expose": counts.append,
    }
    call = shape.build(hit + body, scope, preamble=_PREAMBLE, coroutine=coroutine)
    return FrontDoor(call, counts[0])
