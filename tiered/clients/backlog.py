"""What a client that writes in the background has still to write, and what became of the rest."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from tiered.clients.claims import Claim
from tiered.concurrency import fork
from tiered.concurrency.generations import Generations, Watch
from tiered.concurrency.keyedqueue import KeyedQueue
from tiered.stats.counters import ClientStats
from tiered.stats.reports import Reports
from tiered.typing import Clock

__all__ = ["AsyncWriteStats", "Backlog", "Filling", "Tally"]


@dataclass(frozen=True, slots=True)
class AsyncWriteStats(ClientStats):
    """The counts of a client that writes in the background.

    Attributes:
        queued: keys whose write waits or runs just now.
        written: writes that were done in the background.
        coalesced: writes that a newer one of the same key made needless.
        overflows: writes that the caller had to do because the queue took no more.
        failures: background writes that raised, were refused, or were given up at the end.
    """

    queued: int = 0
    written: int = 0
    coalesced: int = 0
    overflows: int = 0
    failures: int = 0


class Tally:
    """Counts what became of writes, and reports those that were not done.

    The queue's threads know this instead of the client, which they must not keep alive.

    Threads: a count that two threads raise at a time may be counted once.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.coalesced = 0
        self.overflows = 0
        self.failures = 0
        self._name = name
        self._reports = Reports("tiered.clients", clock)

    def failed(self, key: Hashable, error: BaseException | None) -> None:
        """A write was done in vain."""
        self.failures += 1
        why = "it was refused" if error is None else repr(error)
        self._reports.warn("write", "a background write to %s failed: %s", self._name, why)

    def lost(self, count: int) -> None:
        """So many writes were given up."""
        self.failures += count
        self._reports.warn("lost", "%d background writes to %s were given up", count, self._name)

    def overflowed(self) -> None:
        """A caller has to write for himself."""
        self.overflows += 1
        self._reports.warn(
            "overflow", "the queue of %s takes no more: callers write for themselves", self._name
        )


class Filling(NamedTuple):
    """A claim that is being filled, and the watch that tells whether it was revoked since."""

    claim: Claim
    watch: Watch


class Here(threading.local):
    """What the calling thread is filling, and whether a write took its claim over.

    ``refreshes`` is as of the claim that it fills from outside.
    """

    filling: Filling | None = None
    taken: bool = False
    refreshes: bool = False


class Backlog:
    """The queue of one client and of its limited views, renewed in a forked child.

    Attributes:
        queue: the writes, by key.
        generations: revocations against fills that are being queued.
        here: what the calling thread is filling.

    Args:
        size: keys that may wait.
        workers: threads.
        patience: seconds that the interpreter's exit waits for what is queued.
        tally: hears of what becomes of writes.

    Threads: safe. When it is dropped, what is queued is still written.
    """

    def __init__(self, size: int, workers: int, patience: float, tally: Tally) -> None:
        self.tally = tally
        self.generations = Generations()
        self.here = Here()
        self._options = (size, workers, patience)
        self._written = 0
        self._forgotten: weakref.finalize[..., Backlog] | None = None
        self._renew()
        fork.register(self)

    def after_fork(self) -> None:
        """An empty queue: what the parent queued, the parent writes."""
        if self._forgotten is not None:
            self._forgotten.detach()  # a thread of the parent may hold the old queue's lock
        self._written += self.queue.done
        self._renew()

    @property
    def written(self) -> int:
        """Writes that were done."""
        return self._written + self.queue.done

    def _renew(self) -> None:
        size, workers, patience = self._options
        self.queue = KeyedQueue(
            size,
            workers,
            name="tiered-writes",
            failed=self.tally.failed,
            lost=self.tally.lost,
            patience=patience,
        )
        self._forgotten = weakref.finalize(self, self.queue.retire)
        self._forgotten.atexit = False
