"""The copies that a private tier holds: found by the names of events, dropped, and suspected."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from tiered.clients.base import CacheClient, Entry
from tiered.clients.tiered import TieredInclusiveClient
from tiered.coherence.ledger import Held, Ledger
from tiered.coherence.messages import Kind
from tiered.coherence.tiers import Near
from tiered.concurrency import fork
from tiered.typing import Key

__all__ = ["Copies"]

_log: Final = logging.getLogger("tiered.coherence")


class Copies:
    """What is done to copies because of what others do.

    Args:
        private: the client that holds them.
        namespace: whose they are.

    Attributes:
        ledger: of the keys that are held.
        peek: what *private* holds for a key, without that being a use of it.

    Threads: safe.
    """

    def __init__(self, private: CacheClient, namespace: str) -> None:
        self.private = private
        self.peek = peek = _peek_of(private)
        self.ledger = Ledger(lambda key: peek(key) is not None)
        self._left: deque[Ledger] = private.attachments.setdefault((Copies, namespace), deque())
        weakref.finalize(self, _leave, self._left, self.ledger).atexit = False
        self._near: tuple[Near, ...] = ()
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock: who held it is not in this process."""
        self._lock = threading.Lock()

    def adopt(self) -> bool:
        """Look after what others left in the private client who are gone; whether there is any."""
        adopted = False
        while self._left:
            try:
                ledger = self._left.popleft()
            except IndexError:
                break
            for name, held in ledger.all():
                self.ledger.leave(self.ledger.enter(name, held.key))
                adopted = True
        return adopted

    def attach(self, near: Near) -> None:
        """There is one more client through which copies are made."""
        with self._lock:
            self._near = (*self._near, near)

    def drop(self, kind: Kind, key: Key) -> bool:
        """Drop the copy of *key*, as *kind* asks for; ``False`` if that has failed."""
        for near in self._near:
            try:
                if kind is Kind.EXPIRE:
                    near.outdate(key)
                else:
                    near.drop(key)
            except Exception:
                # A client of the user's, or a key's own comparison.
                _log.exception("a copy of %r could not be dropped", key)
                return False
        return True

    def renounce(self, held: Held) -> None:
        """What is held for *held* is about to be changed: nothing is known of it any more."""
        if held.suspect:
            # If the change comes to nothing, it would pass for one that is merely stale.
            try:
                self.private.discard(held.key)
            except Exception:
                _log.exception("a copy of %r could not be dropped", held.key)
                held.version = None  # it stays suspect, and nobody confirms it
                return
        held.copied(None)

    def drop_all(self) -> None:
        """Drop all copies, and those that are about to be made."""
        for _, held in self.ledger.all():
            if held.uses:
                self.drop(Kind.DELETE, held.key)
        self.private.sweep(None)

    def suspect_all(self) -> None:
        """Make all copies stale, to be confirmed when they are next used."""
        for _, held in self.ledger.all():
            if held.uses:
                # A copy that is about to be made, or a value computed, may be out of date too.
                self.drop(Kind.DELETE, held.key)
            self._suspect(held)

    def _suspect(self, held: Held) -> None:
        version = held.version
        entry = self.peek(held.key)
        if entry is None:
            return
        if entry.deadline <= self.private.clock.monotonic():
            if not held.suspect:
                # Nobody confirms what is stale, and who serves stale values would take it for one.
                self.private.discard(held.key)
            return
        deadline = entry.deadline
        if self.private.outdate(held.key) and held.version is version:
            held.deadline = deadline

    def fresh(self, held: Held | None) -> Entry | None:
        """The copy that would be served for *held*, if all is well otherwise."""
        entry = None if held is None or held.suspect else self.peek(held.key)
        if entry is None or entry.deadline <= self.private.clock.monotonic():
            return None
        return entry


def _peek_of(client: CacheClient) -> Callable[[Key], Entry | None]:
    """What *client* holds for a key: all of it, as what is not seen is not kept in step.

    Without that being a use of it, where the client can tell so.
    """
    if isinstance(client, TieredInclusiveClient):
        peeks = [_peek_of(tier) for tier in client.clients]

        def peek(key: Key) -> Entry | None:
            found = [entry for peek in peeks if (entry := peek(key)) is not None]
            return max(found, key=lambda entry: entry.deadline, default=None)

        return peek
    path = client.hot_path()
    # What is near is all there is only where there are no tiers, and nothing that may block.
    if path is None or client.first_tiers(1) is not client:
        return client.entry
    return path.lookup


def _leave(left: deque[Ledger], ledger: Ledger) -> None:
    """Nobody hears any more of changes of what *ledger* knows."""
    if len(ledger):
        left.append(ledger)
