"""What is done to a value's file, under the lock of its key, and counted.

A value is written to a file of another name in the same directory, and renamed: readers, who
take no lock, find the old one or the new one, whole. Small values have no files (see ``packs``).
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tiered.clients.files.layout import allocated
from tiered.clients.files.names import Place, is_value, new_name, shard_numbers
from tiered.clients.files.packs.lanes import Cell
from tiered.clients.files.sharing import make_file
from tiered.clients.files.tree import Tree

__all__ = [
    "discard",
    "discard_if",
    "is_apart",
    "is_directory",
    "occupied",
    "open_to_read",
    "opened",
    "write",
]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHANGE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MOST_PIECES: Final = 512
_numbers: Final = itertools.count()


def occupied(shard: int, file: str) -> int:
    """What the file of this name takes; 0 if there is none."""
    try:
        status = os.stat(file, dir_fd=shard, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return allocated(status.st_size) if stat.S_ISREG(status.st_mode) else 0


def open_to_read(tree: Tree, place: Place) -> int:
    """The value's file, for who closes it himself. Raises as :func:`opened`."""
    return os.open(place.file, _READ, dir_fd=tree.shard(place.shard))


@contextmanager
def opened(tree: Tree, place: Place, *, change: bool = False) -> Iterator[int]:
    """The value's file. Raises ``FileNotFoundError``, or another ``OSError``."""
    flags = _CHANGE if change else _READ
    descriptor = os.open(place.file, flags, dir_fd=tree.shard(place.shard))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write(
    tree: Tree,
    place: Place,
    parts: Sequence[bytes | memoryview],
    *,
    room: Callable[[], bool],
    allows: Callable[[], bool],
    now: float,
    sync: bool = False,
) -> bool:
    """Make a file of *parts* the value; whether it did.

    Args:
        room: makes room for what is reserved, and says whether there is.
        allows: is asked under the key's lock; what it does there is in one step with the write.
        now: the time, in the terms of files.
        sync: wait until it is on the disk.
    """
    counts, size = tree.counts, allocated(sum(map(len, parts)))
    lane, pending, renamed = tree.lanes.of(place), True, False
    counts.begin(size)
    try:
        if not room():
            return False
        shard = tree.shard_to_write(place.shard)
        name = new_name(counts.owner, next(_numbers))
        try:
            _write_file(shard, name, parts, tree.mode, sync)
            with tree.locks.key(place):
                if not tree.is_current:
                    raise FileNotFoundError("the directory was made anew")
                if not allows():
                    return False
                with tree.packs.leaving(place):
                    before = occupied(shard, place.file)
                    if not before:
                        tree.lanes.add(lane, Cell.FILES, 1)  # first, so that it is never too few
                    renamed = True
                    os.rename(name, place.file, src_dir_fd=shard, dst_dir_fd=shard)
                # Under the lock still: who has all locks finds the files as they are counted.
                name, pending = "", False
                counts.end(size, size - before, now)
        finally:
            if name and _unlink(shard, name):
                renamed = False
    finally:
        if pending:
            # It may have been done though it raised: an answer was lost, or a handler came in.
            counts.end(size, size if renamed else 0, now)
            if renamed:
                counts.doubt()
    counts.touch(place.stamp)
    if sync:
        os.fsync(shard)
    return True


def is_apart(tree: Tree, place: Place) -> bool:
    """Whether the value has a file. The key's lock is held."""
    if not tree.lanes.get(tree.lanes.of(place), Cell.FILES):
        return False
    try:
        return not is_directory(tree.shard(place.shard), place.file)
    except FileNotFoundError:
        return False


def is_directory(shard: int, file: str) -> bool:
    """Whether there is a directory where a value's file should be: it is not ours, and is left
    alone. Raises ``FileNotFoundError`` if there is nothing."""
    return stat.S_ISDIR(os.stat(file, dir_fd=shard, follow_symlinks=False).st_mode)


def discard(tree: Tree, place: Place, now: float, *, sync: bool = False) -> bool:
    """Remove the value's file; whether there was one. The key's lock is held."""
    if not tree.lanes.get(lane := tree.lanes.of(place), Cell.FILES):
        return False
    try:
        shard = tree.shard(place.shard)
    except FileNotFoundError:
        return False
    counts, change, whole = tree.counts, 0, False
    counts.begin(0)
    try:
        size = occupied(shard, place.file)
        if not _unlink(shard, place.file):
            whole = True
            return False
        change, whole = -size, True
        _uncount(tree, lane)
        if sync:
            os.fsync(shard)
    finally:
        counts.end(0, change, now)
        if not whole:
            counts.doubt()
    return True


def _uncount(tree: Tree, lane: int) -> None:
    """There is one file less in *lane*. If that was the last one, none is left in truth.

    What others have put there was never counted: what is there, and is counted by nobody, would
    be missed, could not be removed, and would be there again with the next file.
    """
    left = tree.lanes.get(lane, Cell.FILES) - 1
    if left <= 0:
        left = sum(_count(tree, shard) for shard in shard_numbers(lane))
    tree.lanes.set(lane, Cell.FILES, left)


def _count(tree: Tree, shard: int) -> int:
    try:
        return sum(map(is_value, os.listdir(tree.shard(shard))))
    except FileNotFoundError:
        return 0


def discard_if(tree: Tree, place: Place, now: float, allows: Callable[[int], bool]) -> bool:
    """The same, if *allows* says so of the open file; takes the lock."""
    with tree.locks.key(place):
        try:
            with opened(tree, place) as descriptor:
                if not allows(descriptor):
                    return False
        except FileNotFoundError:
            return False
        return discard(tree, place, now)


def _write_file(
    shard: int, name: str, parts: Sequence[bytes | memoryview], mode: int, sync: bool
) -> None:
    descriptor = make_file(shard, name, mode)
    try:
        pending = [memoryview(part).cast("B") for part in parts if len(part)]
        while pending:
            written = os.writev(descriptor, pending[:_MOST_PIECES])
            while pending and written >= len(pending[0]):
                written -= len(pending.pop(0))
            if written:
                pending[0] = pending[0][written:]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(shard: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=shard)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True
