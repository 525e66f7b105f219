"""For how long what an authority has said is believed without asking it again."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tiered.clients.base import CacheClient
from tiered.concurrency import fork
from tiered.typing import Clock, Following, Key

__all__ = ["Belief"]

_LONGEST: Final = 10.0
"""Seconds after which it is asked again although it tells of changes: a server that was out of
reach when another one heard of a change may have come back, and nobody else would notice."""


class _Holder(Protocol):
    """Who is read without asking whether it is believed."""

    horizon: float


class Belief:
    """Until when it is believed what an authority has said of some keys.

    For *recheck* seconds after it was asked. If it tells of changes
    (:meth:`tiered.clients.base.CacheClient.follow`): until it does so, while its lease lasts; once
    that is over, it is asked each time.

    Args:
        holder: has what was said, and its ``horizon``, which is kept here.
        keys: what the authority is asked for. It is followed from the first time on.
        authority, clock: of these.
        recheck: seconds, 0 or more.

    Attributes:
        asking: held by whoever asks the authority, so that one thread asks for all.
        heard: of the last change that was told; another number each time.
        outdated: whether one was told since the authority has answered last: what it said
            then is not so any more.

    Threads: safe. Who tells of a change waits for nobody who asks.
    """

    def __init__(
        self,
        holder: _Holder,
        keys: Sequence[Key],
        authority: CacheClient,
        clock: Clock,
        recheck: float,
    ) -> None:
        self._holder = holder
        self._keys = keys
        self._authority = authority
        self._clock = clock
        self._recheck = recheck
        self._serials = itertools.count(1)  # of questions and of changes, in their order
        self.heard = 0
        self._confirmed = 0
        self._until = -math.inf
        self._followings: tuple[Following, ...] | None = None
        self._following_all: Following | None = None
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Whoever was asking is not in this process, which nobody tells anything."""
        self.asking = threading.RLock()
        self._guard = threading.RLock()
        if self._followings:
            self._confirmed = 0
            self.heard = self.serial()  # perhaps
            self._holder.horizon = -math.inf
        self._followings = None
        self._following_all = None

    def holds(self) -> bool:
        """Whether it is believed now."""
        now = self._clock.monotonic()
        if not self._followings:
            return now < self._holder.horizon
        with self._guard:
            self._settle(self._followings)
            return now < self._holder.horizon

    def renew(self, ask: Callable[[], object], *, anew: bool = False) -> None:
        """Call *ask*, which asks the authority, unless it is believed and not wanted *anew*.

        Not if another thread has asked meanwhile, and began after this call did.
        """
        if not anew and self.holds():
            return
        came = self.serial()
        with self.asking:
            if self._confirmed < came and (anew or not self.holds()):
                ask()

    @property
    def outdated(self) -> bool:
        return self.heard > self._confirmed

    def serial(self) -> int:
        """A number that is higher than all before it."""
        return next(self._serials)

    def ticket(self) -> int:
        """One to be drawn before the authority is asked."""
        if self._followings is None:
            self._follow()
        return self.serial()

    def confirmed(self, ticket: int) -> None:
        """The holder has what was asked for after *ticket* was drawn."""
        with self._guard:
            self._confirmed = max(self._confirmed, ticket)
            longest = max(self._recheck, _LONGEST) if self._followings else self._recheck
            self._until = self._clock.monotonic() + longest
            if self._followings:
                self._settle(self._followings)
            else:
                self._holder.horizon = self._until

    def shorten(self) -> None:
        """Believe it for *recheck* seconds at most: not everybody could be asked, or told."""
        with self._guard:
            self._until = min(self._until, self._clock.monotonic() + self._recheck)
            self._holder.horizon = min(self._holder.horizon, self._until)

    @property
    def is_told(self) -> bool:
        """Whether the authority tells of changes of the keys."""
        return bool(self._followings)

    @property
    def is_cut_off(self) -> bool:
        """Whether it would be told of changes, but for some time it is not."""
        now = self._clock.monotonic()
        return any(now >= following.lease.horizon for following in self._followings or ())

    @property
    def hears_all(self) -> bool:
        """Whether a change of any key counts as one of these."""
        return self._following_all is not None

    def hear_of_all(self) -> bool:
        """Let a change of any key count as one of these, if the authority would tell of it."""
        self._following_all = self._authority.follow_all(self._told)
        return self.hears_all

    def hear_of_keys(self) -> None:
        """Let changes of other keys not count any more."""
        if self._following_all is not None:
            self._following_all.close()
            self._following_all = None

    def _settle(self, followings: Sequence[Following]) -> None:
        """In one step: the horizon is read without a lock."""
        if followings:
            said = self._confirmed > self.heard
            # A copy, which is at worst as old as what a lease is good for when it ends early. Who
            # reads copies of values near by has the lease itself in the path to them.
            ends = (self._until, *(following.lease.horizon for following in followings))
            self._holder.horizon = min(ends) if said else -math.inf

    def _follow(self) -> None:
        with self.asking:
            if self._followings is not None:
                return
            followings: list[Following] = []
            for key in self._keys:
                following = self._authority.follow(key, self._told)
                if following is None:
                    break
                followings.append(following)
            if len(followings) < len(self._keys):
                while followings:
                    followings.pop().close()
            self._followings = tuple(followings)

    def _told(self, how: str) -> None:
        if how == "changed":
            with self._guard:
                self.heard = self.serial()
                self._holder.horizon = -math.inf
