"""Claims that the bus grants, and the telling of how claims end."""

from __future__ import annotations

from tiered.clients.base import Claim
from tiered.coherence.ledger import Held, Ledger
from tiered.coherence.manager import CoherenceManager
from tiered.concurrency import fork

__all__ = ["GivenClaims", "bus_claim"]

_PATIENCE = 0.5
"""Seconds to wait for the broker's answer; a claim saves work, and is not worth more."""
_SMALL = 256
"""Of so many claims it does not matter how many have ended."""


def bus_claim(manager: CoherenceManager, own: Claim, name: bytes, ttl: float) -> Claim | None:
    """*own*, a claim among the threads here, once the broker grants it for the cluster.

    ``None`` if another process has it. Without a broker to ask, the one here will do.
    """
    try:
        answer = manager.bus.claim(manager.topic, name, ttl, _PATIENCE)
    except BaseException:
        own.release()  # whoever waits with an interrupted caller waits for nobody
        raise
    if not answer.asked:
        return own
    if not answer.token:
        own.release()
        return None
    return own.ending(lambda: manager.bus.release(manager.topic, name, answer.token))


class _Given:
    """A claim that was given until *ends* (monotonic), and the record that it uses."""

    __slots__ = ("ends", "filled", "held")

    def __init__(self, held: Held, ends: float) -> None:
        self.held = held
        self.ends = ends
        self.filled = False


class GivenClaims:
    """The claims that were given, by their tokens, each using the record of its key.

    A claim that nobody releases is forgotten some time after its end.

    Args:
        ledger: of the records.

    Threads: safe. In a forked child, the claims that the parent has use no records.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """The child's ledger has no users yet: who ends a claim of the parent's leaves nothing."""
        self._given: dict[str, _Given] = {}
        self._limit = _SMALL

    def add(self, token: str, held: Held, ends: float, now: float) -> None:
        """A claim was given until *ends* (monotonic), whose record *held* was entered for it."""
        self._given[token] = _Given(held, ends)
        if len(self._given) > self._limit:
            for old, given in self._given.copy().items():
                if given.ends <= now:
                    self.ended(old)
            self._limit = max(_SMALL, 2 * len(self._given))

    def filled(self, claim: Claim) -> None:
        """A value was written under *claim*."""
        given = self._given.get(claim.token)
        if given is not None:
            given.filled = True

    def ended(self, token: str) -> bool:
        """The claim with *token* has ended; whether a value was written under it.

        Who waits is told of the others, too.
        """
        given = self._given.pop(token, None)  # in one step: it may be cleaned up meanwhile
        if given is None:
            return False
        self._ledger.leave(given.held)
        return given.filled

    def __len__(self) -> int:
        return len(self._given)
