"""Making room: of some values, taken at random, those go that were not used for the longest."""

from __future__ import annotations

import random
from typing import Final

from tiered.clients.files import entries
from tiered.clients.files.names import Place
from tiered.clients.files.packs.cleaning import evict
from tiered.clients.files.scan import scan, shards_of, values_in
from tiered.clients.files.tree import Tree
from tiered.clock import SYSTEM_CLOCK

__all__ = ["Evictor"]

_SLACK: Final = 1.05
"""How far what is in use may go past the capacity, as a share of it."""

_SPARE: Final = 50
"""Once it is full, a share of 1 / this is freed at a time, so that not each write has to."""

_POOL: Final = 128
"""Values to choose from, at least, if there are so many."""

_LEAVE: Final = 8
"""A share of 1 / this of them leave."""

_ATTEMPTS: Final = 200
_PAUSE: Final = 0.01
"""To get the right to purge, where there must be room before anything can be written."""


class Evictor:
    """Keeps a directory within its bound.

    Args:
        capacity: bytes.

    Attributes:
        evicted: values that were removed by this object.

    Threads: safe. One process and thread at a time evicts.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.evicted = 0

    def make_room(self, tree: Tree, now: float) -> bool:
        """Whether all that is planned can be written without going too far past the capacity."""
        tree.counts.bound(self._capacity)
        if tree.planned <= self._capacity:
            return True
        with tree.locks.purging(wait=False) as ours:
            if ours:
                self._evict(tree, now)
        for _ in range(_ATTEMPTS):
            if tree.planned <= self._capacity * _SLACK:
                return True
            with tree.locks.purging() as ours:
                before = tree.planned
                self._evict(tree, now)
            if tree.planned >= before:
                # What is there is being written by others, who will be done in a moment.
                SYSTEM_CLOCK.sleep(_PAUSE)
        return False

    def _evict(self, tree: Tree, now: float) -> None:
        """Remove values until there is room to spare; the right to purge is ours."""
        counts = tree.counts
        target = self._capacity - self._capacity // _SPARE
        if tree.planned <= self._capacity:
            return  # another one has been at it
        counts.bury()
        if counts.doubtful:
            scan(tree, now)
        scanned = False
        while tree.planned > target:
            if self._evict_some(tree, now, target):
                continue
            if scanned:
                return
            scan(tree, now)
            scanned = True

    def _evict_some(self, tree: Tree, now: float, target: int) -> bool:
        """Remove some values; whether there were any that could go."""
        packed, apart = tree.lanes.used, tree.counts.used
        # Of each kind as much as there is of it.
        if random.random() * (packed + apart) < packed:  # noqa: S311
            return self._evict_pack(tree) or self._evict_files(tree, now, target)
        return self._evict_files(tree, now, target) or self._evict_pack(tree)

    def _evict_pack(self, tree: Tree) -> bool:
        evicted = evict(tree.packs, tree.locks)
        self.evicted += evicted or 0
        return evicted is not None

    def _evict_files(self, tree: Tree, now: float, target: int) -> bool:
        counts, pool = tree.counts, self._pool(tree)
        pool.sort(key=lambda place: counts.last_used(place.stamp))
        evicted = 0
        for place in pool[: max(1, len(pool) // _LEAVE)]:
            with tree.locks.key(place):
                evicted += entries.discard(tree, place, now)
            if tree.planned <= target:
                break
        self.evicted += evicted
        return evicted > 0

    @staticmethod
    def _pool(tree: Tree) -> list[Place]:
        """Some values, from as many shards as it takes."""
        pool: list[Place] = []
        shards = [shard for _, shard in shards_of(tree)]
        random.shuffle(shards)
        for shard in shards:
            files = values_in(shard)
            share = max(_POOL, len(files) // 16)
            chosen = files if len(files) <= share else random.sample(files, share)
            pool += map(Place.at, chosen)
            if len(pool) >= _POOL:
                break
        return pool
