"""``get`` of clients that find most of what they are asked for in their own memory.

Such a ``get`` is one lookup without detours: one Python frame, or none where the compiled
core is in use and the entries lie in one of its stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiered.acceleration import core
from tiered.sentinels import MISSING
from tiered.typing import HotPath, Key, PromoteCallback

__all__ = ["NearReads", "PythonNearReads"]


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
        self._general = general
        self._now = now
        if path is not None:
            self._lookup, self._note, self._counts, _ = path

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
        return self._general(
            self,
            key,
            default,
            ttl_skip=ttl_skip,
            promote_callback=promote_callback,
            max_tiers=max_tiers,
        )


if TYPE_CHECKING:
    NearReads = PythonNearReads
else:
    NearReads = core.NearReads if core else PythonNearReads
