"""What the threads of one process of a soak share: its client, its function, its memory."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bench.soak_board import Board
from bench.soak_truth import Floor, Truth, Value, payload_of
from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient, cached
from tiered.clients.base import CacheClient
from tiered.decorators.plan import NO_NAMESPACE

__all__ = ["CLAIM_TTL", "TTL", "Event", "Process", "Report", "Settings", "Underway"]

TTL: Final = 30.0
CLAIM_TTL: Final = 3.0
REMEMBERED: Final = 300
"""Events of each key that a process keeps."""
LARGE: Final = 3_000_000


@dataclass(frozen=True)
class Settings:
    """What a process is to do.

    Attributes:
        tiers: with a tier in memory in front, which may be *near_ttl* seconds behind.
        large: every how manieth key has values of 3 MB; 0 for none.
        forget: one delete of so many does nothing, to see that the checker notices; 0 for none.
        namespace: whether the keys lie in a namespace, as cached functions have it by default.
    """

    addresses: tuple[str, ...]
    secret: str
    prefix: str
    seed: int
    threads: int
    tiers: bool = False
    near_ttl: float = 0.0
    large: int = 0
    forget: int = 0
    namespace: bool = True


class Event(NamedTuple):
    """Something that was done with a key, and what came of it; the time is monotonic."""

    at: float
    who: str
    what: str


@dataclass
class Report:
    """What a process has to tell at the end.

    Attributes:
        faults: by key, the first one.
        histories: of the keys that had a fault in any process.
        stuck: names of the threads that did not end.
    """

    faults: dict[int, Event] = field(default_factory=dict)
    histories: dict[int, list[Event]] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    stats: str = ""


class Forgetful(MemcachedClient):
    """A client with a bug: one delete of *one_in* is not sent."""

    one_in = 1000

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._now = threading.local()

    def revoke(self, key: Any) -> None:
        """The first half of a delete decides for both."""
        self._now.forgets = random.randrange(self.one_in) == 0
        if not self._now.forgets:
            super().revoke(key)

    def discard(self, key: Any) -> bool:
        return not getattr(self._now, "forgets", False) and super().discard(key)


class Underway:
    """The calls that are running in this process, and what each must not fall below.

    A call may share the answer of one that began before it, and before a delete in another
    process, of which nobody here can know. So it is held to what that one was held to.

    Threads: safe.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._lock = threading.Lock()
        self._floors: dict[int, dict[object, Floor]] = {}

    @contextmanager
    def calls(self, keys: Iterable[int]) -> Iterator[dict[int, Floor]]:
        """Calls for *keys*; their floors."""
        me, floors = object(), {}
        with self._lock:
            for key in keys:
                others = self._floors.setdefault(key, {})
                own = self._truth.floor(key)
                floors[key] = own.lowered(others.values())
                others[me] = own
        try:
            yield floors
        finally:
            with self._lock:
                for key in floors:
                    del self._floors[key][me]


class Process:
    """What the threads of one process share."""

    def __init__(self, number: int, settings: Settings, truth: Truth, board: Board) -> None:
        self.number = number
        self.settings = settings
        self.truth = truth
        self.board = board
        self.report = Report()
        self.underway = Underway(truth)
        self.computed = threading.local()
        self._histories = [deque[Event](maxlen=REMEMBERED) for _ in range(truth.keys)]
        self.remote = self._remote()
        client: CacheClient = self.remote
        if settings.tiers:
            near = InprocCacheClient(truth.keys)
            fractions = (settings.near_ttl / TTL, 1.0)
            client = TieredInclusiveClient(near, client, ttl_fractions=fractions)
        self.function = cached(
            client,
            TTL,
            namespace="soak" if settings.namespace else NO_NAMESPACE,
            claim_ttl=CLAIM_TTL,
        )(self._compute)

    def _remote(self) -> MemcachedClient:
        settings = self.settings
        kind: type[MemcachedClient] = MemcachedClient
        if settings.forget:
            kind, Forgetful.one_in = Forgetful, settings.forget
        return kind(settings.addresses, checksum_key=settings.secret, prefix=settings.prefix)

    def value(self, key: int, version: int, source: str) -> Value:
        """What is to be stored for *key* at *version*."""
        large = self.settings.large and key % self.settings.large == 0
        size = LARGE if large else 100
        return Value(key, version, source, self.who(), payload_of(key, version, size))

    def _compute(self, key: int) -> Value:
        version = self.truth.version(key)
        self.computed.keys.append(key)
        self.note(key, f"computes {version}")
        # Long enough for deletes to come in between; now and then for many.
        time.sleep(random.choice((0.0, 0.001, 0.001, 0.02)))
        return self.value(key, version, "computation")

    def who(self) -> str:
        """This thread's name."""
        return threading.current_thread().name

    def note(self, key: int, what: str) -> None:
        """Add to the history of *key*, unless that has come to its end."""
        if not self.truth.flagged(key):
            self._histories[key].append(Event(time.monotonic(), self.who(), what))

    def fault(self, key: int, what: str) -> None:
        """Remember the first fault of *key*."""
        if key not in self.report.faults:
            self.report.faults[key] = Event(time.monotonic(), self.who(), what)
        self.truth.flag(key)

    def histories(self) -> dict[int, list[Event]]:
        """Of all keys with a fault."""
        return {
            key: list(history)
            for key, history in enumerate(self._histories)
            if self.truth.flagged(key)
        }
