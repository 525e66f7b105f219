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
from tiered.typing import Following, Horizon, Key

__all__ = ["Moment", "Stamp", "Tag", "new_version", "tag_name", "tag_names"]

Stamp = tuple[str, ...]
"""Names of tags, each followed by its version."""

_MARK: Final = "tiered.tag"
"""First part of the keys under which versions are stored."""


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
        version: as it was last heard of; before that, one that nobody else has.
        lease: until when *version* is believed without asking.
        changed: the number of the change since which values may be out of date.
        following: how we are told of changes, if we are.

    Threads: *version* and *lease* are read without a lock, and written under the table's.
    """

    __slots__ = (
        "changed",
        "decrees",
        "following",
        "is_known",
        "key",
        "lease",
        "news",
        "version",
    )

    def __init__(self, name: str, version: str, changed: int, lease: Horizon) -> None:
        self.key: Key = (_MARK, name)
        self.version = version
        self.lease = lease
        self.changed = changed
        self.following: Following | None = None
        self.is_known = False
        self.news = 0
        self.decrees = 0


class Moment(NamedTuple):
    """A point in time: so many changes had been heard of, and (monotonic) seconds had passed."""

    changes: int
    time: float


def new_version() -> str:
    """One that no tag has ever had."""
    return secrets.token_hex(8)
