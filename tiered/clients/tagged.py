"""A client whose values are out of date as soon as one of their tags is invalidated.

What is stored for a value is ``[stamp, value]``, under ``("tagged", key)``: plain lists, which
every serialiser takes and gives back. The stamp names each tag of the value, and the version that
it had before the value was computed. Every copy carries it, in whatever tier, and is judged when
it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tiered.clients.base import (
    ALWAYS,
    ANY,
    CacheClient,
    Claim,
    Condition,
    Entry,
    HotPath,
    Search,
)
from tiered.clients.explanation import Explanation
from tiered.clients.namespace import unwrapped
from tiered.clients.tags import Stamp
from tiered.clients.tagtable import TagTable
from tiered.clients.wrapper import Wrapper
from tiered.sentinels import MISSING
from tiered.typing import Key

__all__ = ["Stamped", "TaggedView", "unstamped"]

_MARK: Final = "tagged"


class Stamped(NamedTuple):
    """A value on its way to a :class:`TaggedView`, and the versions that it is kept with."""

    value: Any
    stamp: Stamp


class TaggedView(Wrapper):
    """*client*, for values with tags.

    A value is given as a :class:`Stamped`; any other has no tags. An entry whose tags have other
    versions by now is none, not even a stale one; only to remove it is there something there.

    Args:
        client: where the values lie; closed together with this one.

    Attributes:
        table: of the tags that *client*'s users have in common.

    Threads: safe.
    """

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.table: Final = TagTable.of(client)
        # Where a copy is out of date, a farther tier may have a newer one, of other processes.
        self._has_copies = self.table.shared and client.first_tiers(1) is not client

    def inner_key(self, key: Key) -> Key:
        return (_MARK, key)

    def inner_value(self, value: Any) -> Any:
        return [list(value.stamp), value.value] if type(value) is Stamped else [[], value]

    def outer_value(self, value: Any) -> Any:
        """The value itself; a miss if it is out of date, for all that is known."""
        kept = _opened(value)
        return kept.value if kept is not None and self.table.matches(kept.stamp) else MISSING

    # -- Reading ---------------------------------------------------------------

    def entry(self, key: Key) -> Entry | None:
        return self.find_tagged((key,), ANY).get(key)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self.find_tagged(list(keys), ANY)

    def find(self, key: Key, search: Search) -> Entry | None:
        return self.find_tagged((key,), search).get(key)

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        return self.find_tagged(list(keys), search)

    def find_tagged(
        self, keys: Collection[Key], search: Search, expected: Iterable[str] = ()
    ) -> dict[Key, Entry]:
        """``find_many``; the tags that are *expected* are asked for in the same request."""
        inner = {key: self.inner_key(key) for key in keys}
        if not inner:
            return {}
        table, promoted = self.table, set[Key]()
        through = self._inner_search(inner, search)
        if search.on_promote is not None:
            # Told when it is known what is up to date.
            through = through._replace(on_promote=lambda name, _value, _ttl: promoted.add(name))
        due = table.due(expected)
        if due:
            ticket = table.ticket(due)
            found, versions = self.client.find_beside(inner.values(), through, ticket.keys)
            table.settle(ticket, versions)
        elif len(inner) == 1:
            (only,) = inner.values()
            entry = self.client.find(only, through)
            found = {} if entry is None else {only: entry}
        else:
            found = self.client.find_many(inner.values(), through)
        asked = set(due)
        believed = self._believed(inner, found, asked)
        if self._has_copies:
            outdated = {key: inner[key] for key in inner if key not in believed}
            outdated = {key: name for key, name in outdated.items() if name in found}
            if outdated:
                farthest = through._replace(ttl_skip=math.inf, farthest=True)
                found = self.client.find_many(outdated.values(), farthest)
                believed |= self._believed(outdated, found, asked)
        for key, entry in believed.items():
            if inner[key] in promoted:
                self._announce(search, key, entry)
        return believed

    def _believed(
        self, inner: Mapping[Key, Key], found: Mapping[Key, Entry], asked: set[str]
    ) -> dict[Key, Entry]:
        """What of *found* is up to date; the tags that have not been *asked* for are, now."""
        kept = {key: _opened(found[name].value) for key, name in inner.items() if name in found}
        sound = {key: one for key, one in kept.items() if one is not None}
        doubtful = {name: None for one in sound.values() for name in self.table.doubtful(one.stamp)}
        self.table.confirm([name for name in doubtful if name not in asked])
        asked.update(doubtful)
        return {
            key: Entry(one.value, found[inner[key]].deadline)
            for key, one in sound.items()
            if self.table.matches(one.stamp)
        }

    # None: to invalidate a tag changes nothing of the entry, so its version confirms nothing.
    versioned = CacheClient.versioned
    version = CacheClient.version
    store_versioned = CacheClient.store_versioned

    def near(self, key: Key) -> Entry | None:
        entry = self.client.near(self.inner_key(key))
        kept = None if entry is None else _opened(entry.value)
        if entry is None or kept is None or not self.table.holds(kept.stamp):
            return None
        return Entry(kept.value, entry.deadline)

    def hot_path(self) -> HotPath | None:
        """:meth:`near` in one frame, if at most one namespace lies between."""
        client, states = unwrapped(self.client)
        path = client.hot_path()
        if path is None or len(states) > 1:
            return super().hot_path()
        return path._replace(
            lookup=self._look(path, states[0] if states else None),
            note=None,
            counts=False,
            store=None,
        )

    def _look(self, path: HotPath, space: Any) -> Callable[[Any], Entry | None]:
        lookup, note, counts = path.lookup, path.note, path.counts
        tags, holds, now = self.table.tags, self.table.holds, self.clock.monotonic
        trusts = space is None or not space.shared

        def look(key: Key) -> Entry | None:
            moment = now()
            # In this order: a prefix that is read while it is not believed may be an old one.
            if not trusts and not moment < space.horizon:
                return None
            name = (_MARK, key)
            entry: Any = lookup(name if space is None else (space.prefix, name))
            if entry is None:
                return None
            stamp, value = entry.value
            if len(stamp) == 2:
                tag = tags.get(stamp[0])
                if tag is None or not tag.is_believed(moment) or tag.version != stamp[1]:
                    return None
            elif stamp and not holds(stamp):
                return None
            if note is not None:
                note(entry.place)
            elif counts:
                entry.uses += 1
            return Entry(value, entry.deadline)

        return look

    # -- Writing ---------------------------------------------------------------

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        stored = super().store(key, value, deadline, keep=keep, condition=condition)
        if stored or condition is ALWAYS or self.entry(key) is not None:
            return stored
        # What is in the way is out of date, and in nobody's but ours.
        self.client.discard(self.inner_key(key))
        return super().store(key, value, deadline, keep=keep, condition=condition)

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        inner = self.inner_key(key)
        written = self.client.fill(inner, self.inner_value(value), deadline, keep=keep, claim=claim)
        claim.version = None
        return written

    # -- What it is ------------------------------------------------------------

    def explain(self, key: Key) -> Explanation:
        explained = super().explain(key)
        entry = self.client.entry(self.inner_key(key))
        kept = None if entry is None else _opened(entry.value)
        if kept is None:
            return explained
        held = tuple(zip(kept.stamp[::2], kept.stamp[1::2], strict=True))
        if self.entry(key) is not None:
            return replace(explained, detail=(("tags", held),))
        outdated = (("tags", held), ("outdated", True))
        return replace(explained, found=False, ttl=None, detail=outdated)


def _opened(kept: Any) -> Stamped | None:
    """What was stored, in its parts; ``None`` if that was no view of this kind."""
    if not isinstance(kept, list) or len(kept) != 2:
        return None
    stamp, value = kept
    if not isinstance(stamp, list) or len(stamp) % 2 or not all(type(one) is str for one in stamp):
        return None
    return Stamped(value, tuple(stamp))


def unstamped(function: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Any]:
    """*function* of values, for what is stored for them."""

    def apply(kept: Sequence[Any]) -> Any:
        stamp, value = kept
        value = function(value)
        return MISSING if value is MISSING else [stamp, value]

    return apply
