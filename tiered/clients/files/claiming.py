"""Claims on the keys of a client of files."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tiered.clients.claims import Claim
from tiered.clients.files import claims
from tiered.clients.files.access import Access
from tiered.clients.files.claims import Ticket
from tiered.clients.files.names import Place
from tiered.clients.files.tree import Tree
from tiered.errors import StorageError
from tiered.typing import Clock, Key

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient

__all__ = ["UNFOUNDED", "Claiming"]

UNFOUNDED: Final = object()
"""The lease of a claim where none could be written down, and none will fill."""


class Claiming:
    """Gives claims, each a mark in a file. Threads: safe."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def claim(self, client: CacheClient, key: Key, name: bytes, life: float) -> Claim | None:
        """A claim on *key* of *client*, for *life* seconds; ``None`` while somebody has one."""
        place = Place.of(name)
        try:
            mark = self._access.change(lambda tree: claims.take(tree, place, self._now(tree), life))
        except StorageError:
            if self._access.strict:
                raise
            return self._unfounded(client, key, life)
        if mark is None:
            return None
        ticket = Ticket(name, mark)

        def use(action: Callable[[], bool]) -> bool:
            return self._changed(lambda tree: self.holds(tree, ticket, place)) and action()

        def release() -> bool:
            def drop(tree: Tree) -> bool:
                with tree.locks.key(place):
                    mine = claims.held(tree, place, mark, -math.inf)
                    return mine and claims.drop(tree, place)

            return self._changed(drop)

        return Claim(client, key, f"{mark.token:016x}", use, release, lease=ticket)

    def _unfounded(self, client: CacheClient, key: Key, life: float) -> Claim:
        """For when nothing can be written down, by nobody.

        What is computed meanwhile is good for the tiers that work.
        """
        ends = self._clock.monotonic() + life

        def use(action: Callable[[], bool]) -> bool:
            return self._clock.monotonic() < ends and action()

        return Claim(client, key, secrets.token_hex(8), use, lambda: False, lease=UNFOUNDED)

    def holds(self, tree: Tree, ticket: Ticket, place: Place) -> bool:
        """Whether a claim is good just now."""
        with tree.locks.key(place):
            return claims.held(tree, place, ticket.mark, self._now(tree))

    def spend(self, tree: Tree, ticket: Ticket, place: Place) -> bool:
        """End a claim for the value that is written in this step; whether it was good.

        The key's lock is held.
        """
        held = claims.held(tree, place, ticket.mark, self._now(tree))
        return held and claims.drop(tree, place)

    def revoke(self, name: bytes) -> None:
        """End the claim on a key, and leave its value."""
        place = Place.of(name)

        def drop(tree: Tree) -> bool:
            with tree.locks.key(place):
                return claims.drop(tree, place)

        self._changed(drop)

    def _changed(self, action: Callable[[Tree], bool]) -> bool:
        try:
            return self._access.change(action)
        except StorageError:
            if self._access.strict:
                raise
            return False

    def _now(self, tree: Tree) -> float:
        return self._clock.monotonic() + tree.counts.base
