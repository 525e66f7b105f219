"""The first tiers of a coherent client, for who asks for these alone (``max_tiers``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tiered.clients.base import ALWAYS, ANY, CacheClient, Condition, Entry, HotPath, Search
from tiered.clients.wrapper import Wrapper
from tiered.coherence.ledger import Held
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
        return self.find(key, ANY)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self.find_many(keys, ANY)

    def find(self, key: Key, search: Search) -> Entry | None:
        if not self._manager.verified:
            return None
        # A copy that these tiers make of a farther one's has to be known, too.
        with self._using((key,)) as records:
            search = search._replace(on_copy=lambda _: records[key].copied(None))
            found = self.client.find(key, search)
            return found if self._sure(records[key], found) else None

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        if not self._manager.verified:
            return {}
        wanted = list(dict.fromkeys(keys))
        with self._using(wanted) as records:
            search = search._replace(on_copies=lambda key, _: records[key].copied(None))
            found = self.client.find_many(wanted, search)
            return {key: entry for key, entry in found.items() if self._sure(records[key], entry)}

    def near(self, key: Key) -> Entry | None:
        if not self._manager.verified:
            return None
        found = self.client.near(key)
        return found if self._sure(self._known(key), found) else None

    def _sure(self, held: Held | None, found: Entry | None) -> bool:
        """Whether *found* can be believed: what was made stale to be confirmed cannot."""
        if found is None or not self._manager.verified:
            return False
        fresh = found.deadline > self.clock.monotonic()
        return fresh or held is None or not held.suspect

    def _known(self, key: Key) -> Held | None:
        return self._manager.copies.ledger.get(name_of(self._private_key(key)))

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
        held = self._known(key)
        if not self._manager.verified or (held is not None and held.suspect):
            return False  # what cannot be believed is not to live longer
        return super().touch(key, deadline)

    def _noted(self, keys: Iterable[Key], store: Callable[[], T]) -> T:
        """*store*, with the ledger knowing of it."""
        with self._using(keys) as records:
            for held in records.values():
                self._manager.copies.renounce(held)
            return store()

    @contextmanager
    def _using(self, keys: Iterable[Key]) -> Iterator[dict[Key, Held]]:
        """The records of *keys*, which are about to be read or written."""
        manager = self._manager
        manager.start()
        wanted = list(keys)
        inner = list(map(self._private_key, wanted))
        with manager.copies.ledger.using(map(name_of, inner), inner) as records:
            yield dict(zip(wanted, records, strict=True))
