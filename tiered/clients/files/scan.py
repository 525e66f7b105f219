"""Counting a directory's files, and putting right what processes that were killed have left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from tiered.clients.files import claims, entries, names
from tiered.clients.files.layout import expires_in, peeked
from tiered.clients.files.names import LANE_BITS, LANES, SHARDS, Place
from tiered.clients.files.packs.check import check
from tiered.clients.files.packs.cleaning import tidy
from tiered.clients.files.packs.lanes import Cell
from tiered.clients.files.packs.records import Record
from tiered.clients.files.tree import Tree

__all__ = ["Findings", "Progress", "cleared", "listed", "scan", "shards_of", "swept", "values_in"]

Progress: TypeAlias = Callable[[int, int], object]
"""``progress(done, all)``, of parts of the directory."""

_PARTS: Final = SHARDS + LANES


@dataclass(frozen=True, slots=True)
class Findings:
    """What a scan has found.

    Attributes:
        values: how many there are.
        size: bytes that they take.
        unfinished: files that were being written by processes that ended at it.
        claims: that nobody holds any more.
        unreadable: values that are not what was written, if that was looked for.
        drift: bytes by which what was counted was too little, or, below 0, too much.
    """

    values: int = 0
    size: int = 0
    unfinished: int = 0
    claims: int = 0
    unreadable: int = 0
    drift: int = 0

    @property
    def clean(self) -> bool:
        """Whether there was nothing to put right."""
        return not (self.unfinished or self.unreadable or self.drift)


def scan(
    tree: Tree,
    now: float,
    *,
    repair: bool = True,
    is_sound: Callable[[Place], bool] | None = None,
    is_sound_record: Callable[[Record], bool] | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Count all files, and remove what nobody needs. The right to purge is the caller's.

    Nobody can write meanwhile, so that the count is exact; readers do not notice.

    Args:
        repair: put right what is wrong.
        is_sound, is_sound_record: whether a value in a file of its own, or in a pack, is what
            was written; nothing is read where it is ``None``.
    """
    counts = tree.counts
    counts.bury()
    tally = _Tally(tree, now, repair, is_sound)
    with tree.locks.everything():
        for number in range(SHARDS):
            tally.count_shard(number)
            if progress is not None:
                progress(number + 1, _PARTS)
        drift = tally.size - counts.used
        if repair:
            tally.tell_lanes()
            counts.correct(drift)
            counts.trust()
        done = None if progress is None else partial(_told, progress)
        packed = check(tree.packs, is_sound_record, repair=repair, done=done)
    return Findings(
        tally.values + packed.values,
        tally.size + packed.size,
        tally.unfinished + packed.left,
        tally.claims,
        tally.unreadable + packed.unreadable,
        drift + packed.drift,
    )


def _told(progress: Progress, lanes: int) -> None:
    progress(SHARDS + lanes, _PARTS)


class _Tally:
    """What a scan has come across so far."""

    def __init__(
        self, tree: Tree, now: float, repair: bool, is_sound: Callable[[Place], bool] | None
    ) -> None:
        self.values = self.size = self.unfinished = self.claims = self.unreadable = 0
        self._lanes = [(0, 0)] * LANES
        self._tree = tree
        self._now = now
        self._repair = repair
        self._is_sound = is_sound

    def count_shard(self, number: int) -> None:
        try:
            shard = self._tree.shard(number)
        except FileNotFoundError:
            return
        before, claims_left = self.values, 0
        for file in listed(shard):
            if names.is_claim(file):
                claims_left += self._count_claim(shard, file)
            else:
                self._count(shard, file)
        lane = number >> LANE_BITS
        files_so_far, claims_so_far = self._lanes[lane]
        self._lanes[lane] = files_so_far + self.values - before, claims_so_far + claims_left

    def tell_lanes(self) -> None:
        """Let it be known how many files there are: see ``packs.lanes``."""
        for lane, (files, claims_left) in enumerate(self._lanes):
            self._tree.lanes.set(lane, Cell.FILES, files)
            self._tree.lanes.set(lane, Cell.CLAIMS, claims_left)

    def _count_claim(self, shard: int, file: str) -> bool:
        """Whether it is there still."""
        mark = _mark(self._tree, file)
        if mark is None or claims.is_over(self._tree, mark, self._now):
            self.claims += 1
            return not self._removed(shard, file)
        return True

    def _count(self, shard: int, file: str) -> None:
        if names.is_value(file):
            size = entries.occupied(shard, file)
            if not size and entries.is_directory(shard, file):
                if self._repair:
                    with suppress(OSError):  # it is not empty, and stays
                        os.rmdir(file, dir_fd=shard)
                return
            if self._is_sound is not None and not self._is_sound(Place.at(file)):
                self.unreadable += 1
                if self._removed(shard, file):
                    return
            self.values += 1
            self.size += size
        elif (owner := names.owner_of(file)) is not None and not self._tree.counts.is_alive(owner):
            self.unfinished += 1
            self._removed(shard, file)

    def _removed(self, shard: int, file: str) -> bool:
        return self._repair and _remove(shard, file)


def cleared(tree: Tree, now: float, progress: Progress | None = None) -> int:
    """Remove all values, and end all claims; how many values there were."""
    tell = _ignored if progress is None else progress
    removed = 0
    for lane in range(LANES):
        # In one step: what was computed before does not come after it.
        with tree.locks.lane(lane):
            removed += tree.packs.clear(lane)
            for number in names.shard_numbers(lane):
                removed += _cleared_shard(tree, number, now)
        tell(lane + 1, LANES)
    return removed


def _cleared_shard(tree: Tree, number: int, now: float) -> int:
    try:
        shard = tree.shard(number)
    except FileNotFoundError:
        return 0
    removed = 0
    for file in listed(shard):
        if names.is_claim(file):
            claims.drop(tree, Place.at(file))
        elif names.is_value(file):
            removed += entries.discard(tree, Place.at(file), now)
    return removed


def swept(tree: Tree, now: float, before: float, progress: Progress | None = None) -> int:
    """Remove the values with a deadline before *before*, a monotonic time; how many."""
    tell = _ignored if progress is None else progress
    limit = before + tree.counts.base

    def is_due(descriptor: int) -> bool:
        told = peeked(descriptor)
        return told is not None and told.expires < limit

    removed = _swept_packs(tree, limit, tell)
    for number, shard in shards_of(tree):
        tell(LANES + number, _PARTS)
        for file in values_in(shard):
            place = Place.at(file)
            try:
                with entries.opened(tree, place) as descriptor:
                    due = is_due(descriptor)
                if due:
                    removed += entries.discard_if(tree, place, now, is_due)
            except OSError:
                continue  # it is gone, or no file; a scan finds what should not be there
    tell(_PARTS, _PARTS)
    return removed


def _swept_packs(tree: Tree, limit: float, tell: Progress) -> int:
    packs, removed = tree.packs, 0

    def due(lane: int) -> list[int]:
        return [
            spot.packed
            for spot, record in packs.records(lane)
            if record is not None and expires_in(record.envelope) < limit
        ]

    for lane in range(LANES):
        if due(lane):
            with tree.locks.lane(lane):
                removed += packs.forget(lane, due(lane))  # some may have been renewed
        tell(lane + 1, _PARTS)
    tidy(packs, tree.locks)
    return removed


def shards_of(tree: Tree) -> Iterator[tuple[int, int]]:
    """The number and the open directory of each shard that there is."""
    for number in range(SHARDS):
        try:
            yield number, tree.shard(number)
        except FileNotFoundError:
            continue


def values_in(shard: int) -> list[str]:
    """The names of the values in an open shard."""
    return [file for file in listed(shard) if names.is_value(file)]


def listed(shard: int) -> list[str]:
    """The names of all files in an open shard."""
    try:
        return os.listdir(shard)
    except FileNotFoundError:
        return []


def _ignored(done: int, every: int) -> None:
    """Nobody wants to know."""


def _mark(tree: Tree, file: str) -> claims.Mark | None:
    try:
        return claims.read(tree, Place.at(file))
    except OSError:
        return None  # a link, or something else that is no claim of ours


def _remove(shard: int, file: str) -> bool:
    try:
        os.unlink(file, dir_fd=shard)
    except OSError:
        return False  # it is gone, or is a directory, and not ours
    return True
