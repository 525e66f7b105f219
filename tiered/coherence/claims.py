"""Claims that the bus grants, and the telling of how claims end."""

from __future__ import annotations

from tiered.clients.base import Claim
from tiered.coherence.manager import CoherenceManager

__all__ = ["Fills", "bus_claim"]

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


class Fills:
    """Which claims were filled, until they end: who waits is told of the others too.

    Threads: safe; each operation is one of a set.
    """

    def __init__(self) -> None:
        self._filled: set[str] = set()

    def filled(self, claim: Claim) -> None:
        """A value was written under *claim*."""
        self._filled.add(claim.token)

    def ended(self, token: str) -> bool:
        """The claim with *token* has ended; whether a value was written under it."""
        try:
            self._filled.remove(token)
        except KeyError:
            return False
        return True
