"""The hash ring: which server a key belongs to.

Ketama as libmemcached does it: every server has 160 points, four from each MD5
of ``name-0`` ... ``name-39``, and a key belongs to the first point at or after
its own hash. A fleet that also runs libmemcached clients agrees on the server
of every key; when a server leaves or joins, only its own share moves.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

__all__ = ["HashRing"]

NodeT = TypeVar("NodeT")


class HashRing(Generic[NodeT]):
    """An immutable ring; a change of servers makes a new one.

    Args:
        nodes: ``(name, node)`` pairs; the name, not a resolved address, is what is
            hashed, so that a change in DNS moves no keys.

    Raises:
        ValueError: no nodes.

    Threads: safe, nothing changes after construction.
    """

    POINTS_PER_NODE: Final = 160

    def __init__(self, nodes: Sequence[tuple[str, NodeT]]) -> None:
        if not nodes:
            raise ValueError("nodes must hold at least one server")
        points: list[tuple[int, int]] = []
        for index, (name, _) in enumerate(nodes):
            for group in range(self.POINTS_PER_NODE // 4):
                digest = hashlib.md5(f"{name}-{group}".encode(), usedforsecurity=False).digest()
                for offset in range(0, 16, 4):
                    points.append((int.from_bytes(digest[offset : offset + 4], "little"), index))
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [nodes[index][1] for _, index in points]
        self._only = nodes[0][1] if len(nodes) == 1 else None

    def node(self, key: bytes) -> NodeT:
        """The server of *key*."""
        if self._only is not None:
            return self._only
        digest = hashlib.md5(key, usedforsecurity=False).digest()
        index = bisect_left(self._points, int.from_bytes(digest[:4], "little"))
        return self._owners[index if index < len(self._owners) else 0]
