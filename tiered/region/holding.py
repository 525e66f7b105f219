"""Who makes a value: the holds that keep others from doing it meanwhile."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Final, Protocol, cast

from tiered.clients.base import Claim
from tiered.concurrency.flight import Flight, Flights
from tiered.dogpile.mutexes import ClaimMutex
from tiered.region.api import CachedValue, CacheMutex, KeyType
from tiered.region.backends.clients import filling
from tiered.region.keeping import Keeping

__all__ = ["HandedOver", "Hold", "Holder", "InOneThread", "Taking", "holder_of"]


class Hold(Protocol):
    """The right to make a value, for now."""

    @property
    def claims(self) -> bool:
        """Whether a write is refused where the right has ended: then each is one of its own."""

    def write(self, value: CachedValue, patience: float) -> None:
        """Keep what was made, if the right still holds."""

    def release(self) -> None:
        """Give it back."""


class Holder(Protocol):
    """Takes holds on one key. Threads: one leader."""

    @property
    def asks(self) -> bool:
        """Whether to take one and to release it may take waiting for another process."""

    def take(self) -> Hold | None:
        """A hold, or ``None`` while somebody else has it."""


class Taking:
    """One attempt to take a hold, whose asker may be gone before it ends: a cancelled task, whose
    thread goes on.

    Threads: safe.
    """

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._lock = threading.Lock()
        self._hold: Hold | None = None
        self._over = False

    def take(self) -> Hold | None:
        """The hold, or ``None`` while somebody else has it."""
        hold = self._holder.take()
        with self._lock:
            over = self._over
            if not over:
                self._hold = hold
        if over and hold is not None:
            hold.release()
            return None
        return hold

    def release(self) -> None:
        """Give back what was taken, and what is being taken as soon as it is; once is enough."""
        with self._lock:
            hold, self._hold, self._over = self._hold, None, True
        if hold is not None:
            hold.release()


class _Free:
    """Of a backend that keeps nobody apart: the flights of the process do."""

    asks = False
    claims = False

    def __init__(self, key: KeyType, keeping: Keeping) -> None:
        self._key = key
        self._keeping = keeping

    def take(self) -> Hold:
        return self

    def write(self, value: CachedValue, patience: float) -> None:
        self._keeping.write({self._key: value}, patience)

    def release(self) -> None:
        pass


class _Mutexed(_Free):
    """Of a backend with a mutex of its own."""

    asks = True

    def __init__(self, key: KeyType, keeping: Keeping, mutex: CacheMutex) -> None:
        super().__init__(key, keeping)
        self._mutex = mutex

    def take(self) -> Hold | None:  # type: ignore[override]  # may have to wait
        # Some say nothing when they were taken; to be refused is False.
        taken = self._keeping.guarded(lambda: self._mutex.acquire(False) is not False, None)
        if taken is None:
            # A mutex that fails keeps nobody from the value: the cache never breaks the call.
            return _Free(self._key, self._keeping)
        return self if taken else None

    def release(self) -> None:
        self._keeping.guarded(self._mutex.release, None)


class _ProxiedClaim(_Mutexed):
    """Of a client behind proxies: they see the write, and it is the fill of the claim."""

    claims = True

    def __init__(self, key: KeyType, keeping: Keeping, mutex: ClaimMutex) -> None:
        super().__init__(key, keeping, cast(CacheMutex, mutex))
        self._claims = mutex

    def write(self, value: CachedValue, patience: float) -> None:
        with filling(self._claims.claim):
            super().write(value, patience)


class _Claiming:
    """Of a client: the claim on the key itself, in one step with the write."""

    asks = True

    def __init__(self, key: KeyType, keeping: Keeping) -> None:
        self._key = key
        self._keeping = keeping

    def take(self) -> Hold | None:
        client = self._keeping.client
        assert client is not None
        failed = object()
        claim: Any = self._keeping.guarded(lambda: client.claim(self._key), failed)
        if claim is failed:
            return _Unkept()
        return None if claim is None else _Claimed(claim, self._keeping)


class _Claimed:
    claims = True

    def __init__(self, claim: Claim, keeping: Keeping) -> None:
        self._claim = claim
        self._keeping = keeping

    def write(self, value: CachedValue, patience: float) -> None:
        self._keeping.fill(self._claim, value, patience)

    def release(self) -> None:
        if not self._claim.released:
            self._keeping.guarded(self._claim.release, False)


class _Unkept:
    """Where no claim could be asked for: nothing is known of deletes either."""

    claims = True

    def write(self, value: CachedValue, patience: float) -> None:
        pass

    def release(self) -> None:
        pass


def holder_of(key: KeyType, keeping: Keeping, *, one_thread: bool = False) -> Holder:
    """What takes holds on *key*.

    Args:
        key: as the backend knows it.
        keeping: of the region.
        one_thread: take and release a stranger's mutex in one thread, for who does not stay
            in one himself: there are mutexes that only the thread that took them can release.
    """
    client = keeping.client
    if client is not None:
        return _Claiming(key, keeping) if client.distributed_lock else _Free(key, keeping)
    mutex = keeping.guarded(lambda: keeping.backend.get_mutex(key), None)
    if mutex is None:
        return _Free(key, keeping)
    if isinstance(mutex, ClaimMutex):
        return _ProxiedClaim(key, keeping, mutex)
    return _Mutexed(key, keeping, InOneThread(mutex) if one_thread else mutex)


class InOneThread(CacheMutex):
    """A mutex whose every hold has a thread of its own, which takes it and releases it.

    Threads: any may release.
    """

    def __init__(self, mutex: CacheMutex) -> None:
        self._mutex = mutex
        self._wanted: threading.Event | None = None
        self._done: threading.Event | None = None

    def acquire(self, wait: bool = True) -> bool:
        wanted, told, done = threading.Event(), threading.Event(), threading.Event()
        outcome: list[Any] = []

        def hold() -> None:
            try:
                taken = self._mutex.acquire(wait)
                outcome.append(taken)
            except Exception as error:
                outcome.append(error)
                taken = False
            told.set()
            if taken is not False:
                wanted.wait()
                try:
                    self._mutex.release()
                finally:
                    done.set()

        threading.Thread(target=hold, name="tiered-hold", daemon=True).start()
        told.wait()
        taken = outcome[0]
        if isinstance(taken, Exception):
            raise taken
        if taken is not False:
            self._wanted, self._done = wanted, done
        return taken is not False

    def release(self) -> None:
        wanted, done = self._wanted, self._done
        self._wanted = None
        if wanted is not None and done is not None:
            wanted.set()
            done.wait()

    def locked(self) -> bool:
        return self._mutex.locked()


class HandedOver(CacheMutex):
    """The right to make one value, given to an ``async_creation_runner``, which releases it.

    A runner that loses it, because its thread has died, has released it too.

    Threads: any may release.
    """

    def __init__(self, flights: Flights, key: KeyType, flight: Flight, hold: Hold) -> None:
        self._flight: Final = flight
        self._finish = weakref.finalize(self, _give_up, flights, key, flight, hold)
        self._finish.atexit = False

    def acquire(self, wait: bool = True) -> bool:
        """Others ask for it through the region; whoever has this object holds it already."""
        return False

    def release(self) -> None:
        self._finish()

    def locked(self) -> bool:
        return not self._flight.ended


def _give_up(flights: Flights, key: KeyType, flight: Flight, hold: Hold) -> None:
    try:
        hold.release()
    finally:
        flights.drop(key, flight)
