"""What all processes agree on through the shared tier, with the bus to tell when it changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tiered.clients.base import CacheClient, Capabilities, Entry
from tiered.clients.wrapper import Wrapper
from tiered.coherence.follows import EVERY_NAME, Follow
from tiered.coherence.manager import CoherenceManager
from tiered.coherence.messages import Kind
from tiered.coherence.names import name_of
from tiered.typing import Key

__all__ = ["Announced", "Unshared", "announced"]

_CONSTANT = "0"


class Announced(Wrapper):
    """The authority of coherent clients: revisions and versions that are decreed are told.

    Others share it, whatever the client says of itself: else each process would make up its own
    revisions, and what one deletes would mean nothing to the next.

    Args:
        manager: tells.
        client: the shared tier's own authority.

    Threads: safe.
    """

    def __init__(self, manager: CoherenceManager, client: CacheClient) -> None:
        super().__init__(client)
        self._manager = manager

    def agree(self, key: Key, proposal: Any) -> Entry | None:
        agreed = self.client.agree(key, proposal)
        if agreed is not None and agreed.value == proposal:
            # It was lost, if it was ever there: what others hold for true is not, any more.
            self.announce(key)
        return agreed

    def decree(self, key: Key, value: Any) -> Any:
        try:
            return self.client.decree(key, value)
        finally:
            self._manager.publish(Kind.CHANGED, (name_of(key),), settle=True)

    def follow(self, key: Key, changed: Callable[[str], Any]) -> Follow | None:
        return self._manager.follow(name_of(key), changed)

    def follow_all(self, changed: Callable[[str], Any]) -> Follow | None:
        return self._manager.follow(EVERY_NAME, changed)

    def announce(self, key: Key) -> None:
        self._manager.publish(Kind.CHANGED, (name_of(key),))

    @property
    def authority(self) -> CacheClient:
        return self

    @property
    def capabilities(self) -> Capabilities:
        return self.client.capabilities._replace(shared=True)


class Unshared(Announced):
    """The same where no tier is shared: nothing can be agreed on but what is agreed anyway.

    Revisions are the same for ever, as events name keys by them. Whoever decrees another one
    means that what is under it is to be forgotten: then all is.
    """

    def agree(self, key: Key, proposal: Any) -> Entry | None:
        return Entry(_CONSTANT, math.inf)

    def decree(self, key: Key, value: Any) -> Any:
        self._manager.forget_all()
        self._manager.publish(Kind.CLEAR, (b"",), settle=True)
        return _CONSTANT


def announced(manager: CoherenceManager, client: CacheClient) -> Announced:
    """The one authority that all clients of *manager* have in common."""
    kind = Unshared if manager.shared is None else Announced
    known: Announced = manager.attachments.setdefault(client, kind(manager, client))
    return known
