"""Looking through packs: whether they hold what was written, and take what was counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tiered.clients.files.names import LANES, pack_of
from tiered.clients.files.packs.lanes import Cell
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
    lanes = packs.lanes
    counted = lanes.used
    values = size = unreadable = 0
    for lane in range(LANES):
        bad: list[int] = []
        if is_sound is not None:
            sound = {
                found.spot.packed
                for found in packs.records(lane)
                if found.record is not None and is_sound(found.record)
            }
            bad = [packed for packed in packs.spots(lane) if packed not in sound]
        unreadable += len(bad)
        if repair:
            packs.forget(lane, bad)
            size += packs.settle(lane)
            values += packs.count(lane)
        else:
            size += packs.measured(lane)
            values += packs.count(lane) - len(bad)
        if done is not None:
            done(lane + 1)
    left = 0
    for name in packs.files.names():
        known = pack_of(name)
        if known is None:
            continue
        lane, number, is_index = known
        if is_index:
            used = lane < LANES and lanes.get(lane, Cell.INDEX) == number
        else:
            used = lane < LANES and lanes.has(lane, number)
        if not used:
            left += 1
            if repair:
                packs.files.remove(name)
    return Checked(values, size, unreadable, left, size - counted)
