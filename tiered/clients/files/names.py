"""Where a key's files lie, and what each kind of file is called.

::

    PATH/
        locks            locked in ranges, always empty (see ``locks``)
        counts           shared memory: bytes in use, times of access (see ``counts``)
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
    "LOCKS",
    "PLACE_BITS",
    "SHARDS",
    "Place",
    "is_claim",
    "is_value",
    "new_name",
    "owner_of",
    "shard_name",
    "shard_range",
]

SHARDS: Final = 64
"""Directories that values are spread over: each has a lock of its own in the kernel."""

LOCKS: Final = "locks"
COUNTS: Final = "counts"

PLACE_BITS: Final = 62
SHARD_BITS: Final = 6

_VALUE: Final = re.compile(r"[0-9a-f]{40}")
_CLAIM: Final = re.compile(r"[0-9a-f]{40}\.claim")
_NEW: Final = re.compile(r"new-([0-9a-f]{16})-[0-9]+")

_new: Final = tuple.__new__


class Place(NamedTuple):
    """Where the files of one key lie.

    Attributes:
        shard: 0 to 63.
        file: the name of the value's file in the shard.
        lock: the byte of the lock file that stands for the key; those of a shard are in a row.
        stamp: a number that spreads keys over a table.
    """

    shard: int
    file: str
    lock: int
    stamp: int

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
        lock = int.from_bytes(digest[:8], "big") >> 64 - PLACE_BITS
        shard = digest[0] >> 8 - SHARD_BITS
        return _new(cls, (shard, digest.hex(), lock, int.from_bytes(digest[8:12], "big")))


def shard_range(shard: int) -> tuple[int, int]:
    """The first of a shard's bytes in the lock file, and how many there are."""
    bits = PLACE_BITS - SHARD_BITS
    return shard << bits, 1 << bits


def shard_name(shard: int) -> str:
    """The name of a shard's directory."""
    return f"{shard:02x}"


def is_value(name: str) -> bool:
    """Whether a file of this name is a value."""
    return _VALUE.fullmatch(name) is not None


def is_claim(name: str) -> bool:
    """Whether a file of this name is a claim."""
    return _CLAIM.fullmatch(name) is not None


def new_name(owner: int, number: int) -> str:
    """The name of a file that *owner* is writing."""
    return f"new-{owner:016x}-{number}"


def owner_of(name: str) -> int | None:
    """Who is, or was, writing the file of this name; ``None`` if it is of another kind."""
    match = _NEW.fullmatch(name)
    return None if match is None else int(match[1], 16)
