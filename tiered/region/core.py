"""One configured region's parts, put together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tiered.concurrency.flight import Flights
from tiered.concurrency.pool import WorkerPool
from tiered.region.api import CacheBackend, CachedValue, Deserializer, KeyType, Serializer
from tiered.region.backends.clients import ClientBackend
from tiered.region.backends.memory import MemoryBackend
from tiered.region.backends.null import NullBackend
from tiered.region.creation import Creation
from tiered.region.freshness import Freshness
from tiered.region.holding import holder_of
from tiered.region.invalidation import RegionInvalidationStrategy
from tiered.region.keeping import Keeping
from tiered.region.many import ManyCreation
from tiered.region.refreshing import Refresh
from tiered.stats.reports import Reports
from tiered.steps.awaiting import Awaiting
from tiered.steps.blocking import Blocking
from tiered.steps.counting import CallCounters
from tiered.steps.pooled import Pooled
from tiered.typing import Clock

__all__ = ["RegionCore"]


class RegionCore:
    """A backend, what reads and writes it, and what makes values.

    Args:
        backend: the outermost one.
        actual: the innermost one.
        serializer, deserializer: of payloads; ``None`` for the backend's own.
        strategy: what ``invalidate()`` means.
        clock: the source of time.
        pool: for what an event loop cannot wait for.
        counters: of the region.
        name: of the region, for reports.

    Threads: safe.
    """

    def __init__(
        self,
        backend: CacheBackend,
        actual: Any,
        *,
        serializer: Serializer | None,
        deserializer: Deserializer | None,
        strategy: RegionInvalidationStrategy,
        clock: Clock,
        pool: WorkerPool,
        counters: CallCounters,
        name: str,
    ) -> None:
        self.backend: Final = backend
        self._clock = clock
        if serializer or deserializer or backend is actual or not isinstance(actual, ClientBackend):
            serializer = serializer or actual.serializer
            deserializer = deserializer or actual.deserializer
        # Else the proxies see values, as around dogpile.cache's memcached backends, and the
        # backend makes bytes of them by itself.
        self.follow(strategy)
        self.flights: Final = Flights()
        reports = Reports("tiered.region", clock)
        self.keeping: Final = Keeping(
            backend,
            serializer=serializer,
            deserializer=deserializer,
            clock=clock,
            counters=counters,
            reports=reports,
            strategy=lambda: self.freshness.strategy,
        )
        pooled = Pooled(
            _called,
            sleep=clock.sleep,
            pool=pool,
            flights=self.flights,
            elsewhere=False,
            name=name,
            reports=reports,
        )
        self.blocking: Final = Blocking(_called, clock.sleep, pooled, False)
        self.awaiting: Final = Awaiting(
            self.made,
            awaits=True,
            blocking=self._blocks(actual),
            pooled=pooled,
            flights=self.flights,
        )
        self.creation: Final = Creation(
            self.keeping,
            freshness=lambda: self.freshness,
            flights=self.flights,
            # An event loop does not stay in one thread.
            holder=lambda key, on_loop: holder_of(key, self.keeping, one_thread=on_loop),
            clock=clock,
            counters=counters,
            reports=reports,
            keeps=not isinstance(actual, NullBackend),
        )
        self.many: Final = ManyCreation(self.creation)

    def follow(self, strategy: RegionInvalidationStrategy) -> None:
        """Invalidate as *strategy* does."""
        self.freshness = Freshness(strategy, self._clock)

    def _blocks(self, actual: Any) -> bool:
        if self.keeping.client is not None:
            return self.keeping.client.capabilities.blocking
        # Any other but these two may ask a server, or a disk.
        return not isinstance(actual, (MemoryBackend, NullBackend))

    async def made(self, creator: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What *creator* makes; in a thread if it is no coroutine function."""
        if inspect.iscoroutinefunction(creator):
            return await creator(*args, **kwargs)
        made = await self.awaiting.in_thread(lambda: creator(*args, **kwargs))
        return await made if inspect.isawaitable(made) else made

    # -- Changes -----------------------------------------------------------------

    def put(self, payloads: Mapping[KeyType, Any], patience: float, *, many: bool = False) -> None:
        """Keep *payloads*, in place of what is being made for their keys."""
        if not payloads:
            return

        def put() -> None:
            metadata = self.keeping.stamp(self.keeping.revision(confirmed=True))
            values = {key: CachedValue(one, metadata) for key, one in payloads.items()}
            self.keeping.write(values, patience, many=many)

        self._change(list(payloads), put)

    def refresh(self, keys: Iterable[KeyType], patience: float) -> Refresh:
        """Values of *keys* that are made anew, and out of date after *patience* seconds."""
        return Refresh(self.flights, self.keeping, keys, patience)

    def forget(self, keys: Sequence[KeyType], *, many: bool = False) -> None:
        """Delete *keys*; what is being made for them will not be kept."""
        self._change(keys, lambda: self.keeping.forget(keys, many=many))

    def _change(self, keys: Iterable[KeyType], change: Callable[[], None]) -> None:
        for key in keys:
            self.flights.supersede(key)
        try:
            change()
        finally:
            # One that was entered meanwhile may have found what was there before: who asks
            # from now on must not join it, nor wait for its claim.
            for key in keys:
                if self.flights.supersede(key):
                    self._revoke(key)

    def _revoke(self, key: KeyType) -> None:
        client = self.keeping.client
        if client is not None and client.distributed_lock:
            self.keeping.guarded(lambda: client.client.revoke(key), None)

    def invalidate(self, hard: bool) -> None:
        """Make invalid what has been made so far, and what is being made."""
        self.flights.supersede_all()
        try:
            self.freshness.strategy.invalidate(hard)
        finally:
            self.flights.supersede_all()  # as in _change

    # -- Looks -------------------------------------------------------------------

    def is_locked(self, key: KeyType) -> bool:
        """Whether somebody makes the value of *key* just now."""
        if key in self.flights:
            return True
        mutex = self.keeping.guarded(lambda: self.backend.get_mutex(key), None)
        return mutex is not None and bool(self.keeping.guarded(mutex.locked, False))


def _called(creator: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    made = creator(*args, **kwargs)
    if inspect.iscoroutine(made):  # which nobody but the first caller could await
        made.close()
        raise TypeError(
            f"the creator {creator!r} returned a coroutine; use the region's operations for event "
            f"loops, such as await region.aio.get_or_create(key, creator)"
        )
    return made
