"""The hash ring: which server a key belongs to.

Ketama as libmemcached's "weighted" form does it: every server has 160 points, four
from each MD5 of ``name-0`` ... ``name-39``, and a key belongs to the first point at or
after its own hash. A fleet that also runs libmemcached clients agrees on the server
of every key; when a server leaves or joins, only its own share moves.
"""

from __future__ import annotations

import hashlib
import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

__all__ = ["HashRing"]

NodeT = TypeVar("NodeT")

_GROUPS: Final = 40
"""MD5s a server, of four points each."""


class HashRing(Generic[NodeT]):
    """An immutable ring; a change of servers makes a new one.

    Args:
        nodes: ``(name, node)`` pairs; the name, not a resolved address, is what is
            hashed, so that a change in DNS moves no keys.

    Raises:
        ValueError: no nodes.

    Threads: safe, nothing changes after construction.
    """

    def __init__(
        self, nodes: Sequence[tuple[str, NodeT]], weights: Sequence[int] | None = None
    ) -> None:
        if not nodes:
            raise ValueError("nodes must hold at least one server")
        points: list[tuple[int, int]] = []
        groups = _groups(len(nodes))
        for index, (name, _) in enumerate(nodes):
            for group in range(groups):
                digest = hashlib.md5(f"{name}-{group}".encode(), usedforsecurity=False).digest()
                for offset in range(0, 16, 4):
                    points.append((int.from_bytes(digest[offset : offset + 4], "little"), index))
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [nodes[index][1] for _, index in points]
        self._only = nodes[0][1] if len(nodes) == 1 else None

    def pair(self, key: bytes) -> tuple[NodeT, NodeT | None]:
        if self._only is not None:
            return self._only, None
        digest = hashlib.md5(key, usedforsecurity=False).digest()
        index = bisect_left(self._points, int.from_bytes(digest[:4], "little"))
        owners = self._owners
        index = index if index < len(owners) else 0
        home = owners[index]
        while owners[index] is home:
            index = (index + 1) % len(owners)
        return home, owners[index]

    def node(self, key: bytes) -> NodeT:
        """The server of *key*."""
        if self._only is not None:
            return self._only
        digest = hashlib.md5(key, usedforsecurity=False).digest()
        index = bisect_left(self._points, int.from_bytes(digest[:4], "little"))
        return self._owners[index if index < len(self._owners) else 0]


def _groups(nodes: int) -> int:
    """MD5s for each of *nodes* servers: 40, or what libmemcached's rounding makes of that.

    It computes a server's equal share in single precision, and for some numbers of
    servers (25 is the smallest) comes out just below 40.
    """
    share = _single(_single(_single(1 / nodes) * _GROUPS) * nodes)
    return math.floor(_single(share + 0.0000000001))


def _single(number: float) -> float:
    single: float = struct.unpack("f", struct.pack("f", number))[0]
    return single
