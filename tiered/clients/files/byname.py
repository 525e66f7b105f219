"""What is done to a directory by somebody who hears of keys, and has none: he knows their names."""

from __future__ import annotations

from collections.abc import Iterator

from tiered.clients.files import claims, entries
from tiered.clients.files.access import Access
from tiered.clients.files.layout import expires_in, peeked
from tiered.clients.files.names import LANES, Place, is_claim, is_value
from tiered.clients.files.scan import listed, shards_of
from tiered.clients.files.tree import Tree
from tiered.clients.files.values import Values
from tiered.typing import Clock

__all__ = ["ByName"]


class ByName:
    """Removes values, or makes them stale, by the names that the coherence bus has for keys.

    A name is the key's canonical bytes, or ``#`` and a digest of them (see
    :mod:`tiered.coherence.names`). Each also ends the claim of who computes the key just now.

    Raises ``StorageError`` where it could not be done, strict client or not: who keeps a
    directory in step must not think that he has.

    Threads: safe.
    """

    def __init__(self, access: Access, values: Values, clock: Clock) -> None:
        self._access = access
        self._values = values
        self._clock = clock

    def discard(self, name: bytes) -> bool:
        """Forget the key; whether it was there."""
        place = Place.called(name)
        return self._access.change(lambda tree: self._values.remove_at(tree, place))

    def outdate(self, name: bytes) -> bool:
        """Make what is held stale, and keep it; whether it was fresh."""
        place, now = Place.called(name), self._clock.monotonic()
        return self._access.change(lambda tree: self._values.end_at(tree, place, now))

    def outdate_all(self) -> int:
        """Make everything stale, and keep it; how many values were fresh."""
        now = self._clock.monotonic()
        return self._access.change(lambda tree: self._outdated(tree, now))

    def _outdated(self, tree: Tree, now: float) -> int:
        outdated = 0
        for place in list(_claimed(tree)):
            with tree.locks.key(place):
                claims.drop(tree, place)
        for place in _fresh(tree, now + tree.counts.base):
            outdated += self._values.end_at(tree, place, now)
        return outdated


def _claimed(tree: Tree) -> Iterator[Place]:
    """The places where somebody computes, or was killed at it."""
    for _, shard in shards_of(tree):
        yield from (Place.at(file) for file in listed(shard) if is_claim(file))


def _fresh(tree: Tree, now: float) -> Iterator[Place]:
    """The places of what is fresh at *now*, in the time of files, or does not tell."""
    for lane in range(LANES):
        with tree.locks.lane(lane):  # or what is moved meanwhile would not be met
            found = [
                Place.of(record.name)
                for _, record in tree.packs.records(lane)
                if record is not None and expires_in(record.envelope) > now
            ]
        yield from found
    for _, shard in shards_of(tree):
        for file in listed(shard):
            if not is_value(file):
                continue
            place = Place.at(file)
            try:
                with entries.opened(tree, place) as descriptor:
                    told = peeked(descriptor)
            except OSError:
                continue  # it is gone, or no file; a scan finds what should not be there
            if told is None or told.expires > now:
                yield place
