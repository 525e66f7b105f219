"""Keys that are claimed through tiers, and whether they were changed since."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from tiered.clients.claims import Claim
from tiered.concurrency import fork
from tiered.concurrency.generations import Watch
from tiered.typing import Key

__all__ = ["OURS", "ClaimedKeys", "OpenClaims"]

OURS: Final = object()
"""The lease of a claim among our own threads, given where the farthest tier failed."""

_SMALL: Final = 256
"""Of so many claims it does not matter how many have ended."""


T = TypeVar("T")


class OpenClaims(ABC, Generic[T]):
    """The claims that were given, by their tokens, and what goes with each until it ends.

    A claim that nobody releases is forgotten some time after its end.

    Threads: safe, each step is one of a dict. A forked child has none of its parent's.
    """

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Whoever the parent's claims concern is not in this process."""
        self._open: dict[str, tuple[float, T]] = {}
        self._limit = _SMALL

    def __len__(self) -> int:
        return len(self._open)

    @abstractmethod
    def _let_go(self, thing: T) -> None:
        """The claim that *thing* went with has ended."""

    def _opened(self, token: str, thing: T, ends: float, now: float) -> None:
        """The claim with *token* was given until *ends* (monotonic)."""
        self._open[token] = (ends, thing)
        if len(self._open) > self._limit:
            for old, (ended, _) in self._open.copy().items():
                if ended <= now:
                    self._closed(old)
            self._limit = max(_SMALL, 2 * len(self._open))

    def _held(self, token: str) -> T | None:
        """What goes with the claim with *token*; ``None`` if that has ended."""
        known = self._open.get(token)
        return None if known is None else known[1]

    def _closed(self, token: str) -> T | None:
        """The claim with *token* has ended; what went with it, ``None`` if it had ended before."""
        known = self._open.pop(token, None)  # in one step: others may be cleaning up
        if known is None:
            return None
        self._let_go(known[1])
        return known[1]


class _Claimed(NamedTuple):
    key: Key
    watch: Watch


class ClaimedKeys(OpenClaims[_Claimed]):
    """The claims that were given, each with a watch on its key.

    Threads: safe. A claim that was given before a fork counts as changed in the child: who
    changes a key there tells the watches of that process.
    """

    def _let_go(self, thing: _Claimed) -> None:
        thing.watch.__exit__(None, None, None)

    def add(self, claim: Claim, watch: Watch, ends: float, now: float) -> Claim:
        """*claim*, which was given until *ends* (monotonic), and is forgotten with its end.

        *watch* was entered before it was asked for, and is left here.
        """
        token = claim.token
        self._opened(token, _Claimed(claim.key, watch), ends, now)
        return claim.ending(lambda: self._closed(token))

    def changed(self, claim: Claim, key: Key) -> bool:
        """Whether *key* is not what was claimed, or somebody is known to have changed it since."""
        return not self.unless_changed(claim, key, lambda: None)

    def unless_changed(self, claim: Claim, key: Key, write: Callable[[], object]) -> bool:
        """*write*, which must be quick, unless it was; whether that was done."""
        claimed = self._held(claim.token)
        return claimed is not None and claimed.key == key and claimed.watch.publish(write)
