"""Clients that fail, wait or write down what is asked of them."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tiered.clients.base import ALWAYS, CacheClient, Capabilities, Condition, Entry, Versioned
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.revision import Lease
from tiered.clients.wrapper import Wrapper
from tiered.testing import ManualClock
from tiered.typing import Following, Horizon, Key, OnChange


class FailingClient(Wrapper):
    """Raises what it is told to, in every operation, while it is told to."""

    def __init__(self, client: CacheClient, error: Exception | None = None) -> None:
        super().__init__(client)
        self.error = error

    def inner_key(self, key: Key) -> Key:
        if self.error is not None:
            raise self.error
        return key

    def sweep(self, before: float | None) -> int:
        self.inner_key(None)
        return super().sweep(before)


class RecordingClient(Wrapper):
    """Writes down the primitives that are called."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.calls: list[tuple[Any, ...]] = []

    def entry(self, key: Key) -> Entry | None:
        self.calls.append(("entry", key))
        return super().entry(key)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        wanted = list(keys)
        self.calls.append(("entries", *wanted))
        return super().entries(wanted)

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        self.calls.append(("store", key, value))
        return super().store(key, value, deadline, keep=keep, condition=condition)

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        self.calls.append(("store_many", *items))
        return super().store_many(items, deadline, keep=keep)

    def discard(self, key: Key) -> bool:
        self.calls.append(("discard", key))
        return super().discard(key)

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wanted = list(keys)
        self.calls.append(("discard_many", *wanted))
        return super().discard_many(wanted)


class RemoteFake(Wrapper):
    """Memory that behaves like a server: shared, blocking, never near.

    Several of these around one client are the clients of several processes.
    """

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)

    def entry(self, key: Key) -> Entry | None:
        return self._copied(super().entry(key))

    def near(self, key: Key) -> Entry | None:
        return None

    @property
    def authority(self) -> CacheClient:
        return self

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(shared=True, near=False, blocking=True, clearable=False)

    @staticmethod
    def _copied(entry: Entry | None) -> Entry | None:
        return None if entry is None else Entry(entry.value, entry.deadline)


class VersionedFake(RemoteFake):
    """And it tells the versions of what it holds: each change by any of them is a new number."""

    def version(self, key: Key) -> object | None:
        return None if self.client.entry(key) is None else self._versions.get(key)

    def versioned(self, key: Key) -> Versioned:
        entry = self.entry(key)
        return Versioned(entry, None if entry is None else self._versions.get(key))

    @property
    def _versions(self) -> dict[Key, int]:
        versions: dict[Key, int] = self.client.attachments.setdefault("versions", {})
        return versions

    def _changed(self, *keys: Key) -> None:
        counter: Iterator[int] = self.client.attachments.setdefault("changes", itertools.count(1))
        for key in keys:
            self._versions[key] = next(counter)

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        self._changed(key)
        return super().store(key, value, deadline, keep=keep, condition=condition)

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        self._changed(*items)
        return super().store_many(items, deadline, keep=keep)

    def touch(self, key: Key, deadline: float) -> bool:
        moved = super().touch(key, deadline)
        if moved:
            self._changed(key)
        return moved

    def outdate(self, key: Key) -> bool:
        self._changed(key)
        return super().outdate(key)

    def clear(self) -> None:
        CacheClient.clear(self)  # refuses

    def revoke(self, key: Key) -> None:
        self._changed(key)  # as it is on a server
        super().revoke(key)


class TellingFake(RemoteFake):
    """And those that follow a key hear when another of them decrees, or changes it.

    Attributes:
        lease: of all who follow through this one; believed until its horizon is moved.
    """

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.lease = Lease()
        self.lease.horizon = math.inf

    @property
    def followers(self) -> list[tuple[TellingFake, Key, OnChange]]:
        """Who follows what, by which of them."""
        everybody: list[Any] = self.client.attachments.setdefault("followers", [])
        return everybody

    def follow(self, key: Key, changed: OnChange) -> Following:
        follower = (self, key, changed)
        self.followers.append(follower)
        return _Followed(self.lease, lambda: self.followers.remove(follower))

    def tell(self, key: Key, how: str = "changed") -> None:
        """Have the others hear of it."""
        for fake, followed, changed in list(self.followers):
            if fake is not self and followed == key:
                changed(how)

    def decree(self, key: Key, value: Any) -> None:
        super().decree(key, value)
        self.tell(key)

    def discard(self, key: Key) -> bool:
        found = super().discard(key)
        self.tell(key)
        return found


class _Followed(NamedTuple):
    lease: Horizon
    close: Callable[[], None]


class Interposed(Wrapper):
    """Runs a function right after each read of an entry: the moment when others may write."""

    def __init__(self, client: CacheClient, after_read: Callable[[], None] = lambda: None) -> None:
        super().__init__(client)
        self.after_read = after_read

    def entry(self, key: Key) -> Entry | None:
        entry = super().entry(key)
        self.after_read()
        return entry

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        entries = super().entries(keys)
        self.after_read()
        return entries


def inproc(clock: ManualClock, size: float = 100) -> InprocCacheClient:
    return InprocCacheClient(size, clock=clock)


def together(work: Callable[[int], Any], count: int) -> list[Any]:
    """*work* in *count* threads that start at one moment; what each returned or raised."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread is stuck"
    return results


class Held:
    """A job that says when it has started, and ends when it is told to."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self.go.wait(20)
        return "done"


def until(condition: Callable[[], object], patience: float = 20.0) -> None:
    """Wait for what another thread does at its own time."""
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends, "it does not happen"
        time.sleep(0.001)


def waiting(function: Any) -> int:
    """How many threads wait for a computation of the cached *function*."""
    running = list(function._core.engine.flights._running.values())
    return sum(len(flight._landed._cond._waiters) for flight in running)
