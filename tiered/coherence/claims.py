"""Claims that the bus grants, and the telling of how claims end."""

from __future__ import annotations

from tiered.clients.base import Claim
from tiered.clients.claimed import OpenClaims
from tiered.coherence.ledger import Held, Ledger
from tiered.coherence.manager import CoherenceManager

__all__ = ["GivenClaims", "bus_claim"]

_PATIENCE = 0.5
"""Seconds to wait for the broker's answer; a claim saves work, and is not worth more."""


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
    """What goes with a claim: the record that it uses, and whether a value was written."""

    __slots__ = ("filled", "held")

    def __init__(self, held: Held) -> None:
        self.held = held
        self.filled = False


class GivenClaims(OpenClaims[_Given]):
    """The claims that were given, each using the record of its key.

    Args:
        ledger: of the records.

    Threads: safe. In a forked child, the claims that the parent has use no records.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        super().__init__()

    def _let_go(self, thing: _Given) -> None:
        self._ledger.leave(thing.held)

    def add(self, token: str, held: Held, ends: float, now: float) -> None:
        """A claim was given until *ends* (monotonic), whose record *held* was entered for it."""
        self._opened(token, _Given(held), ends, now)

    def filled(self, claim: Claim) -> None:
        """A value was written under *claim*."""
        given = self._held(claim.token)
        if given is not None:
            given.filled = True

    def ended(self, token: str) -> bool:
        """The claim with *token* has ended; whether a value was written under it.

        Who waits is told of the others, too.
        """
        given = self._closed(token)
        return given is not None and given.filled
