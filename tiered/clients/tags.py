"""Tags: names under which any number of values are invalidated, by one write.

Each tag has a *version*, a random token that lies with the client's authority, as the revision
of a namespace does. A value is kept together with the versions that its tags had before it was
computed. When a tag is invalidated it gets another version, and what was computed before is
found to be out of date wherever it lies, and whenever it was written.

Who sees an invalidation, and when:

- Everybody in this process who shares the authority: at once. They share one table
  (:mod:`tiered.clients.tagtable`).
- Others: as soon as they hear of it, where the authority tells of changes (``follow``); else
  within a second, for which a version is believed without asking again.

Versions are random and never used twice. If one is lost, the next reader makes up another:
that invalidates the tag, and brings nothing back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from tiered.keys.canonical import canonical
from tiered.keys.wire import wire_key
from tiered.typing import Following, Key

__all__ = ["Moment", "Stamp", "Tag", "is_version", "new_version", "tag_name", "tag_names"]

Stamp = tuple[str, ...]
"""Names of tags, each followed by its version."""

_MARK: Final = "tiered.tag"
"""First part of the keys under which versions are stored."""
_VERSION_BYTES: Final = 8


def tag_name(tag: Key) -> str:
    """What stands for *tag* outside of the process.

    Raises:
        KeyEncodingError: others could not recognise it.
    """
    return wire_key(b"", canonical(tag)).decode()


def tag_names(tags: Any) -> tuple[str, ...]:
    """The names of all *tags*, each once.

    Raises:
        TypeError: it is no iterable of tags; a text is one tag, and not many letters.
        KeyEncodingError: one of them has no name.
    """
    if isinstance(tags, str | bytes):
        raise TypeError(f"tags must be a list of tags such as [{tags!r}], not {tags!r}")
    if not isinstance(tags, Iterable):
        raise TypeError(f"tags must be a list of tags, not {tags!r}")
    return tuple(dict.fromkeys(map(tag_name, tags)))


class Tag:
    """What is known of one tag here.

    Attributes:
        key: of its version, at the authority.
        version: as it was last read; before that, and once others have changed it, one that
            nobody else has.
        until: when (monotonic) it has to be asked for again, whatever one is told.
        following: how we are told of changes, if we are; it is believed while its lease lasts.
        changed: the number of the change since which values may be out of date.
        is_known: whether the version is what values may have been kept with.
        news: how often others have changed it, as far as we were told.
        decrees: how often it was invalidated here.

    Threads: read without a lock, written under the table's.
    """

    __slots__ = (
        "changed",
        "decrees",
        "following",
        "is_known",
        "key",
        "news",
        "until",
        "version",
    )

    def __init__(self, name: str, version: str, changed: int, until: float) -> None:
        self.key: Key = (_MARK, name)
        self.version = version
        self.until = until
        self.following: Following | None = None
        self.changed = changed
        self.is_known = False
        self.news = 0
        self.decrees = 0

    def is_believed(self, now: float) -> bool:
        """Whether the version is true without asking; to be read after this, and not before."""
        following = self.following
        return now < self.until and (following is None or now < following.lease.horizon)

    def is_cut_off(self, now: float) -> bool:
        """Whether others' changes would be told, but for some time are not."""
        following = self.following
        return following is not None and now >= following.lease.horizon


class Moment(NamedTuple):
    """A point in time: so many changes had been heard of, and (monotonic) seconds had passed."""

    changes: int
    time: float


def new_version() -> str:
    """One that no tag has ever had."""
    return secrets.token_hex(_VERSION_BYTES)


def is_version(value: object) -> bool:
    """Whether that may have been one."""
    return isinstance(value, str) and len(value) == 2 * _VERSION_BYTES
