"""How often the copies of all nodes are what the shared tier holds, measured.

Now and then a node takes one of its own changes, waits a second, and asks all others by
name. Each looks at its copy, if it has one that it would serve, and compares it with the shared
tier. A copy that differs may be on its way out: it counts as wrong only if it is there
still a beat later. So does a copy of what is not in the shared tier at all, once that tier has
answered something meanwhile: else it may just be down. The share of right answers is the
cluster's coherence, as it is, not as it was proved to be; Facebook's Polaris made the idea known.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from tiered.clients.base import CacheClient, Entry
from tiered.coherence.ledger import Held
from tiered.coherence.messages import MOST_NAME, NODE_SIZE
from tiered.sentinels import MISSING

__all__ = ["ConsistencyMeter", "Doubt", "MeterStats", "Probe"]

RIGHT: Final = 1
WRONG: Final = 2
UNKNOWN: Final = 3
_DOUBTFUL: Final = 0
_ABSENT: Final = -1

_WAIT: Final = 1.0
"""Seconds between a change and the question."""
_MOST: Final = 64
"""Samples that wait, and copies that are to be looked at again."""
_PATIENCE: Final = 3.0
"""Seconds to wait for a sign of life of a shared tier that has nothing for a copy."""
_VERDICT: Final = struct.Struct(">B")


@dataclass(frozen=True, slots=True)
class MeterStats:
    """What was asked and answered.

    Attributes:
        asked: changes that others were asked about from here.
        right: answers by nodes that served the right copy, or none.
        wrong: answers by nodes that served another one.
        unknown: answers by nodes that could not tell.
    """

    asked: int = 0
    right: int = 0
    wrong: int = 0
    unknown: int = 0

    @property
    def share(self) -> float:
        """Of the answers that could tell, the right ones; 1 where there was none."""
        told = self.right + self.wrong
        return self.right / told if told else 1.0

    @property
    def nines(self) -> float:
        """The same as a number of nines: 3 for 99.9 %; ``inf`` where nothing was wrong."""
        return -math.log10(1 - self.share) if self.wrong else math.inf


class Probe(NamedTuple):
    """A question: do you hold what is under *name*, asks *node*."""

    node: bytes
    name: bytes

    def packed(self) -> bytes:
        """As the name of an event."""
        return self.node + self.name

    @classmethod
    def unpacked(cls, data: bytes) -> Probe:
        """The inverse of :meth:`packed`."""
        return cls(data[:NODE_SIZE], data[NODE_SIZE:])


class Doubt(NamedTuple):
    """A copy that was not what the shared tier held, and who asked.

    Attributes:
        since: when that was found (monotonic).
        absent: whether the shared tier held nothing, or did not answer.
    """

    probe: Probe
    held: Held
    entry: Entry
    since: float
    absent: bool


class ConsistencyMeter:
    """Samples, questions and answers of one node.

    Args:
        every: one of so many changes is sampled; 0 for none.

    Threads: safe; a count may be lost where two threads count at a time.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen = 0
        self._samples: deque[tuple[float, bytes]] = deque(maxlen=_MOST)
        self._doubts: deque[Doubt] = deque(maxlen=_MOST)
        self._asked = 0
        self._answers = {RIGHT: 0, WRONG: 0, UNKNOWN: 0}

    # -- Asking --------------------------------------------------------------------

    def changed(self, name: bytes, now: float) -> None:
        """This node has changed what lies under *name*."""
        if not self._every or len(name) > MOST_NAME - NODE_SIZE:
            return
        self._seen += 1
        if self._seen % self._every == 1 or self._every == 1:
            self._samples.append((now + _WAIT, name))

    def due(self, now: float) -> list[bytes]:
        """The names that are to be asked about now."""
        names = []
        while self._samples and self._samples[0][0] <= now:
            names.append(self._samples.popleft()[1])
        self._asked += len(names)
        return names

    def answered(self, payload: bytes) -> None:
        """Another node's answer has come."""
        if len(payload) == _VERDICT.size:
            verdict = _VERDICT.unpack(payload)[0]
            if verdict in self._answers:
                self._answers[verdict] += 1

    # -- Answering -----------------------------------------------------------------

    def judge(
        self,
        probe: Probe,
        held: Held | None,
        entry: Entry | None,
        shared: CacheClient | None,
        now: float,
    ) -> bytes | None:
        """The answer to *probe*, or ``None`` if there is to be another look at it.

        Asks the shared tier.

        Args:
            held, entry: the record and the copy that would be served now; ``None`` for none.
        """
        if held is None or entry is None:
            return _VERDICT.pack(RIGHT)
        verdict = UNKNOWN if shared is None else _compared(held, entry, shared)
        if verdict not in (_DOUBTFUL, _ABSENT):
            return _VERDICT.pack(verdict)
        self._doubts.append(Doubt(probe, held, entry, now, verdict == _ABSENT))
        return None

    def settled(
        self, now: float, served: Callable[[Doubt], bool], answered: float
    ) -> Iterator[tuple[Probe, bytes]]:
        """The answers after another look.

        Args:
            served: whether the copy would be served still.
            answered: when (monotonic) the shared tier was asked what it has answered last.
        """
        for _ in range(len(self._doubts)):
            doubt = self._doubts.popleft()
            if not served(doubt):
                verdict = RIGHT
            elif not doubt.absent or answered >= doubt.since:
                verdict = WRONG
            elif now - doubt.since < _PATIENCE:
                self._doubts.append(doubt)
                continue
            else:
                verdict = UNKNOWN
            yield doubt.probe, _VERDICT.pack(verdict)

    @property
    def stats(self) -> MeterStats:
        """A frozen snapshot."""
        answers = self._answers
        return MeterStats(self._asked, answers[RIGHT], answers[WRONG], answers[UNKNOWN])


def _compared(held: Held, entry: Entry, shared: CacheClient) -> int:
    version = held.version
    if version is not None:
        current = shared.version(held.key)
        if current is None:
            return _ABSENT
        return RIGHT if current == version else _DOUBTFUL
    there = shared.entry(held.key)
    value = MISSING if there is None else there.value
    if value is MISSING:
        return _ABSENT
    try:
        return RIGHT if bool(value == entry.value) else _DOUBTFUL
    except Exception:  # of the value's own comparison
        return UNKNOWN
