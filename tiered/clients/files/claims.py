"""Claims for the processes of a host: a small file beside the value tells who computes it.

It names the process by its slot (see ``counts``), which the kernel frees when that one ends,
so the claim of who was killed is over at once. All is done under the key's lock, and whatever
changes the value removes the file: who was computing meanwhile does not find his token, and
loses the write. No clock and no count of versions is needed for that.

::

    offset  size  field
         0     8  token
         8     8  end, in the time of files, float64
        16     8  owner
        24     4  the owner's slot
        28     8  digest of the above
"""

from __future__ import annotations

import os
import secrets
import struct
from hashlib import blake2b
from typing import Final, NamedTuple

from tiered.clients.files.names import Place
from tiered.clients.files.packs.lanes import Cell
from tiered.clients.files.sharing import share
from tiered.clients.files.tree import Tree

__all__ = ["Mark", "Ticket", "drop", "held", "read", "take"]

_MARK: Final = struct.Struct(">QdQI")
_DIGEST: Final = 8
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Mark(NamedTuple):
    """What a claim's file says."""

    token: int
    ends: float
    owner: int
    slot: int


class Ticket(NamedTuple):
    """What the holder of a claim knows it by.

    Attributes:
        name: the canonical name of the key.
        mark: in the file, while the claim holds.
    """

    name: bytes
    mark: Mark


def read(tree: Tree, place: Place) -> Mark | None:
    """The mark on a key, whosoever it is; ``None`` if there is none that can be read."""
    if not tree.lanes.get(tree.lanes.of(place), Cell.CLAIMS):
        return None
    try:
        descriptor = os.open(place.claim, _READ, dir_fd=tree.shard(place.shard))
    except FileNotFoundError:
        return None
    try:
        data = os.pread(descriptor, _MARK.size + _DIGEST + 1, 0)
    finally:
        os.close(descriptor)
    if len(data) != _MARK.size + _DIGEST or _digest(data[: _MARK.size]) != data[_MARK.size :]:
        return None  # who wrote it was killed at it, or somebody else did
    return Mark(*_MARK.unpack_from(data))


def is_over(tree: Tree, mark: Mark, now: float) -> bool:
    """Whether nobody computes under this mark any more."""
    return mark.ends <= now or not tree.counts.is_alive(mark.owner, mark.slot)


def take(tree: Tree, place: Place, now: float, ttl: float) -> Mark | None:
    """A mark of ours on a key, or ``None`` while somebody has one."""
    tree.shard_to_write(place.shard)
    present = read(tree, place)
    if present is not None and not is_over(tree, present, now):
        return None  # most of those who ask; they need no lock
    with tree.locks.key(place):
        present = read(tree, place)
        if present is not None and not is_over(tree, present, now):
            return None
        counts = tree.counts
        mark = Mark(secrets.randbits(63), now + ttl, counts.owner, counts.slot)
        if present is None:
            tree.lanes.add(tree.lanes.of(place), Cell.CLAIMS, 1)  # never too few
        _write(tree, place, mark, new=present is None)
        return mark


def held(tree: Tree, place: Place, mark: Mark, now: float) -> bool:
    """Whether *mark* is on the key and good. The key's lock is held."""
    # A child of ours is another owner: the claim is not its own.
    return mark.owner == tree.counts.owner and mark.ends > now and read(tree, place) == mark


def drop(tree: Tree, place: Place) -> bool:
    """End whatever claim is on the key, whose lock is held; whether there was one."""
    if not tree.lanes.get(lane := tree.lanes.of(place), Cell.CLAIMS):
        return False
    try:
        os.unlink(place.claim, dir_fd=tree.shard(place.shard))
    except FileNotFoundError:
        return False
    tree.lanes.set(lane, Cell.CLAIMS, max(tree.lanes.get(lane, Cell.CLAIMS) - 1, 0))
    return True


def _write(tree: Tree, place: Place, mark: Mark, *, new: bool) -> None:
    data = _MARK.pack(*mark)
    descriptor = os.open(place.claim, _WRITE, tree.mode, dir_fd=tree.shard(place.shard))
    try:
        if new:
            share(descriptor, tree.mode)
        os.pwrite(descriptor, data + _digest(data), 0)
    finally:
        os.close(descriptor)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()
