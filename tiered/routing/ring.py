"""The hash ring: which server a key belongs to, and which one is next.

Ketama as libmemcached's "weighted" form does it: a server of average weight has 160
points, four from each MD5 of ``name-0`` ... ``name-39``, and a key belongs to the first
point at or after its own hash. Whoever asks the same servers through libmemcached, with
``ketama_weighted`` set and no ``distribution`` beside it, finds each key where we do.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from typing import Final, Generic, TypeVar

from tiered.validation import check_count

__all__ = ["HashRing"]

NodeT = TypeVar("NodeT")

_GROUPS: Final = 40
"""MD5s of a server of average weight, of four points each."""

_HEAVIEST: Final = 2**32 - 1
"""The most that libmemcached holds as a weight. pylibmc hands on 65,535 at most."""

_four_numbers = struct.Struct("<4I").unpack
_first_number = struct.Struct("<I").unpack_from


class HashRing(Generic[NodeT]):
    """An immutable ring; a change of servers makes a new one.

    While a server keeps its number of points it keeps their places too: a key leaves a
    server only if that one lost points, or another gained some. So of equal servers, one
    that joins or leaves moves its own share and nothing else, up to 24 of them. Otherwise
    libmemcached's rule applies: the number of a server's points is its weight divided by
    the average weight, in steps of four and in single precision. Whatever changes the
    average (a server much above or below it, a new weight) scales all servers, and moves
    some keys among the others, too. A server far below it may have no points, and no keys.

    The order of the servers matters where two have the same point, which is rare: the
    first of them has it.

    Args:
        nodes: ``(name, node)`` pairs; the name, not a resolved address, is what is
            hashed, so that a change in DNS moves no keys.
        weights: the share of each, 1 to 4,294,967,295, in the order of *nodes*; ``None``
            where all are equal. Only what they are to each other counts.

    Raises:
        ValueError: no nodes, two of one name, a weight out of range, or not as many
            weights as nodes.
        TypeError: a weight that is not a whole number.

    Threads: safe, nothing changes after construction.
    """

    def __init__(
        self, nodes: Sequence[tuple[str, NodeT]], weights: Sequence[int] | None = None
    ) -> None:
        if not nodes:
            raise ValueError("nodes must hold at least one server")
        names = [name for name, _ in nodes]
        ((name, times),) = Counter(names).most_common(1)
        if times > 1:
            raise ValueError(f"nodes must have different names, not {name!r} {times} times")
        groups = _groups(len(nodes), weights)
        points = sorted(
            (point, index)
            for index, name in enumerate(names)
            for group in range(groups[index])
            for point in _four_numbers(_digest(f"{name}-{group}".encode()))
        )
        self._points = [point for point, _ in points]
        self._pairs = _pairs([index for _, index in points], [node for _, node in nodes])
        # Most fleets are one server, and that needs no hash.
        self._only = self._pairs[0] if len(nodes) == 1 else None

    @property
    def only(self) -> NodeT | None:
        """The server of every key, if there is but one."""
        return None if self._only is None else self._only[0]

    def node(self, key: bytes) -> NodeT:
        """The server of *key*."""
        if self._only is not None:
            return self._only[0]
        (hashed,) = _first_number(md5(key, usedforsecurity=False).digest())
        return self._pairs[bisect_left(self._points, hashed)][0]

    def after(self, key: bytes) -> NodeT | None:
        """The server that is next on the ring after that of *key*.

        Of equal servers, it is the one that would have the key if the first were gone.

        Returns:
            ``None`` if there is no other server, or none that has points.
        """
        return self.pair(key)[1]

    def pair(self, key: bytes) -> tuple[NodeT, NodeT | None]:
        """What :meth:`node` and :meth:`after` return, for the price of one."""
        if self._only is not None:
            return self._only
        (hashed,) = _first_number(md5(key, usedforsecurity=False).digest())
        return self._pairs[bisect_left(self._points, hashed)]


def _digest(name: bytes) -> bytes:
    return md5(name, usedforsecurity=False).digest()


def _pairs(owners: Sequence[int], nodes: Sequence[NodeT]) -> list[tuple[NodeT, NodeT | None]]:
    """For each point, from its *owners*: the server there, and the next other one.

    The first point comes once more at the end: keys past the last point are its own.
    """
    known: dict[tuple[int, int], tuple[NodeT, NodeT | None]] = {}
    pairs: list[tuple[NodeT, NodeT | None]] = []
    # Backwards, and the first lap only looks for what the last points are followed by.
    owner, heir = owners[0], -1
    for previous in (*reversed(owners), *reversed(owners)):
        if previous != owner:
            owner, heir = previous, owner
        pair = (owner, heir)
        if pair not in known:
            known[pair] = (nodes[owner], nodes[heir] if heir >= 0 else None)
        pairs.append(known[pair])
    pairs = pairs[len(owners) :][::-1]
    return [*pairs, pairs[0]]


def _groups(count: int, weights: Sequence[int] | None) -> list[int]:
    """MD5s for each of *count* servers, with libmemcached's rounding.

    It computes in single precision, and for some numbers of equal servers (25 is the
    smallest) comes out just below 40.
    """
    if weights is None:
        weights = [1] * count
    if len(weights) != count:
        raise ValueError(f"weights must be as many as the nodes, {count}, not {len(weights)}")
    for index, weight in enumerate(weights):
        if check_count(f"weights[{index}]", weight, low=1) > _HEAVIEST:
            raise ValueError(f"weights[{index}] must be {_HEAVIEST:,} or less, not {weight!r}")
    total = _single(sum(weights))
    return [_rounded(_single(_single(weight) / total), count) for weight in weights]


def _rounded(part: float, count: int) -> int:
    return math.floor(_single(_single(part * _GROUPS) * count))


def _single(number: float) -> float:
    single: float = struct.unpack("f", struct.pack("f", number))[0]
    return single
