"""Protocols that strangers implement, and the types that the whole package shares."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from tiered.entry import ALWAYS, Condition, Entry

__all__ = [
    "Clock",
    "Following",
    "Horizon",
    "HotPath",
    "Key",
    "KeyWatch",
    "Lockable",
    "OnChange",
    "OnEvict",
    "PromoteCallback",
    "Store",
    "Weigher",
]

Key: TypeAlias = Hashable
"""Any hashable object; for a client that leaves the process, one with a canonical form."""

Weigher: TypeAlias = Callable[[Any, Any], float]
"""``weigher(key, value)`` -> the share of the capacity that the entry takes, >= 0."""

OnEvict: TypeAlias = Callable[[Any, Any, str], object]
"""``on_evict(key, value, cause)``; *cause* is ``"size"`` or ``"expired"``."""

OnChange: TypeAlias = Callable[[str], object]
"""``changed(how)``: others have been at a key. *How* is ``"changed"``, ``"done"`` (a claim has
ended), or another word, which is to be ignored."""

PromoteCallback: TypeAlias = Callable[[Any, Any, float], object]
"""``callback(key, value, ttl)``: the value was copied to a nearer tier."""


@runtime_checkable
class Clock(Protocol):
    """The source of time that a client is given."""

    def monotonic(self) -> float:
        """Seconds that never go back; comparable inside one process only."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, comparable (about) with other machines."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""
        ...


class Lockable(Protocol):
    """What ``with`` takes and the synchronising clients use: a lock."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc: Any) -> Any: ...


class Horizon(Protocol):
    """Something that is believed for a while, as :class:`tiered.clients.revision.Lease` is."""

    @property
    def horizon(self) -> float:
        """Until when (monotonic, seconds); ``-inf`` for not now, ``inf`` for good."""
        ...


class Following(Protocol):
    """What :meth:`tiered.clients.base.CacheClient.follow` gives. Threads: safe."""

    @property
    def lease(self) -> Horizon:
        """Silence means that nothing has changed only while ``now < lease.horizon``."""
        ...

    def close(self) -> None:
        """Hear no more; calls that are under way may still come. Once is enough."""
        ...


class KeyWatch(Protocol):
    """A look at a key while its value is made; a context manager. Threads: one."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc: Any) -> Any: ...

    def publish(self, copy: Callable[[], object]) -> bool:
        """Run *copy*, unless the key was changed since this was entered; whether it ran."""
        ...


class HotPath(NamedTuple):
    """The leanest way to an entry, for those who count nanoseconds.

    ``entry(key)`` equals ``lookup(key)`` and, if something is found, what notes the use of it.

    Attributes:
        lookup: gives what is held, fresh or stale, or ``None``.
        note: to be called with ``found.place`` on a hit; raises ``KeyError`` if the entry
            has just gone. ``None`` where there is nothing to call.
        counts: on a hit, ``found.uses += 1``.
        store: the compiled store itself, to those who can read it; else ``None``.
        lease: what is found counts only while ``now < lease.horizon``, a
            :class:`tiered.clients.revision.Lease`; after that the client is to be asked.
            ``None`` for a path that always counts.
    """

    lookup: Callable[[Any], Entry | None]
    note: Callable[[Any], None] | None = None
    counts: bool = False
    store: Any = None
    lease: Horizon | None = None


class Store(Protocol):
    """An in-process collection of entries with a bound.

    Threads: every method may be called from any thread at any time. User code
    (weighers, eviction callbacks, finalisers of values) runs outside its locks.
    """

    @property
    def capacity(self) -> float: ...

    @property
    def usage(self) -> float: ...

    def entry(self, key: Key) -> Entry | None:
        """What is held, fresh or stale; counts as a use for the eviction policy."""
        ...

    def hot_path(self) -> HotPath:
        """The parts of :meth:`entry`."""
        ...

    def put(
        self, key: Key, value: Any, deadline: float, now: float, condition: Condition = ALWAYS
    ) -> bool:
        """Hold *value*; whether it did (not if *condition* forbids, or it is too heavy)."""
        ...

    def touch(self, key: Key, deadline: float) -> bool:
        """Move the deadline out to *deadline*; whether it moved."""
        ...

    def expire(self, key: Key, now: float) -> bool:
        """Move the deadline in to *now*; whether there was a later one."""
        ...

    def remove(self, key: Key) -> bool: ...

    def sweep(self, before: float) -> int:
        """Remove what has a deadline before *before*; how many."""
        ...

    def clear(self) -> int: ...

    def __len__(self) -> int: ...
