"""Keys that are claimed through tiers, and whether they were changed since."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from tiered.clients.claims import Claim
from tiered.concurrency import fork
from tiered.concurrency.generations import Watch
from tiered.typing import Key

__all__ = ["OURS", "ClaimedKeys"]

OURS: Final = object()
"""The lease of a claim among our own threads, given where the farthest tier failed."""

_SMALL: Final = 256
"""Of so many claims it does not matter how many have ended."""


class _Claimed(NamedTuple):
    key: Key
    watch: Watch
    ends: float


class ClaimedKeys:
    """The claims that were given, by their tokens, each with a watch on its key.

    A claim that nobody releases is forgotten some time after its end.

    Threads: safe. A claim that was given before a fork counts as changed in the child.
    """

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Who changes a key tells the watches of this process."""
        self._lock = threading.Lock()
        self._claims: dict[str, _Claimed] = {}
        self._limit = _SMALL

    def __len__(self) -> int:
        return len(self._claims)

    def add(self, claim: Claim, watch: Watch, ends: float, now: float) -> Claim:
        """*claim*, which was given until *ends* (monotonic), and is forgotten with its end.

        *watch* was entered before it was asked for, and is left here.
        """
        token = claim.token
        with self._lock:
            self._claims[token] = _Claimed(claim.key, watch, ends)
            crowded = len(self._claims) > self._limit
        if crowded:
            self._clean(now)
        return claim.ending(lambda: self._drop(token))

    def changed(self, claim: Claim, key: Key) -> bool:
        """Whether *key* is not what was claimed, or somebody is known to have changed it since."""
        return not self.unless_changed(claim, key, lambda: None)

    def unless_changed(self, claim: Claim, key: Key, write: Callable[[], object]) -> bool:
        """*write*, which must be quick, unless it was; whether that was done."""
        claimed = self._claims.get(claim.token)
        return claimed is not None and claimed.key == key and claimed.watch.publish(write)

    def _drop(self, token: str) -> None:
        with self._lock:
            claimed = self._claims.pop(token, None)
        if claimed is not None:
            claimed.watch.__exit__(None, None, None)

    def _clean(self, now: float) -> None:
        for token, claimed in list(self._claims.items()):
            if claimed.ends <= now:
                self._drop(token)
        self._limit = max(_SMALL, 2 * len(self._claims))
