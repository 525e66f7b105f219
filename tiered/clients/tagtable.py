"""What the users of one authority in this process know of its tags."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tiered.clients.tags import Moment, Stamp, Tag, is_version, new_version, tag_name
from tiered.concurrency import fork
from tiered.entry import Entry
from tiered.typing import Key

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient

__all__ = ["TagTable", "Ticket"]

_RECHECK: Final = 1.0
"""Seconds for which a version is believed, where nobody tells of changes."""
_LONGEST: Final = 10.0
"""And where somebody does: what was out of reach when it changed may have come back since."""


class _Seen(NamedTuple):
    """A tag, and what was known of it when the authority was asked."""

    tag: Tag
    news: int
    decrees: int


class Ticket(NamedTuple):
    """A question about versions, that is under way.

    Attributes:
        keys: what the authority is to be asked for.
    """

    keys: Collection[Key]
    seen: Sequence[_Seen]


class TagTable:
    """The tags of one authority, as its users in this process know them.

    Bounded: of more than *limit* tags the oldest are forgotten, and asked for again.

    Args:
        authority: where the versions lie; in this table, where no other process uses it.

    Attributes:
        tags: by their names.
        shared: whether other processes may invalidate tags.

    Threads: safe. No lock is held while the authority is asked. What it answers is not
    believed over an invalidation that was made here since it was asked.
    """

    LIMIT: Final = 65_536

    def __init__(self, authority: CacheClient, limit: int = LIMIT) -> None:
        self.tags: Final[dict[str, Tag]] = {}
        self.shared: Final = authority.capabilities.shared
        self._authority = authority
        self._limit = limit
        self._now = authority.clock.monotonic
        self._changes = 0
        # The version of tags that were not invalidated since, where the versions lie here: to
        # forget such a tag loses nothing.
        self._usual, self._usual_since = new_version(), 0
        fork.register(self)
        self._lock = threading.RLock()

    @staticmethod
    def of(client: CacheClient) -> TagTable:
        """The one table of all who use *client*'s authority here."""
        authority = client.authority
        table: TagTable | None = authority.attachments.get(TagTable)
        if table is None:
            table = authority.attachments.setdefault(TagTable, TagTable(authority))
        return table

    def after_fork(self) -> None:
        """A new lock; and nobody has told this process of changes since."""
        self._lock = threading.RLock()
        if self.shared:
            for tag in self.tags.values():
                tag.following, tag.until = None, -math.inf
                tag.version, tag.is_known = new_version(), False

    # -- What is known -----------------------------------------------------------

    def tag(self, name: str) -> Tag:
        """The tag of that *name*."""
        known = self.tags.get(name)
        if known is not None:
            return known
        dropped: list[Tag] = []
        with self._lock:
            known = self.tags.get(name)
            if known is None:
                known = self.tags[name] = self._new(name)
            while len(self.tags) > self._limit:
                dropped.append(self.tags.pop(next(iter(self.tags))))
                if not self.shared and dropped[-1].version != self._usual:
                    self._renew_usual()
        for tag in dropped:
            if tag.following is not None:
                tag.following.close()
        return known

    def _new(self, name: str) -> Tag:
        if not self.shared:
            return Tag(name, self._usual, self._usual_since, math.inf)
        # It may have been known before, and forgotten: what has changed since is not known.
        self._changes += 1
        return Tag(name, new_version(), self._changes, -math.inf)

    def _renew_usual(self) -> None:
        """What no tag that is forgotten has had, but those that were never invalidated."""
        self._changes += 1
        self._usual, self._usual_since = new_version(), self._changes

    def moment(self) -> Moment:
        """Now."""
        return Moment(self._changes, self._now())

    def changed_since(self, names: Iterable[str], moment: Moment) -> bool:
        """Whether one of the tags may have changed since *moment*, as far as is known."""
        return any(self.tag(name).changed > moment.changes for name in names)

    def due(self, names: Iterable[str], since: Moment | None = None) -> list[str]:
        """Those whose versions are not believed without asking.

        With *since*, those that may have been asked for too long before that moment.
        """
        now = self._now()
        due = [name for name in names if not self.tag(name).is_believed(now)]
        if since is None or not due or now - since.time >= _RECHECK:
            return due
        return [name for name in due if self.tag(name).following is not None]

    def holds(self, stamp: Sequence[str]) -> bool:
        """Whether what has *stamp* is up to date, for all that is certain without asking."""
        tags, now = self.tags, self._now()
        for at in range(0, len(stamp), 2):
            tag = tags.get(stamp[at])
            if tag is None or not tag.is_believed(now) or tag.version != stamp[at + 1]:
                return False
        return True

    def matches(self, stamp: Sequence[str]) -> bool:
        """The same for all that is known, however long ago that was."""
        return all(self.tag(stamp[at]).version == stamp[at + 1] for at in range(0, len(stamp), 2))

    def doubtful(self, stamp: Sequence[str]) -> list[str]:
        """The tags that have to be asked for, before what has *stamp* is judged.

        Also where another version is known, unless we would have been told of a newer one: who
        has written the value may know more than we do.
        """
        if not self.shared:
            return []
        asked, now = [], self._now()
        for at in range(0, len(stamp), 2):
            tag = self.tag(stamp[at])
            told = tag.following is not None or tag.version == stamp[at + 1]
            if not told or not tag.is_believed(now):
                asked.append(stamp[at])
        return asked

    def stamp_at_once(self, names: Iterable[str]) -> Stamp | None:
        """The versions that what is computed from now on is to be kept with, if all are certain."""
        now = self._now()
        stamp: list[str] = []
        for name in names:
            tag = self.tag(name)
            if not tag.is_believed(now):
                return None
            stamp += (name, tag.version)
        return tuple(stamp)

    def stamp(self, names: Sequence[str]) -> Stamp:
        """The same, after asking for those that are not."""
        self.confirm(self.due(names))
        return tuple(part for name in names for part in (name, self.tag(name).version))

    # -- Asking ------------------------------------------------------------------

    def confirm(self, names: Collection[str]) -> None:
        """Ask the authority for the versions of these tags, all in one request."""
        if names and self.shared:
            ticket = self.ticket(names)
            self.settle(ticket, self._authority.entries(ticket.keys))

    def ticket(self, names: Collection[str]) -> Ticket:
        """To be taken before the authority is asked by other means."""
        tags = [(name, self.tag(name)) for name in names]
        for name, tag in tags:
            self._follow(name, tag)
        seen = [_Seen(tag, tag.news, tag.decrees) for _, tag in tags]
        return Ticket([tag.key for _, tag in tags], seen)

    def settle(self, ticket: Ticket, found: Mapping[Key, Entry]) -> None:
        """Take over what the authority has answered; agree on versions where it has none."""
        for tag, news, decrees in ticket.seen:
            entry = found.get(tag.key) or self._authority.agree(tag.key, new_version())
            self._adopt(_Seen(tag, news, decrees), None if entry is None else entry.value)

    def _follow(self, name: str, tag: Tag) -> None:
        if tag.following is not None:
            return
        following = self._authority.follow(tag.key, partial(self._heard, tag))
        if following is None:
            return
        with self._lock:
            if self.tags.get(name) is tag and tag.following is None:
                tag.following = following
        if tag.following is not following:
            following.close()  # of two threads the other was faster; or it was forgotten

    def _adopt(self, seen: _Seen, version: Any) -> None:
        tag = seen.tag
        with self._lock:
            if (tag.news, tag.decrees) != (seen.news, seen.decrees):
                return  # what was told, or decreed here, meanwhile is newer
            if is_version(version):
                if tag.is_known and tag.version != version:
                    self._has_changed(tag)
                tag.version = version
            elif version is None and tag.is_cut_off(self._now()):
                # Nobody answers, and nobody would have told: one that nothing was kept with.
                self._has_changed(tag)
                tag.version, tag.is_known = new_version(), False
                return
            # Else nobody answers: what we have was right when we last could ask, if we were told
            # of nothing since. Or nobody has a place for it: then it is ours, as the values are.
            tag.is_known = True
            told = tag.following is not None and version is not None
            tag.until = self._now() + (_LONGEST if told else _RECHECK)

    def _has_changed(self, tag: Tag) -> None:
        self._changes += 1
        tag.changed = self._changes

    def _heard(self, tag: Tag, how: str) -> None:
        """Others have changed its version, or may have."""
        if how != "changed":
            return
        with self._lock:
            self._has_changed(tag)
            tag.news += 1
            tag.until = -math.inf
            # None that anything was kept with, should nobody be there to tell which it is.
            tag.version, tag.is_known = new_version(), False

    # -- Invalidating ------------------------------------------------------------

    def invalidate(self, tag: Key) -> None:
        """Another version: what was computed before is out of date, for everybody.

        Raises:
            KeyEncodingError: *tag* is none that others could recognise.
        """
        name, version = tag_name(tag), new_version()
        known = self.tag(name)
        if not self.shared:
            with self._lock:
                self._decreed(known, version)
            return
        self._follow(name, known)
        with self._lock:
            news, decrees = known.news, known.decrees
        given: Any = None
        try:
            given = self._authority.decree(known.key, version)
        finally:
            with self._lock:
                alone = (known.news, known.decrees) == (news, decrees)
                self._decreed(known, given if is_version(given) else version)
                # If others have decreed one as well, nobody knows which was the last.
                told = known.following is not None
                lasts = _LONGEST if told else _RECHECK
                known.until = self._now() + lasts if alone else -math.inf

    def _decreed(self, tag: Tag, version: str) -> None:
        self._has_changed(tag)
        tag.decrees += 1
        tag.version, tag.is_known = version, True
