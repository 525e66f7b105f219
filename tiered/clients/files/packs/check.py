"""Looking through packs: whether they hold what was written, and take what was counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tiered.clients.files.names import LANES
from tiered.clients.files.packs.records import Record
from tiered.clients.files.packs.store import Packs

__all__ = ["Checked", "check"]


class Checked(NamedTuple):
    """What was found.

    Attributes:
        values: that are there.
        size: bytes of packs and indexes.
        unreadable: values that are not what was written.
        left: files that belong to nothing any more.
        drift: bytes by which what was counted was too little, or, below 0, too much.
    """

    values: int
    size: int
    unreadable: int
    left: int
    drift: int


def check(
    packs: Packs,
    is_sound: Callable[[Record], bool] | None,
    *,
    repair: bool,
    done: Callable[[int], object] | None = None,
) -> Checked:
    """Look through all packs; all locks are held.

    Args:
        is_sound: whether a record is what was written; nothing is read if it is ``None``.
        repair: put right what is wrong.
        done: is called with the number of lanes that were looked through, after each.
    """
    packs.look_again()
    counted, names = packs.lanes.used, set(packs.files.names())
    values = size = measured = unreadable = left = 0
    for lane in range(LANES):
        left += len(packs.strays(lane, names))
        lost = packs.is_lost(lane)
        unreadable += lost
        if lost and repair:
            packs.clear(lane)
        if repair or not lost:
            taken = packs.measured(lane)
            measured += taken
            bad = [] if is_sound is None else _unsound(packs, lane, is_sound)
            unreadable += len(bad)
            if repair:
                packs.forget(lane, bad)
                taken, bad = packs.settle(lane), []
            size += taken
            values += packs.count(lane) - len(bad)
        if done is not None:
            done(lane + 1)
    return Checked(values, size, unreadable, left, measured - counted)


def _unsound(packs: Packs, lane: int, is_sound: Callable[[Record], bool]) -> list[int]:
    """Where a lane has values that are not what was written, or are not found by their keys."""
    sound = {
        found.spot.packed
        for found in packs.records(lane)
        if found.record is not None and is_sound(found.record) and packs.holds(lane, found)
    }
    return [packed for packed in packs.spots(lane) if packed not in sound]
