"""The copies that one client keeps near, and what can be done to them from outside.

Two shapes: tiers whose nearest is private to this process, and a private client by itself,
which nobody shares but through the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tiered.clients.base import CacheClient, Entry
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.coherence.ledger import Held
from tiered.typing import Key

__all__ = ["Alone", "Near", "Stacked", "near_of"]


class Near(Protocol):
    """What a manager does to a client's copies. Keys are those of the private client."""

    shares: bool
    """Whether there is a shared tier to ask."""

    def when_kept(self, told: Callable[[], object]) -> None:
        """Call *told* when a copy that had to go may be there still."""
        ...

    def drop(self, key: Key) -> None:
        """Forget the copy, any that is about to be made, and the claim of a thread here."""
        ...

    def outdate(self, key: Key) -> None:
        """The same for a value that others keep, but hold for stale."""
        ...

    def confirm(self, key: Key, held: Held, entry: Entry) -> Entry | None:
        """*entry*, a suspect copy, if it is what the shared tier holds; and hold it again."""
        ...


class Stacked:
    """Tiers, the nearest of which is private."""

    shares = True

    def __init__(self, core: TieredInclusiveClient) -> None:
        self._core = core

    def when_kept(self, told: Callable[[], object]) -> None:
        self._core.when_kept(told)

    def drop(self, key: Key) -> None:
        self._core.drop_near(key)
        # Of this process's own table: whoever computes here began before the change.
        CacheClient.revoke(self._core, key)

    outdate = drop
    """The shared tier has the stale value, for whom it serves."""

    def confirm(self, key: Key, held: Held, entry: Entry) -> Entry | None:
        version = held.version
        if version is None:
            return None
        return self._core.copy_near(
            key, lambda: entry if self._core.version(key) == version else None
        )


class Alone:
    """A private client by itself: what cannot be believed cannot be confirmed either."""

    shares = False

    def __init__(self, core: CacheClient) -> None:
        self._core = core

    def when_kept(self, told: Callable[[], object]) -> None:
        """Who asks is told by the error."""

    def drop(self, key: Key) -> None:
        self._core.revoke(key)
        self._core.discard(key)

    def outdate(self, key: Key) -> None:
        self._core.revoke(key)
        self._core.outdate(key)

    def confirm(self, key: Key, held: Held, entry: Entry) -> Entry | None:
        return None


def near_of(client: CacheClient, private: CacheClient) -> tuple[Near, tuple[Wrapper, ...]]:
    """What *client* keeps in *private*, and the wrappers on the way there, outermost first.

    Raises:
        ValueError: *private* is not the nearest tier of *client*, nor *client* itself; or what is
            between them gives keys other names from time to time.
    """
    way: list[Wrapper] = []
    core = client
    while core is not private and isinstance(core, Wrapper):
        if isinstance(core, NamespaceWrapper):
            raise ValueError(
                f"client must not have a namespace within other wrappers: put {core!r} around "
                f"the coherent client"
            )
        way.append(core)
        core = core.client
    if core is private:
        return Alone(core), tuple(way)
    if isinstance(core, TieredInclusiveClient) and core.clients[0] is private:
        for tier in core.clients[1:-1]:
            if not tier.capabilities.shared:
                raise ValueError(
                    f"client must have no tier of this process but the nearest: nobody would "
                    f"keep {tier!r} in step"
                )
        return Stacked(core), tuple(way)
    raise ValueError(
        f"client must be tiers whose nearest is the manager's private client {private!r}, "
        f"or that client itself, in any wrappers; not {client!r}"
    )
