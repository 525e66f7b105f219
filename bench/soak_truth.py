"""What is true in a soak: the version of each key, in memory that all its processes share.

A writer raises the version of a key, then deletes the key from the cache, and when that delete
has returned the version is *acknowledged*. Who reads notes what is acknowledged before it asks;
an answer that is older than that is a violation.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, MutableSequence
from multiprocessing.context import SpawnContext
from typing import Any, Final, NamedTuple

__all__ = ["Floor", "Truth", "Value", "payload_of"]

STRIPES: Final = 64
REMEMBERED: Final = 32
"""For so many versions back it is known when they were acknowledged."""
SLACK: Final = 0.5
"""Seconds between reading a far tier and having the copy in the near one, with cores for few."""


class Value(NamedTuple):
    """What lies in the cache: it tells whose it is, of which version, and who made it."""

    key: int
    version: int
    source: str
    maker: str
    payload: bytes


class Floor(NamedTuple):
    """The oldest version that a read may answer with.

    Attributes:
        returned: the last delete that has returned was of this version.
        confirmed: the last one that has, and met no failure in its process.
        noted: when this was, on the monotonic clock.
    """

    returned: int
    confirmed: int
    noted: float

    def lowered(self, others: Iterable[Floor]) -> Floor:
        """The least that is true of this and of *others*."""
        return Floor(*map(min, zip(self, *others, strict=True)))


def payload_of(key: int, version: int, size: int) -> bytes:
    """Bytes that no other key and version has, and that do not compress."""
    return hashlib.shake_128(b"%d/%d" % (key, version)).digest(size)


class Truth:
    """Versions and acknowledgements of the keys 0 to *keys* - 1.

    Args:
        context: of the processes that share it; to be handed to them when they start.
        near_ttl: seconds for which a near tier may answer with what was deleted elsewhere.

    Threads: safe, and between processes. One write or read of a number cannot be torn;
    raising a version takes the key's lock.
    """

    def __init__(self, context: SpawnContext, keys: int, near_ttl: float) -> None:
        self.keys = keys
        self.near_ttl = near_ttl
        self._versions: MutableSequence[int] = context.RawArray("q", [1] * keys)
        self._returned: MutableSequence[int] = context.RawArray("q", keys)
        self._confirmed: MutableSequence[int] = context.RawArray("q", keys)
        self._late: MutableSequence[int] = context.RawArray("q", keys)
        self._flagged: MutableSequence[int] = context.RawArray("b", keys)
        self._times: MutableSequence[float] = context.RawArray("d", keys * REMEMBERED)
        self._locks = [context.Lock() for _ in range(STRIPES)]

    def lock(self, key: int) -> Any:
        """The lock of *key*; others may share it."""
        return self._locks[key % STRIPES]

    def version(self, key: int) -> int:
        """The present version."""
        return self._versions[key]

    def bump(self, key: int) -> int:
        """The next version; the caller holds the lock."""
        self._versions[key] += 1
        return self._versions[key]

    def acknowledge(self, key: int, version: int, *, clean: bool) -> None:
        """The delete that belongs to *version* has returned; the caller holds the lock."""
        self._times[key * REMEMBERED + version % REMEMBERED] = time.monotonic()
        self._returned[key] = version
        if clean:
            self._confirmed[key] = version

    def put_failed(self, key: int, version: int) -> None:
        """A put of *version* was given up; the server may still carry it out, any time."""
        self._late[key] = max(self._late[key], version)

    def floor(self, key: int) -> Floor:
        """What a read that begins now must not fall below."""
        return Floor(self._returned[key], self._confirmed[key], time.monotonic())

    def flag(self, key: int) -> None:
        """Ask all processes to keep what they know of *key*."""
        self._flagged[key] = 1

    def flagged(self, key: int) -> bool:
        """Whether there was a violation of *key*."""
        return bool(self._flagged[key])

    def fault(self, key: int, value: Any, floor: Floor) -> str | None:
        """What is wrong with *value* as the answer for *key*, ``None`` if nothing is.

        The first word is the kind: ``wrong``, ``stale`` (a delete that met no failure was
        overlooked), ``unsure`` (one that returned, and met a failure) or ``late`` (a put that
        had been given up was carried out after a delete: no client can help that).
        """
        if not isinstance(value, Value) or value.key != key:
            return f"wrong: {_shortened(value)} is not of this key"
        present = self.version(key)
        if not 1 <= value.version <= present:
            return f"wrong: version {value.version} does not exist, the last one is {present}"
        if value.payload != payload_of(key, value.version, len(value.payload)):
            return f"wrong: not the payload of version {value.version}"
        if value.version >= floor.returned or self._within_near_ttl(key, value.version, floor):
            return None
        words = (
            f"version {value.version} by {value.source} of {value.maker}, though the delete of all "
            f"before {floor.returned} had returned, and {floor.confirmed} without a failure"
        )
        if value.source == "put" and value.version == self._late[key]:
            return f"late: {words}"
        return f"stale: {words}" if value.version < floor.confirmed else f"unsure: {words}"

    def _within_near_ttl(self, key: int, version: int, floor: Floor) -> bool:
        """Whether *version* was the true one so short a while ago that a near tier may have it."""
        if not self.near_ttl:
            return False
        after = max(version + 1, self._returned[key] - REMEMBERED + 1)
        acknowledged = self._times[key * REMEMBERED + after % REMEMBERED]
        return floor.noted - acknowledged < self.near_ttl + SLACK


def _shortened(value: Any) -> str:
    words = repr(value)
    return words if len(words) < 120 else f"{words[:120]}..."
