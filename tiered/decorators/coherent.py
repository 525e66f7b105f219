"""``coherent_cached``: the decorator over a private and a shared tier that a bus keeps in step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiered.clients.base import CacheClient
from tiered.clients.null import NullCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.coherence.bus import Bus
from tiered.coherence.client import CoherentWrapperClient
from tiered.coherence.manager import CoherenceManager
from tiered.decorators.cached import CachedDecorator, cached

__all__ = ["coherent_cached"]

_TOPIC = "tiered"


def coherent_cached(
    private: CacheClient,
    shared: CacheClient | None,
    bus: Bus,
    ttl: Any,
    *,
    topic: str = _TOPIC,
    ttl_fractions: Sequence[float] | None = None,
    quick_refresh: bool = False,
    synchronous: bool = False,
    timeout: float = 5.0,
    wait_time: float = 10.0,
    **options: Any,
) -> CachedDecorator:
    """:func:`tiered.cached` over two tiers: the private one, kept in step, before the shared one.

    What one process invalidates, expires, puts or clears, all others drop from their
    private tiers; a value is computed by one process at a time, and those who wait for it are
    woken. While a process does not hear from the bus, it confirms what it holds before it uses
    it (:doc:`docs/explanation/coherence.md` states what is guaranteed).

    Functions with the same clients, bus and options have one client between them.

    Args:
        private: this process's own client, ``InprocCacheClient`` usually.
        shared: what all processes share, ``MemcachedClient`` usually; ``None`` for none: what
            cannot be believed is computed again then.
        bus: started when the first call needs it, if it is not.
        ttl, options: as of :func:`tiered.cached`.
        topic: the same in all processes; apart from others' on the same bus.
        ttl_fractions: the share of a life that each of the two tiers gets.
        quick_refresh, synchronous, timeout: as of :class:`tiered.coherence.CoherenceManager`.
        wait_time: seconds for which a caller waits for another process to compute a value,
            before it does that itself.

    Raises:
        TypeError, ValueError: an option that cannot be right.
    """
    client = _client(
        private,
        None if isinstance(shared, NullCacheClient) else shared,
        bus,
        topic,
        None if ttl_fractions is None else tuple(ttl_fractions),
        quick_refresh=quick_refresh,
        synchronous=synchronous,
        timeout=timeout,
        wait_time=wait_time,
    )
    return cached(client, ttl, wait_time=wait_time, **options)


def _client(
    private: CacheClient,
    shared: CacheClient | None,
    bus: Bus,
    topic: str,
    fractions: Sequence[float] | None,
    **options: Any,
) -> CoherentWrapperClient:
    """The one coherent client of these, however many functions use it."""
    manager = CoherenceManager(topic, private, shared, bus, **options)
    known = (CoherentWrapperClient, id(shared), id(bus), topic, fractions, *options.values())
    client: CoherentWrapperClient | None = private.attachments.get(known)
    if client is None:
        core = (
            private
            if shared is None
            else TieredInclusiveClient(private, shared, ttl_fractions=fractions)
        )
        # Of several first callers all get the same one; it keeps the ids in use.
        made = CoherentWrapperClient(core, manager)
        client = private.attachments.setdefault(known, made)
    return client
