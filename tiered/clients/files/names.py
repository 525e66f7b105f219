"""Where a key's files lie, and what each kind of file is called.

::

    PATH/
        locks            locked in ranges, always empty (see ``locks``)
        counts           shared memory: bytes in use, times of access (see ``counts``)
        lanes            shared memory: which packs there are (see ``packs.lanes``)
        packs/
            <2 hex digits>-<16 hex digits>         small values of a lane (see ``packs.records``)
            <2 hex digits>-<16 hex digits>.index   where they lie (see ``packs.index``)
        00/ ... 3f/      shards
            <40 hex digits>              a value (see ``layout``)
            <40 hex digits>.claim        who computes it (see ``claims``)
            new-<16 hex digits>-<n>      a value that is being written, by the owner named

Nothing else in the directory is ever looked at, or removed.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple

__all__ = [
    "COUNTS",
    "LANES",
    "LANES_FILE",
    "LANE_BITS",
    "LOCKS",
    "PACKS",
    "SHARDS",
    "Place",
    "index_name",
    "is_claim",
    "is_value",
    "new_name",
    "owner_of",
    "pack_name",
    "pack_of",
    "shard_name",
    "shard_numbers",
]

SHARDS: Final = 64
"""Directories that values are spread over: each has a lock of its own in the kernel."""

LANES: Final = 16
"""Parts of a directory that are written to independently of each other; some shards each."""

LANE_BITS: Final = 2
"""Of a shard's number that its lane's has not."""

LOCKS: Final = "locks"
COUNTS: Final = "counts"
LANES_FILE: Final = "lanes"
PACKS: Final = "packs"

SHARD_BITS: Final = 6

_VALUE: Final = re.compile(r"[0-9a-f]{40}")
_CLAIM: Final = re.compile(r"[0-9a-f]{40}\.claim")
_PACK: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{16})(\.index)?")
_NEW: Final = re.compile(r"new-([0-9a-f]{16})-[0-9]+")

_new: Final = tuple.__new__


class Place(NamedTuple):
    """Where the files of one key lie.

    Attributes:
        shard: 0 to 63.
        file: the name of the value's file in the shard.
        stamp: a number that spreads keys over a table.
        tag: what the key is known by in an index of small values.
    """

    shard: int
    file: str
    stamp: int
    tag: int

    @property
    def claim(self) -> str:
        """The name of the claim's file."""
        return self.file + ".claim"

    @property
    def path(self) -> str:
        """Of the value's file, in the directory."""
        return f"{shard_name(self.shard)}/{self.file}"

    @classmethod
    def of(cls, name: bytes) -> Place:
        """The place of the key with the canonical *name*."""
        return cls._at(blake2b(name, digest_size=20).digest())

    @classmethod
    def at(cls, file: str) -> Place:
        """The place that the file of a value, or of a claim, tells by its name."""
        return cls._at(bytes.fromhex(file[:40]))

    @classmethod
    def called(cls, name: bytes) -> Place:
        """The place of the key that the coherence bus calls *name*: by its canonical bytes, or
        by ``#`` and their digest."""
        if name[:1] == b"#":
            return cls._at(name[1:21].ljust(20, b"\0"))
        return cls.of(b"\0" + name)

    @classmethod
    def _at(cls, digest: bytes) -> Place:
        tag = int.from_bytes(digest[8:16], "big") | 1
        shard = digest[0] >> 8 - SHARD_BITS
        return _new(cls, (shard, digest.hex(), int.from_bytes(digest[16:], "big"), tag))


def shard_numbers(lane: int) -> range:
    """The shards that a lane has."""
    return range(lane << LANE_BITS, lane + 1 << LANE_BITS)


def shard_name(shard: int) -> str:
    """The name of a shard's directory."""
    return f"{shard:02x}"


def is_value(name: str) -> bool:
    """Whether a file of this name is a value."""
    return _VALUE.fullmatch(name) is not None


def is_claim(name: str) -> bool:
    """Whether a file of this name is a claim."""
    return _CLAIM.fullmatch(name) is not None


def pack_name(lane: int, number: int) -> str:
    """The name of the pack of a lane with this number."""
    return f"{lane:02x}-{number:016x}"


def index_name(lane: int, number: int) -> str:
    """The name of a lane's index with this number."""
    return f"{pack_name(lane, number)}.index"


def pack_of(name: str) -> tuple[int, int, bool] | None:
    """The lane and the number of the file of this name, and whether it is an index.

    ``None`` if it is of another kind.
    """
    match = _PACK.fullmatch(name)
    return None if match is None else (int(match[1], 16), int(match[2], 16), match[3] is not None)


def new_name(owner: int, number: int) -> str:
    """The name of a file that *owner* is writing."""
    return f"new-{owner:016x}-{number}"


def owner_of(name: str) -> int | None:
    """Who is, or was, writing the file of this name; ``None`` if it is of another kind."""
    match = _NEW.fullmatch(name)
    return None if match is None else int(match[1], 16)
