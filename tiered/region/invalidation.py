"""What ``region.invalidate()`` makes invalid, and how other processes hear of it."""

from __future__ import annotations

import enum
import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tiered.clients.base import CacheClient, Entry
from tiered.clients.belief import Belief
from tiered.clock import SYSTEM_CLOCK
from tiered.region.api import MetaDataType
from tiered.stats.reports import Reports
from tiered.typing import Clock, Key

__all__ = [
    "DefaultInvalidationStrategy",
    "RegionInvalidationStrategy",
    "SharedInvalidationStrategy",
    "Validity",
    "validity",
]

_MARK: Final = "tiered.region"
"""First part of the keys under which revisions are stored."""

_COMPARED_FOR: Final = 1.0
"""Seconds between two comparisons of what several servers have for a revision."""


class Validity(enum.Enum):
    """What has become of a value through invalidations of its region."""

    VALID = "valid"
    SOFT = "soft"
    """Out of date: served while it is made anew."""
    HARD = "hard"
    """As if it were not there."""


class RegionInvalidationStrategy:
    """Decides what ``region.invalidate()`` makes invalid; to be subclassed.

    Given to a region by ``configure(region_invalidator=...)``. Timestamps are those of the
    values' creation, in seconds since 1970.

    Threads: a region asks from any thread at any time.
    """

    def invalidate(self, hard: bool = True) -> None:
        """Make invalid what has been made so far."""
        raise NotImplementedError(f"{type(self).__name__} must define invalidate(hard)")

    def is_hard_invalidated(self, timestamp: float) -> bool:
        """Whether a value of that time is as good as none."""
        raise NotImplementedError(f"{type(self).__name__} must define is_hard_invalidated()")

    def is_soft_invalidated(self, timestamp: float) -> bool:
        """Whether a value of that time may be served while it is made anew."""
        raise NotImplementedError(f"{type(self).__name__} must define is_soft_invalidated()")

    def is_invalidated(self, timestamp: float) -> bool:
        """Whether a value of that time is invalid in either way."""
        raise NotImplementedError(f"{type(self).__name__} must define is_invalidated()")

    def was_soft_invalidated(self) -> bool:
        """Whether the last :meth:`invalidate` was a soft one."""
        raise NotImplementedError(f"{type(self).__name__} must define was_soft_invalidated()")

    def was_hard_invalidated(self) -> bool:
        """Whether the last :meth:`invalidate` was a hard one."""
        raise NotImplementedError(f"{type(self).__name__} must define was_hard_invalidated()")


class DefaultInvalidationStrategy(RegionInvalidationStrategy):
    """For regions whose values no other process sees: two times, one of each kind.

    Attributes:
        clock: tells the time.
        floor: values from before this time are invalid, in one way or the other.

    Threads: safe.
    """

    revision: Final = None
    horizon: Final = None

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock: Final = clock
        self._hard = -math.inf
        self._soft = -math.inf
        self._last_hard: bool | None = None
        self.floor = -math.inf

    def invalidate(self, hard: bool = True) -> None:
        # The very next instant, so that a value of this one is invalid; and never back, though
        # the clock be set back: what is made from now on is stamped with the floor at least.
        floor = math.nextafter(max(self.clock.wall(), self.floor), math.inf)
        if hard:
            self._hard = floor
        else:
            self._soft = floor
        self._last_hard = bool(hard)
        self.floor = floor

    def is_hard_invalidated(self, timestamp: float) -> bool:
        return timestamp < self._hard

    def is_soft_invalidated(self, timestamp: float) -> bool:
        # What a hard invalidation has forgotten, a soft one does not bring back.
        return self._hard <= timestamp < self._soft

    def is_invalidated(self, timestamp: float) -> bool:
        return timestamp < self.floor

    def was_soft_invalidated(self) -> bool:
        return self._last_hard is False

    def was_hard_invalidated(self) -> bool:
        return self._last_hard is True


class _Mark(NamedTuple):
    """One revision: a random token, and when it was made (seconds since 1970; 0 unknown)."""

    token: str
    made: float

    def text(self) -> str:
        return f"{self.token} {self.made!r}"

    @classmethod
    def new(cls, made: float) -> _Mark:
        return cls(secrets.token_hex(6), made)

    @classmethod
    def read(cls, stored: object) -> _Mark:
        text = stored.decode("ascii", "replace") if isinstance(stored, bytes) else str(stored)
        token, _, made = text.partition(" ")
        try:
            return cls(token, float(made))
        except ValueError:  # whatever it is, it is not what was there before
            return cls(token, 0.0)


class SharedInvalidationStrategy(RegionInvalidationStrategy):
    """For regions on a shared client: who invalidates one does so in every process.

    Beside the data lie two revisions of the region, random tokens: one that a hard and one
    that a soft invalidation renews. A value is stamped with the region and with both, as they
    were when its computation began, so that no clock of any host decides what is older; only of
    a value from a region of another name, its time is all that is known. A lost token is made
    up anew: that invalidates the region, but brings nothing back.

    Who hears of it, and when: this process and readers that ask a server anyway, at once; who
    has a near tier, within *recheck* seconds, or at once where the client tells of changes.
    While no server answers, an invalidation holds in this process, which tells the servers as
    soon as it can; one that only some servers have heard of reaches all processes within a
    second of the others' return (where the client tells of changes, within ten).

    Args:
        name: of the region; regions of one name on the same servers are one.
        client: where the values are.
        recheck: seconds for which the revisions are believed between two looks.

    Attributes:
        floor: as in :class:`DefaultInvalidationStrategy`; here, tokens decide.
        revision: what a value made now is stamped with.
        horizon: until when (monotonic) that is believed.

    Threads: safe; one thread asks for all.
    """

    floor: Final = -math.inf

    @classmethod
    def of(
        cls, name: str, client: CacheClient, *, recheck: float = 1.0
    ) -> SharedInvalidationStrategy:
        """The one strategy of the regions of this name that use *client* in this process."""
        fresh = cls(name, client, recheck=recheck)
        attached = client.authority.attachments
        strategy: SharedInvalidationStrategy = attached.setdefault((_MARK, name), fresh)
        return strategy

    def __init__(self, name: str, client: CacheClient, *, recheck: float = 1.0) -> None:
        self.keys: Final[tuple[Key, Key]] = ((_MARK, name, "hard"), (_MARK, name, "soft"))
        self.horizon = -math.inf
        self.revision = ""
        self._region = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        self._client = client.authority
        self._clock = client.clock
        self._in_bytes = self._client.capabilities.bytes_only
        self._marks = tuple(_Mark.new(0.0) for _ in self.keys)
        self._owed: dict[int, _Mark] = {}  # what the server has not been told yet
        self._last_hard: bool | None = None
        self._reports = Reports("tiered.region", self._clock)
        self._belief = Belief(self, self.keys, self._client, self._clock, recheck)
        self._changed = 0
        self._compared_until = -math.inf
        self._compared_after = 0
        self._note(self._marks)

    # -- What is believed --------------------------------------------------------

    def current(self) -> str:
        """The revision, confirmed with the server if that is due."""
        self._belief.renew(self._confirm)
        return self.revision

    def confirm(self) -> str:
        """The revision, confirmed with the server now."""
        self._belief.renew(self._confirm, anew=True)
        return self.revision

    def _confirm(self) -> None:
        ticket = self.ticket()
        self.adopt(self._client.entries(self.keys), ticket)

    def ticket(self) -> int:
        """To be drawn before the server is asked for :attr:`keys`."""
        return self._belief.ticket()

    def adopt(self, found: Mapping[Key, Entry], ticket: int) -> None:
        """Take what was just read from the server for true, and make up what it has not.

        An answer to a question from before the last change may be older than that, or younger:
        then the server is asked again.
        """
        found = {**found, **self._compared()}
        with self._belief.asking:
            if ticket < self._changed:
                ticket = self.ticket()
                found = self._client.entries(self.keys)
            marks, answered = [], True
            outdated = self._belief.outdated or self._belief.is_cut_off
            if any(key not in found for key in self.keys):
                # A client that has other names for its keys does not bring them along.
                found = {**self._client.entries(self.keys), **found}
            for key, known in zip(self.keys, self._marks, strict=True):
                held = found.get(key) or self._client.agree(key, self._stored(_Mark.new(0.0)))
                if held is not None:
                    marks.append(_Mark.read(held.value))
                else:
                    # Nobody answers: what was right when we last could ask, as far as we know.
                    marks.append(_Mark.new(0.0) if outdated else known)
                    answered = False
            for at in list(self._owed):
                # Another one: if it was heard after all, others may have invalidated since.
                marks[at] = self._owed[at] = _Mark.new(self._clock.wall())
                self._tell(at)
            self._note(tuple(marks))
            self._belief.confirmed(ticket)
            if self._owed or not answered:
                self._belief.shorten()

    def _compared(self) -> dict[Key, Entry]:
        """Once in a while, what all servers agree on; else nothing.

        The server that is asked usually may have been out of reach for an invalidation that
        another one has heard of, and who invalidated may be gone.
        """
        with self._belief.asking:
            now, heard = self._clock.monotonic(), self._belief.heard
            if now < self._compared_until and heard == self._compared_after:
                return {}
            self._compared_until, self._compared_after = now + _COMPARED_FOR, heard
        held = {key: self._client.agree(key, self._stored(_Mark.new(0.0))) for key in self.keys}
        return {key: entry for key, entry in held.items() if entry is not None}

    def _note(self, marks: tuple[_Mark, ...]) -> None:
        self._marks = marks
        revision = ".".join((self._region, *(mark.token for mark in marks)))
        if revision != self.revision:
            self._changed = self._belief.serial()
            self.revision = revision  # else the same object, which is compared at once

    def _stored(self, mark: _Mark) -> str | bytes:
        text = mark.text()
        return text.encode() if self._in_bytes else text

    # -- The strategy ------------------------------------------------------------

    def invalidate(self, hard: bool = True) -> None:
        with self._belief.asking:
            at = 0 if hard else 1
            marks = list(self._marks)
            marks[at] = self._owed[at] = _Mark.new(self._clock.wall())
            self._tell(at)
            self._note(tuple(marks))
            self._last_hard = bool(hard)
            if self._owed:
                self._belief.shorten()

    def _tell(self, at: int) -> None:
        """Tell the server of the invalidation that is owed to it, and see whether it has heard."""
        key, mark = self.keys[at], self._owed[at]
        try:
            before = self._client.entry(key)
            given = self._client.decree(key, self._stored(mark))
            if given is not None and given != self._stored(mark):
                del self._owed[at]  # nobody keeps it, and what it would judge was forgotten
                return
            held = self._client.entry(key)
            # What another process has put there since is an invalidation as well.
            heard = held is not None and (
                _Mark.read(held.value) == mark
                or (before is not None and held.value != before.value)
            )
        except Exception:  # of a client that raises where others are silent
            heard = False
        if heard:
            del self._owed[at]
        else:
            self._reports.warn(
                "owed", "%r has not heard of an invalidation yet; it is told later", self._client
            )

    def validity(self, metadata: MetaDataType) -> Validity:
        """What became of a value with *metadata*."""
        stamped, revision = metadata.get("rv"), self.revision
        if stamped == revision:
            return Validity.VALID
        region, hard, _ = revision.split(".")
        parts = stamped.split(".") if isinstance(stamped, str) else []
        if len(parts) != len(revision.split(".")) or parts[0] != region:
            # Made in a region of another name, or by somebody who does not know of revisions.
            return _by_time(self, metadata["ct"])
        return Validity.SOFT if parts[1] == hard else Validity.HARD

    def is_hard_invalidated(self, timestamp: float) -> bool:
        return timestamp < self._marks[0].made

    def is_soft_invalidated(self, timestamp: float) -> bool:
        return self._marks[0].made <= timestamp < self._marks[1].made

    def is_invalidated(self, timestamp: float) -> bool:
        return timestamp < max(mark.made for mark in self._marks)

    def was_soft_invalidated(self) -> bool:
        return self._last_hard is False

    def was_hard_invalidated(self) -> bool:
        return self._last_hard is True


def _by_time(strategy: RegionInvalidationStrategy, made: float) -> Validity:
    if strategy.is_hard_invalidated(made):
        return Validity.HARD
    return Validity.SOFT if strategy.is_soft_invalidated(made) else Validity.VALID


def validity(strategy: RegionInvalidationStrategy) -> Callable[[MetaDataType], Validity]:
    """How *strategy* judges a value by its metadata."""
    if isinstance(strategy, SharedInvalidationStrategy):
        return strategy.validity
    return lambda metadata: _by_time(strategy, metadata["ct"])
