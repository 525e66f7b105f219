"""Clients of one server, as several processes have them, which tell one another what they do."""

from __future__ import annotations

import math
from typing import Any

from tests.fakes import RemoteFake
from tiered.clients.base import CacheClient, Claim
from tiered.clients.revision import Lease
from tiered.typing import Following, Key, OnChange


class Party:
    """Processes with clients of one server, which tell one another what they do to its keys."""

    def __init__(self, server: CacheClient) -> None:
        self.server = server
        self.clients: list[Telling] = []

    def join(self) -> Telling:
        """The client of one more process."""
        client = Telling(self)
        self.clients.append(client)
        return client


class Telling(RemoteFake):
    """A client of the server of *party*. Its lease never ends by itself."""

    def __init__(self, party: Party) -> None:
        super().__init__(party.server)
        self.party = party
        self.lease = Lease()
        self.lease.horizon = math.inf
        self.follows: list[Follow] = []

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        follow = Follow(self, key, changed)
        self.follows.append(follow)
        return follow

    def tell(self, key: Key, how: str) -> None:
        """Tell the others."""
        for client in self.party.clients:
            if client is not self:
                client.hear(key, how)

    def hear(self, key: Key, how: str) -> None:
        """Another one has told."""
        for follow in list(self.follows):
            if follow.key == key:
                follow.changed(how)

    def store(self, key: Key, value: Any, deadline: float, **options: Any) -> bool:
        written = super().store(key, value, deadline, **options)
        self.tell(key, "changed")
        return written

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        # Told when the claim is given back.
        return claim.use(lambda: self.client.store(key, value, deadline, keep=keep))

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        claim = super().claim(key, ttl)
        return claim and claim.ending(lambda: self.tell(key, "done")).through(self, key)

    def outdate(self, key: Key) -> bool:
        done = super().outdate(key)
        self.tell(key, "changed")
        return done

    def discard(self, key: Key) -> bool:
        done = super().discard(key)
        self.tell(key, "changed")
        return done


class Follow:
    """One who follows a key through *client*."""

    def __init__(self, client: Telling, key: Key, changed: OnChange) -> None:
        self.client = client
        self.key = key
        self.changed = changed
        self.lease = client.lease

    def close(self) -> None:
        if self in self.client.follows:
            self.client.follows.remove(self)
