"""What the tests of regions have in common: creators that can be held up, backends that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from tiered.region import NO_VALUE, CacheBackend, CachedValue, CacheRegion
from tiered.region.api import BackendArguments, BackendFormatted, BackendSetType, CacheMutex

__all__ = [
    "PATIENCE",
    "DictBackend",
    "FailingBackend",
    "HeldUp",
    "MutexBackend",
    "cached",
    "entered",
    "gathered",
    "in_threads",
]

PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""


class HeldUp:
    """A creator that runs until it is let go, and counts its calls."""

    def __init__(self, value: Any = "made", error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self.calls = 0
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self, *_args: Any) -> Any:
        self.calls += 1
        self.began.set()
        assert self.go.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return self.value


def in_threads(*works: Callable[[], Any]) -> Callable[[], list[Any]]:
    """Start *works*, a thread each; what is returned joins them and gives what they came to."""
    came: list[Any] = [None] * len(works)

    def run(at: int) -> None:
        try:
            came[at] = works[at]()
        except Exception as error:
            came[at] = error

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(len(works))]
    for thread in threads:
        thread.start()

    def join() -> list[Any]:
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread waits for ever"
        return came

    return join


def gathered(*works: Callable[[], Any]) -> list[Any]:
    """What *works* come to, in a thread each."""
    return in_threads(*works)()


def entered(region: CacheRegion, count: int) -> threading.Event:
    """Set when *count* callers have found out that a value is to be made."""
    flights = region.core.flights
    enter, done, lock = flights.enter, threading.Event(), threading.Lock()
    left = count

    def counted(key: Any) -> Any:
        nonlocal left
        answer = enter(key)
        with lock:
            left -= 1
            if left <= 0:
                done.set()
        return answer

    flights.enter = counted  # type: ignore[method-assign]
    return done


class DictBackend(CacheBackend):
    """The least that a backend of the user's must have."""

    def __init__(self, arguments: BackendArguments) -> None:
        self.held: dict[str, Any] = {}

    def get(self, key: str) -> BackendFormatted:
        found: BackendFormatted = self.held.get(key, NO_VALUE)
        return found

    def set(self, key: str, value: BackendSetType) -> None:
        self.held[key] = value

    def delete(self, key: str) -> None:
        self.held.pop(key, None)


class FailingBackend(DictBackend):
    """Raises what it is told to, while it is told to."""

    error: Exception | None = None

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def get(self, key: str) -> BackendFormatted:
        self._check()
        return super().get(key)

    def set(self, key: str, value: BackendSetType) -> None:
        self._check()
        super().set(key, value)

    def delete(self, key: str) -> None:
        self._check()
        super().delete(key)


class MutexBackend(DictBackend):
    """With mutexes that belong to the thread that took them, as some strangers' do."""

    class Mutex(CacheMutex):
        def __init__(self) -> None:
            self._lock = threading.RLock()
            self.owner: int | None = None
            self.taken = 0

        def acquire(self, wait: bool = True) -> bool:
            if self.owner == threading.get_ident() or not self._lock.acquire(wait):
                return False
            self.owner = threading.get_ident()
            self.taken += 1
            return True

        def release(self) -> None:
            assert self.owner == threading.get_ident(), "released in another thread"
            self.owner = None
            self._lock.release()

        def locked(self) -> bool:
            return self.owner is not None

    def __init__(self, arguments: BackendArguments) -> None:
        super().__init__(arguments)
        self.mutexes: dict[str, MutexBackend.Mutex] = {}

    def get_mutex(self, key: str) -> CacheMutex:
        return self.mutexes.setdefault(key, self.Mutex())


def cached(payload: Any, made: float, **more: Any) -> CachedValue:
    """A value as another program would have kept it."""
    metadata: Mapping[str, Any] = {"ct": made, "v": 2, **more}
    return CachedValue(payload, metadata)
