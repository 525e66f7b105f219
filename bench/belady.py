"""Belady's optimum: the hits of a cache that knows the future."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

__all__ = ["belady_hits", "next_uses"]


def next_uses(keys: Sequence[int]) -> list[int]:
    """For each access, the index of the next one to its key.

    For the last one to a key it is ``len(keys)`` and its own index: beyond the end, and
    different for each.
    """
    array = np.asarray(keys)
    # Stable, so that the accesses to one key lie side by side and in order.
    order = np.argsort(array, kind="stable")
    sorted_keys = array[order]
    following = np.arange(len(array)) + len(array)
    same = sorted_keys[1:] == sorted_keys[:-1]
    following[order[:-1][same]] = order[1:][same]
    found: list[int] = following.tolist()
    return found


def belady_hits(keys: Sequence[int], size: int, following: Sequence[int] | None = None) -> int:
    """Hits with room for *size*: what makes room is what is used again last, or never.

    What was just asked for is always kept, as by the caches beside it.

    Args:
        following: the next uses, if they are known already.
    """
    if size <= 0:
        return 0
    count = len(keys)
    if following is None:
        following = next_uses(keys)
    held: set[int] = set()
    # Next uses of what is held, negated for a heap that gives the last one first. Uses that
    # have passed stay in it; they are smaller than all others, so they are never on top.
    uses: list[int] = []
    hits = 0
    for key, following_use in zip(keys, following, strict=True):
        if key in held:
            hits += 1
        else:
            if len(held) == size:
                farthest = -heappop(uses)
                held.remove(keys[farthest if farthest < count else farthest - count])
            held.add(key)
        heappush(uses, -following_use)
    return hits
