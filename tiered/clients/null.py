"""The client that holds nothing: for switching a cache off without touching its users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiered.clients.base import ALWAYS, CacheClient, Condition, Entry
from tiered.typing import Key

__all__ = ["NullCacheClient"]


class NullCacheClient(CacheClient):
    """Every read is a miss and every write is dropped.

    Threads: safe, there is nothing to share.
    """

    def entry(self, key: Key) -> Entry | None:
        return None

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return {}

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        return False

    def touch(self, key: Key, deadline: float) -> bool:
        return False

    def discard(self, key: Key) -> bool:
        return False

    def sweep(self, before: float | None) -> int:
        return 0

    @property
    def capacity(self) -> float:
        return 0

    def __repr__(self) -> str:
        return "<NullCacheClient>"
