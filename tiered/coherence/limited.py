"""The first tiers of a coherent client, for who asks for these alone (``max_tiers``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from tiered.clients.base import ALWAYS, CacheClient, Condition, Entry, HotPath
from tiered.clients.wrapper import Wrapper
from tiered.coherence.manager import CoherenceManager
from tiered.coherence.names import name_of
from tiered.typing import Key

__all__ = ["FirstTiers"]

T = TypeVar("T")


class FirstTiers(Wrapper):
    """*client*, which lacks the tier that could confirm its copies.

    What is put there is dropped when others change it, as all copies are; while copies cannot
    be believed, there are none.

    Args:
        client: the first tiers.
        manager: of the private one among them.
        private_key: gives the private client's key for a key of *client*.

    Threads: safe.
    """

    def __init__(
        self, client: CacheClient, manager: CoherenceManager, private_key: Callable[[Key], Key]
    ) -> None:
        super().__init__(client)
        self._manager = manager
        self._private_key = private_key

    def entry(self, key: Key) -> Entry | None:
        return super().entry(key) if self._manager.verified else None

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return super().entries(keys) if self._manager.verified else {}

    def near(self, key: Key) -> Entry | None:
        return super().near(key) if self._manager.verified else None

    def hot_path(self) -> HotPath | None:
        return None

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        return self._noted(
            (key,),
            lambda: self.client.store(key, value, deadline, keep=keep, condition=condition),
        )

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        return self._noted(items, lambda: self.client.store_many(items, deadline, keep=keep))

    def touch(self, key: Key, deadline: float) -> bool:
        held = self._manager.copies.ledger.get(name_of(self._private_key(key)))
        if not self._manager.verified or (held is not None and held.suspect):
            return False  # what cannot be believed is not to live longer
        return super().touch(key, deadline)

    def _noted(self, keys: Iterable[Key], store: Callable[[], T]) -> T:
        """*store*, with the ledger knowing of it."""
        manager = self._manager
        manager.start()
        inner = [self._private_key(key) for key in keys]
        records = [manager.copies.ledger.enter(name_of(key), key) for key in inner]
        try:
            for held in records:
                manager.copies.renounce(held)
            return store()
        finally:
            for held in records:
                manager.copies.ledger.leave(held)
