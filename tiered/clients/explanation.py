"""What is known about one key, for a person who asks why the cache answered so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiered.typing import Key

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """One client's (or tier's) view of a key; ``repr`` is a text of a line for each tier.

    Attributes:
        client: the client's ``repr``.
        key: the key as this client sees it, namespace included.
        found: whether it holds an entry, fresh or stale.
        ttl: seconds left, negative when stale; ``None`` without an entry.
        detail: what only this kind of client knows (wire key, server, size ...).
        tiers: the views of the clients that it is made of, nearest first.
    """

    client: str
    key: Key
    found: bool
    ttl: float | None = None
    detail: tuple[tuple[str, object], ...] = ()
    tiers: tuple[Explanation, ...] = ()

    @classmethod
    def of(
        cls, client: CacheClient, key: Key, *, detail: tuple[tuple[str, object], ...] = ()
    ) -> Explanation:
        """The view of a client that is not made of others."""
        entry = client.entry(key)
        ttl = None if entry is None else entry.deadline - client.clock.monotonic()
        return cls(repr(client), key, entry is not None, ttl, detail)

    @property
    def state(self) -> str:
        """``"fresh"``, ``"stale"`` or ``"absent"``."""
        if self.ttl is None:
            return "absent"
        return "fresh" if self.ttl > 0 else "stale"

    def __repr__(self) -> str:
        return "\n".join(self._lines(""))

    def _lines(self, indent: str) -> list[str]:
        left = ""
        if self.ttl is not None:
            left = ", never expires" if math.isinf(self.ttl) else f", ttl {self.ttl:.3f} s"
        facts = "".join(f", {name}={value!r}" for name, value in self.detail)
        lines = [f"{indent}{self.client}: {self.key!r} is {self.state}{left}{facts}"]
        for tier in self.tiers:
            lines += tier._lines(indent + "  ")
        return lines
