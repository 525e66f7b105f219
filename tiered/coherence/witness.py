"""A record in the shared tier that says whose order of events counts, and when not to trust.

Where more than one broker can exist, each side of a split goes on with one of its own. The
shared tier decides between them: one :class:`Record`, ``epoch.doubt``, names the *epoch in
force*, and carries a random number, the *doubt*, that is another one after each writing.

What follows from that, with ``D`` the detection time:

1. A node serves copies unasked while its lease from the bus lasts, and for ``D`` after the
   beginning of a look that showed its epoch in force (:attr:`Witness.until`).
2. Whoever sees a record that differs from what he saw last distrusts all that he holds. No
   writing brings a former record back, so nobody misses one by not looking in time.
3. Whoever follows an epoch that is not in force writes it, after a pause that doubles each
   time that somebody else's was written over it: two sides do not fight for ever.
4. Whoever cannot bring his events to a broker in time (``Overdue``), or had some accepted by
   an epoch that he does not find in force at his next look, writes a new doubt.

Why this is enough: let an event be accepted in an epoch, and its node look after that. If the
look finds the epoch in force, nobody who follows another one serves longer than ``D`` after
the look, unless a new writing, which makes him distrust, allows it. If the look does not, the
new doubt makes all distrust, ``D`` after it was written at the latest. What is read from the
shared tier after that is not older than the event. It is taken for granted that a writing
takes effect at most once; it may do so late, or not at all.

Where only one broker can exist (*sole*), no second order is to be feared: a look that fails
ends nothing, and what is left of the rules is that a new doubt is heard. That there is only one
is believed until it is disproved, for a file can be removed from under a broker, and a loopback
address is another one on each host. So the epoch is written there too, without a new doubt, by
nodes whose broker has answered since they found another epoch. Where another one was written
over ours twice, and our broker answers what was asked after that was found, there are two: the
witness is strict from then on. Once could be a writing of before a takeover that came late.

A writing that leaves the doubt as it is may come late as well, and bring a former doubt back.
Whoever sees one that he has seen before writes a new one.
"""

from __future__ import annotations

import math
import random
import re
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from tiered.coherence.node import MARGIN

__all__ = ["Record", "Verdict", "Witness"]

_MOST_OFTEN: Final = 6
"""Doublings of the pause: up to 16 detection times."""
_FORM: Final = re.compile("([0-9a-f]{1,16})\\.([0-9a-f]{1,16})")

_PROOF: Final = 2
"""Times that another epoch was written over ours while our broker lived: there are two."""
_REMEMBERED: Final = 16
"""Former doubts that are known when they come back."""


class Record(NamedTuple):
    """What is written.

    Attributes:
        epoch: that is in force; 0 for none.
        doubt: random, another one each time.
    """

    epoch: int
    doubt: int

    @classmethod
    def read(cls, value: object) -> Record:
        """The record that *value* stands for; whatever else lies there names no epoch."""
        form = _FORM.fullmatch(value) if isinstance(value, str) else None
        return cls(0, 0) if form is None else cls(int(form[1], 16), int(form[2], 16))

    def __str__(self) -> str:
        return f"{self.epoch:x}.{self.doubt:x}"


class Verdict(NamedTuple):
    """What a look leads to, in this order.

    Attributes:
        distrust: have all that is held, or being read, confirmed; before ``until`` counts.
        write: make this the record, or ``None``.
    """

    distrust: bool
    write: Record | None


def _fresh() -> int:
    return secrets.randbits(64)


class Witness:
    """What one node knows of the record, and does about it.

    It is told what the bus says, and what each look at the record has found. The next look
    is to begin at :attr:`due`, or earlier.

    Args:
        detection: seconds, as the bus has it.
        sole: whether there can only be one broker at a time, until it is disproved.
        fresh: gives random numbers that nobody else is given.
        spread: gives random numbers from 0 to 1, for pauses that differ from node to node.

    Attributes:
        due: when the next look is to begin (monotonic); ``-inf`` for at once.
        sole: whether only one broker is believed to exist; once false, it stays so.
        sure: the beginning of the newest look that has shown that nobody serves on the word of
            another broker than ours. What all nodes of the bus had applied then, all nodes
            that there are have applied. ``inf`` while :attr:`sole`.

    Threads: one at a time; the caller has a lock.
    """

    def __init__(
        self,
        *,
        detection: float,
        sole: bool,
        fresh: Callable[[], int] = _fresh,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.due = -math.inf
        self.sure = math.inf if sole else -math.inf
        self._detection = detection
        self.sole = sole
        self._fresh = fresh
        self._spread = spread
        self._epoch = 0
        self._lease = -math.inf
        self._seen: Record | None = None
        self._seen_since = math.inf
        self._read = self._hurried = -math.inf
        self._named = False
        """Whether our epoch was in force, as far as we know."""
        self._accepted: float | None = None
        """When events of ours were last accepted, unless our epoch was in force after that."""
        self._doubted: float | None = None
        """When it last turned out that a new doubt must be written."""
        self._base: Record | None = None
        """What is to be replaced by what we have written, and the beginning of the look at it."""
        self._based = self._wrote = -math.inf
        self._overwritten = 0
        self._claims_at = -math.inf
        self._heard = -math.inf
        """When the broker was asked what it has answered last."""
        self._foreign_since = math.inf
        """The beginning of the first look that has found the foreign epoch that is there now."""
        self._shown = False
        """Whether our epoch was seen in the record since another one last was."""
        self._usurped = 0
        self._usurped_at = math.inf
        """The beginning of the look that found another epoch over ours, often enough."""
        self._former: deque[int] = deque(maxlen=_REMEMBERED)

    @property
    def until(self) -> float:
        """Until when (monotonic) copies that are not distrusted may be served unasked."""
        if self.sole:
            return self._lease
        if self._seen is None or self._seen.epoch != self._epoch:
            return -math.inf
        return min(self._lease, self._read + self._detection)

    # -- What the bus says ---------------------------------------------------------

    def extend(self, epoch: int, until: float, now: float) -> None:
        """The bus's lease, on the word of the broker of *epoch*."""
        self._lease = until
        self._heard = until - self._detection
        if epoch == self._epoch:
            if self.sole and self._heard > self._usurped_at:
                self._disproved(now)
            return
        if self._accepted is not None:
            # Who follows the new epoch already has not heard of what the former one accepted.
            self._doubted = now
        self._epoch, self._named, self._accepted = epoch, False, None
        self._claims_at = now + self._spread() * self._detection / 4
        self._shown, self._usurped, self._usurped_at = False, 0, math.inf
        self.hurry(now)

    def _disproved(self, now: float) -> None:
        """There is another broker beside ours, whose nodes may have missed what ours accepted."""
        self.sole = False
        self.sure = -math.inf
        self._seen_since = now
        self._doubted = now
        self.hurry(now)

    def accepted(self, now: float) -> None:
        """Events of this node have been accepted by the broker that it follows."""
        if not self.sole:
            self._accepted = now

    def overdue(self, now: float) -> None:
        """Events of this node wait for acceptance for too long."""
        self._doubted = now
        self.hurry(now)

    def hurry(self, now: float) -> None:
        """Have a look begin at once, whatever one that is under way finds."""
        self._hurried = now
        self.due = -math.inf

    # -- What is found in the shared tier ------------------------------------------

    def proposal(self) -> Record:
        """What to write at the beginning of a look, should there be no record."""
        return Record(self._epoch, self._fresh())

    def looked(self, record: Record | None, began: float, now: float) -> Verdict:
        """A look that began at *began* has found *record*, or ``None``: nobody could be asked."""
        self.due = began + self._detection / 4
        if self._hurried > began:
            self.due = -math.inf
        if record is None:
            return Verdict(False, None)
        distrust = self._see(record, began, now)
        self._read = began
        in_force = record.epoch == self._epoch != 0
        if in_force:
            self._found_in_force(began)
        elif self._named:
            self._named = False
            self._overwritten += 1
            self._claims_at = now + self._pause()
        self._weigh(record, in_force, began)
        write = self._to_write(record, in_force, began, now)
        steady = began - self._seen_since >= self._detection * MARGIN
        if in_force and steady and self._doubted is None and not self.sole:
            self.sure = began
        return Verdict(distrust, write)

    def _see(self, record: Record, began: float, now: float) -> bool:
        """Compare *record* with what was seen last; whether that is a reason to distrust."""
        seen = self._seen
        if seen is None or record.epoch != seen.epoch:
            self._foreign_since = began
        if self._shown and record.epoch not in (0, self._epoch):
            self._shown = False
            self._usurped += 1
            if self._usurped >= _PROOF:
                self._usurped_at = min(self._usurped_at, began)
        if record == seen:
            return False
        self._seen, self._seen_since = record, now
        if seen is not None and record.doubt == seen.doubt:
            return not self.sole
        if record.doubt in self._former:
            self._doubted = began  # who has not looked in between has missed one
        if seen is not None:
            self._former.append(seen.doubt)
        return True

    def _found_in_force(self, began: float) -> None:
        self._named = self._shown = True
        if self._accepted is not None and self._accepted <= began:
            self._accepted = None
        if began - self._seen_since >= self._detection * 2**_MOST_OFTEN / 4:
            self._overwritten = 0

    def _weigh(self, record: Record, in_force: bool, began: float) -> None:
        """Whether a new doubt is needed, or has been written since it was."""
        if self._base is not None and record != self._base:
            # By us or by somebody else: what counts is that all distrust after our look.
            anew = record.doubt != self._base.doubt and record.doubt not in self._former
            if anew and self._doubted is not None and self._doubted <= self._based:
                self._doubted = None
            self._base = None
        if not in_force and self._accepted is not None and self._accepted <= began:
            self._accepted = None
            self._doubted = began

    def _to_write(self, record: Record, in_force: bool, began: float, now: float) -> Record | None:
        claims = (
            not in_force
            and self._epoch != 0
            and self._claims_at <= now < self._lease
            and (not self.sole or self._heard > self._foreign_since)
        )
        if not claims and self._doubted is None:
            return None
        if self._doubted is not None and self._doubted > began and not claims:
            self.due = -math.inf  # something else may be in the record now
            return None
        if record == self._base and now < self._wrote + self._detection / 8:
            self.due = self._wrote + self._detection / 8  # it has failed; not in a tight loop
            return None
        self._base, self._based, self._wrote = record, began, now
        self.due = -math.inf
        if claims:
            self._named = True  # so that it is noticed if somebody else's is written over it
        keeps = self.sole and self._doubted is None
        doubt = record.doubt if keeps else self._fresh()
        return Record(self._epoch if claims else record.epoch, doubt)

    def _pause(self) -> float:
        longest = self._detection / 4 * 2.0 ** min(self._overwritten, _MOST_OFTEN)
        return longest * (0.5 + self._spread() / 2)
