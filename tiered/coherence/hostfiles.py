"""One process of a host that hears of changes keeps the files of all of them in step.

The others read through a ``FilesCacheClient`` and take no part in the bus. What they may find
there is as old as this process lets it be:

* An event reaches the files when it is heard.
* Somebody may have read the value from the shared tier before the change, and write it to the
  files after that. So each change is done a second time, a second later.
* Without a broker, after events were lost, and at the beginning, everything is made stale: then
  whoever reads asks the shared tier, as he does for what is not there. While there is no broker
  that is done again and again, for what was written meanwhile.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tiered.clients.files import FilesCacheClient
from tiered.coherence.bus import Bus
from tiered.coherence.messages import Event, Kind
from tiered.coherence.names import topic_of
from tiered.errors import StorageError

__all__ = ["HostFiles", "HostFilesStats"]

_log: Final = logging.getLogger("tiered.coherence")

_AGAIN: Final = 1.0
"""Seconds after which each change is done once more."""
_MOST: Final = 100_000
"""Changes that wait."""
_SHARE: Final = 4
"""While nobody can be believed, of so much time a part is spent on making everything stale."""


@dataclass(frozen=True, slots=True)
class HostFilesStats:
    """What was done to the files.

    Attributes:
        heard: events of our namespaces that meant something to files.
        discarded: of the keys that were to go, how many were there.
        outdated: values that were made stale by an event.
        doubted: values that were made stale because events may be missing.
        doubts: how often that happened.
    """

    heard: int = 0
    discarded: int = 0
    outdated: int = 0
    doubted: int = 0
    doubts: int = 0


class HostFiles:
    """Keeps *files* in step with what happens in *namespaces*.

    Args:
        files: those of the host; how much they may take is up to their users.
        bus: tells; is started and closed by its owner.
        namespaces: the topics of those that write through these files.

    Threads: safe. All work on files is done in a thread of its own, which :meth:`start` begins.
    """

    def __init__(self, files: FilesCacheClient, bus: Bus, namespaces: Iterable[str]) -> None:
        if isinstance(namespaces, str):
            raise TypeError(f"namespaces must be a list such as ['tiered'], not {namespaces!r}")
        self._files = files
        self._bus = bus
        self._now = files.clock.monotonic
        self._ears = [_Ear(self, topic_of(namespace)) for namespace in namespaces]
        if not self._ears:
            raise ValueError("namespaces must name at least one, not []")
        self._heard: deque[tuple[Kind, bytes]] = deque()
        self._again: dict[bytes, tuple[float, Kind]] = {}
        """By name, in the order of time."""
        self._until = -math.inf
        self._doubtful = False
        self._doubt_at = math.inf
        self._look_again_at = math.inf
        self._waiting = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._events = self._discarded = self._outdated = self._doubted = self._doubts = 0

    def attend(self) -> None:
        """Hear, for who calls :meth:`work` himself."""
        self._doubt_at = self._now() + 2 * self._bus.detection
        for ear in self._ears:
            self._bus.join(ear)

    def start(self) -> None:
        """Hear, and work."""
        self.attend()
        self._thread = threading.Thread(target=self._run, name="tiered-files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more; what was heard is done first."""
        for ear in self._ears:
            self._bus.leave(ear)
        self._stopped = True
        self._waiting.set()
        if self._thread is not None:
            self._thread.join()

    # -- For the bus ---------------------------------------------------------------

    def hear(self, events: Sequence[Event]) -> None:
        """Others have changed something; see :class:`tiered.coherence.bus.Member`."""
        for kind, _, name in events:
            if kind in _CHANGES:
                self._heard.append((kind, name))
        if len(self._heard) > _MOST:
            self._heard.clear()
            self._doubtful = True
        self._waiting.set()

    def distrust(self) -> None:
        """Events may be missing."""
        self._doubtful = True
        self._waiting.set()

    def extend(self, until: float) -> None:
        """We are in step until then."""
        self._until = until

    # -- The work ------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            pause = self._try()
            self._waiting.wait(pause)
            self._waiting.clear()
        self._try()
        if self._doubtful:  # that has failed, and nobody comes after us: once more
            self._try()

    def _try(self) -> float:
        """:meth:`work`; an error makes everything doubtful, and is tried again after a while."""
        try:
            return self.work()
        except StorageError as error:
            _log.error("files are not in step; all are to be made stale: %s", error)
        except Exception:
            _log.exception("files are not in step; all are to be made stale")
        self._doubtful = True
        return _AGAIN

    def work(self) -> float:
        """Do what is due; seconds until there is more, if nothing is heard before."""
        self._follow()
        now = self._now()
        if now < self._until:
            self._doubt_at = self._until + self._bus.detection
        if self._doubtful or now >= self._doubt_at:
            self._doubt()
        now = self._now()
        if now >= self._look_again_at:
            self._doubted += self._files.by_name.outdate_all()
            self._look_again_at = math.inf
        self._do_again(now)
        again = next(iter(self._again.values()))[0] if self._again else math.inf
        due = min(again, self._look_again_at, self._doubt_at, now + _AGAIN)
        return max(0.0, due - self._now())

    def _follow(self) -> None:
        """Do what was heard, each name once."""
        changes: dict[bytes, Kind] = {}
        while self._heard:
            kind, name = self._heard.popleft()
            self._events += 1
            if kind is not Kind.EXPIRE or name not in changes:
                changes[name] = kind
        due = self._now() + _AGAIN
        for name, kind in changes.items():
            self._change(kind, name)
            self._again.pop(name, None)
            self._again[name] = (due, kind)

    def _do_again(self, now: float) -> None:
        while self._again:
            name = next(iter(self._again))
            due, kind = self._again[name]
            if due > now and len(self._again) <= _MOST:
                return
            del self._again[name]
            self._change(kind, name)

    def _change(self, kind: Kind, name: bytes) -> None:
        if kind is Kind.EXPIRE:
            self._outdated += self._files.by_name.outdate(name)
        elif kind is Kind.CLEAR:
            self._discarded += self._files.sweep(None)
        else:
            self._discarded += self._files.by_name.discard(name)

    def _doubt(self) -> None:
        """Make everything stale, and soon what was written meanwhile."""
        self._doubtful = False  # first: what comes meanwhile is to be looked at again
        self._doubts += 1
        began = self._now()
        try:
            self._doubted += self._files.by_name.outdate_all()
        except BaseException:
            self._doubtful = True
            raise
        now = self._now()
        self._look_again_at = now + _AGAIN
        self._doubt_at = now + max(self._bus.detection, _SHARE * (now - began))

    @property
    def stats(self) -> HostFilesStats:
        """A frozen snapshot."""
        return HostFilesStats(
            self._events, self._discarded, self._outdated, self._doubted, self._doubts
        )

    def __repr__(self) -> str:
        return f"<HostFiles of {self._files!r}>"


_CHANGES: Final = frozenset({Kind.DELETE, Kind.EXPIRE, Kind.STORED, Kind.CLEAR})


class _Ear:
    """A member of the bus for one namespace; see :class:`tiered.coherence.bus.Member`."""

    def __init__(self, files: HostFiles, topic: bytes) -> None:
        self._files = files
        self.topic = topic

    def hear(self, events: Sequence[Event]) -> None:
        self._files.hear(events)

    def distrust(self, reason: str) -> None:
        self._files.distrust()

    def extend(self, epoch: int, until: float) -> None:
        self._files.extend(until)

    def accepted(self) -> None:
        """We publish nothing."""

    def overdue(self) -> None:
        """Nor does anything of ours wait."""

    def told(self, node: bytes, payload: bytes) -> None:
        """Questions of meters are for those who serve values."""
