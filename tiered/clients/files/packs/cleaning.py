"""Which packs go, and what of them stays.

A pack goes as a whole. Where one is mostly dead, what lives is moved, and nothing is lost. Else
the oldest of a lane goes; of its values those are moved that were used later than most of the
lane's, up to half a pack of them.
"""

from __future__ import annotations

import random
from typing import Final

import numpy as np
import numpy.typing as npt

from tiered.clients.files.locks import Locks
from tiered.clients.files.names import LANES
from tiered.clients.files.packs.index import lengths_of
from tiered.clients.files.packs.store import Packs

__all__ = ["evict", "tidy"]

_MOSTLY: Final = 0.5
"""The dead share of a pack from which it is worth its while to move what lives."""

_SAMPLE: Final = 1024
"""Values that say what is late."""

_NONE: Final[npt.NDArray[np.intp]] = np.zeros(0, np.intp)


def evict(packs: Packs, locks: Locks) -> int | None:
    """Remove a pack, a full one if there is one; how many values are lost, ``None`` if no
    pack is left."""
    spared = packs.lanes.spared()
    if spared is None:
        return _evict_active(packs, locks)
    if spared[2] >= _MOSTLY:
        tidy(packs, locks)
        return 0
    for lane in random.sample(range(LANES), LANES):
        with locks.lane(lane):
            oldest = packs.lanes.oldest(lane)
            if oldest is not None:
                return packs.keep(lane, oldest, _late(packs, lane, oldest))
    return None


def tidy(packs: Packs, locks: Locks) -> None:
    """Free the room of what is dead in packs where that is most of it."""
    before: tuple[int, int, float] | None = None
    while (spared := packs.lanes.spared()) is not None and spared[2] >= _MOSTLY:
        lane, pack, _ = spared
        if spared == before:
            # It is named, but is not there: what is known of it is damaged.
            with locks.lane(lane):
                packs.settle(lane)
            return
        _tidied(packs, locks, lane, pack)
        before = spared


def _evict_active(packs: Packs, locks: Locks) -> int | None:
    # There is less room than packs take while they are filled: they are of somebody with more.
    for lane in random.sample(range(LANES), LANES):
        with locks.lane(lane):
            pack = packs.close(lane)
            if pack is not None:
                return packs.keep(lane, pack, _NONE)
    return None


def _tidied(packs: Packs, locks: Locks, lane: int, pack: int) -> None:
    with locks.lane(lane):
        index = packs.index(lane)
        packs.keep(lane, pack, _NONE if index is None else index.lying_in(pack))


def _late(packs: Packs, lane: int, pack: int) -> npt.NDArray[np.intp]:
    """The places in a pack that were used later than most in the lane, the latest first: as
    many as take half a pack."""
    index = packs.index(lane)
    if index is None or not len(living := index.living()):
        return _NONE
    inside = index.lying_in(pack)
    if len(living) > _SAMPLE:
        living = np.array(random.sample(living.tolist(), _SAMPLE), np.intp)
    ticks = index.ticks[inside]
    late = ticks > np.median(index.ticks[living])
    places = inside[late][np.argsort(ticks[late])[::-1]]
    sizes = np.cumsum(lengths_of(index.spots[places]))
    return places[: int(np.searchsorted(sizes, packs.lanes.pack // 2, side="right"))]
