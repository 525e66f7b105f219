"""``get`` and ``put`` of clients that have entries in their own memory.

They are one step of a store, without detours: one Python frame, or none where the compiled
core is in use and the entries lie in one of its stores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiered.acceleration import core
from tiered.sentinels import MISSING
from tiered.stats.counters import Counters
from tiered.typing import Horizon, HotPath, Key, PromoteCallback, Store

__all__ = ["NearAccess", "NearReads", "PythonNearAccess", "PythonNearReads"]


class PythonNearReads:
    """The ``get`` of a client with a :class:`HotPath`.

    Attributes:
        near_hits: how often *get* has hit on that path.

    Threads: safe; counted as in :class:`tiered.stats.counters.Counters`.
    """

    near_hits = 0
    _lookup: Callable[[Any], Any] | None = None

    def read_near(
        self, path: HotPath | None, now: Callable[[], float], general: Callable[..., Any]
    ) -> None:
        """Try *path* first; for all else call ``general(self, key, default, ...)``.

        Args:
            path: to the client's nearest entries, or ``None``.
            now: the clock of their deadlines, in seconds.
            general: the ``get`` of any client.
        """
        self._get = general
        self._now = now
        if path is not None:
            self._lookup, self._note, self._counts, _, lease = path
            if lease is not None:
                self._lookup = _leased(path.lookup, lease, now)

    def get(
        self,
        key: Key,
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> Any:
        """The fresh value of *key*, else *default*.

        Raises:
            CacheMissError: there is none, and no *default* was given.
        """
        if (
            ttl_skip is None
            and promote_callback is None
            and max_tiers is None
            and self._lookup is not None
        ):
            try:
                entry = self._lookup(key)
                if entry is not None and entry.deadline > self._now():
                    if self._note is not None:
                        self._note(entry.place)
                    elif self._counts:
                        entry.uses += 1
                    self.near_hits += 1
                    return entry.value
            except Exception:  # noqa: S110 - what is wrong, the general way finds and tells
                pass
        return self._get(
            self,
            key,
            default,
            ttl_skip=ttl_skip,
            promote_callback=promote_callback,
            max_tiers=max_tiers,
        )


def _leased(
    lookup: Callable[[Any], Any], lease: Horizon, now: Callable[[], float]
) -> Callable[[Any], Any]:
    """*lookup*, while *lease* lasts: the paths without one are not to pay for it."""

    def look(key: Any) -> Any:
        found = lookup(key)
        return found if now() < lease.horizon else None

    return look


class PythonNearAccess(PythonNearReads):
    """And the ``put`` of a client that is nothing but a store.

    Attributes:
        near_puts: how often *put* has written on that path.

    Threads: as of :class:`PythonNearReads`.
    """

    near_puts = 0
    counters: Counters
    _written: Store | None = None

    def write_near(self, store: Store | None, general: Callable[..., bool]) -> None:
        """Put into *store*; for all else call ``general(self, key, value, ttl, ...)``.

        Args:
            store: the client's own, or ``None``.
            general: the ``put`` of any client.
        """
        self._written = store
        self._put = general

    def put(
        self,
        key: Key,
        value: Any,
        ttl: float,
        *,
        keep: float = 0.0,
        max_tiers: int | None = None,
    ) -> bool:
        """Hold *value* for *ttl* seconds; whether it was written.

        A *ttl* of zero or less stores an entry that is stale already; ``FOREVER``
        never expires. *keep* is for how long past that readers of stale values want it.
        """
        if (
            self._written is None
            or max_tiers is not None
            or type(keep) is not float
            or not keep >= 0.0
            or (type(ttl) is not float and type(ttl) is not int)
            or math.isnan(ttl)
        ):
            return self._put(self, key, value, ttl, keep=keep, max_tiers=max_tiers)
        now = self._now()
        written = self._written.put(key, value, now + ttl, now)
        if written:
            self.near_puts += 1
        else:
            self.counters.drops += 1
        return written


if TYPE_CHECKING:
    NearReads = PythonNearReads
    NearAccess = PythonNearAccess
else:
    NearReads = core.NearReads if core else PythonNearReads
    NearAccess = core.NearAccess if core else PythonNearAccess
