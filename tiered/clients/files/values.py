"""The values of an open directory: read, written, given other deadlines, removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from tiered.clients.files import claims, entries
from tiered.clients.files.access import Access
from tiered.clients.files.eviction import Evictor
from tiered.clients.files.layout import Layout, Version, peeked, version
from tiered.clients.files.names import PACKS, Place, pack_name
from tiered.clients.files.packs.cleaning import tidy
from tiered.clients.files.packs.index import Spot
from tiered.clients.files.packs.lanes import Cell
from tiered.clients.files.packs.records import Record, pack_record, record_size
from tiered.clients.files.tree import Tree
from tiered.codec.sign import Signer
from tiered.codec.values import Header
from tiered.entry import Entry, Versioned
from tiered.errors import CorruptValue
from tiered.typing import Clock

__all__ = ["Item", "Values"]

T = TypeVar("T")

_SIGNATURE: Final = Signer.SIZE

_FUTURE: Final = 1.0
"""Seconds by which a value may seem to be made in the future."""

_STRANGE: Final = frozenset((errno.ELOOP, errno.EISDIR, errno.ENXIO))
"""What is at a value's place is no file."""


class Item(NamedTuple):
    """What is to be kept, until when, and what it took to compute; as of ``CacheClient.store``."""

    value: Any
    deadline: float
    keep: float
    cost: float = 0.0


class Held(NamedTuple):
    """A small value, and where it lies."""

    spot: Spot
    record: Record


class _OnItsWay(Exception):
    """What was looked for may be in neither of its places for a moment."""


def _version_of(held: Held) -> Version:
    spot, record = held
    return Version(-1, spot.pack, spot.start, spot.length, record.envelope[:_SIGNATURE])


class Values:
    """What a client does with the value of one key, in a pack or in a file of its own.

    Args:
        access: to the directory; here only to say what failed.
        sync: wait for the disk on each write.

    Attributes:
        corrupt: files that were not what was written under their key.

    Threads: safe; counted as in :class:`tiered.stats.counters.Counters`.
    """

    def __init__(
        self, layout: Layout, access: Access, evictor: Evictor, clock: Clock, *, sync: bool
    ) -> None:
        self.corrupt = 0
        self._layout = layout
        self._access = access
        self._evictor = evictor
        self._clock = clock
        self._sync = sync

    def now(self, tree: Tree) -> float:
        """The time that files of *tree* are told in."""
        return self._clock.monotonic() + tree.counts.base

    # -- Reading -----------------------------------------------------------------

    def find(self, tree: Tree, name: bytes) -> Entry | None:
        """What is held for the key with the canonical *name*."""
        place = Place.of(name)
        try:
            read = self._looked_for(
                tree,
                name,
                place,
                lambda held: self._layout.opened(name, held.record.envelope),
                lambda descriptor: self._layout.read(name, descriptor),
            )
        except CorruptValue as error:
            self._unreadable(error)
            return None
        if read is None:
            return None
        value, created, expires = read
        base = tree.counts.base
        if created > self._clock.monotonic() + base + _FUTURE:
            self._unreadable(CorruptValue("it was made in the future"))
            return None
        return Entry(value, expires - base)

    def _looked_for(
        self,
        tree: Tree,
        name: bytes,
        place: Place,
        packed: Callable[[Held], T],
        apart: Callable[[int], T],
    ) -> T | None:
        """What one of the two gives for a value in a pack, or in an open file; ``None`` if there
        is none. Raises ``CorruptValue``."""
        try:
            return self._look(tree, name, place, packed, apart)
        except (CorruptValue, _OnItsWay):
            # Perhaps it was given another deadline in this very moment: that is in one step for
            # those who have the lock, as is the way from one place to the other.
            with tree.locks.key(place):
                return self._look(tree, name, place, packed, apart, locked=True)

    def _look(
        self,
        tree: Tree,
        name: bytes,
        place: Place,
        packed: Callable[[Held], T],
        apart: Callable[[int], T],
        *,
        locked: bool = False,
    ) -> T | None:
        lanes, lane = tree.lanes, tree.lanes.of(place)
        files = lanes.get(lane, Cell.FILES)
        held = self._packed(tree, name, place)
        if held is not None:
            return packed(held)
        # If it has gone to a file, that is there, or it is on its way still.
        moving = not locked and tree.packs.is_moving(lane)
        if not (files or moving or lanes.get(lane, Cell.FILES)):
            return None
        try:
            descriptor = entries.open_to_read(tree, place)
        except FileNotFoundError:
            # If it has gone to a pack, likewise.
            if moving or (not locked and tree.packs.is_moving(lane)):
                raise _OnItsWay("a value goes from one place to the other") from None
            held = self._packed(tree, name, place)
            return None if held is None else packed(held)
        try:
            found = apart(descriptor)
        finally:
            os.close(descriptor)
        tree.counts.touch(place.stamp)
        return found

    @staticmethod
    def _packed(tree: Tree, name: bytes, place: Place) -> Held | None:
        """The small value that is held. Raises ``CorruptValue``."""
        found = tree.packs.find(place)
        if found is None:
            return None
        spot, record = found
        if record is None:
            raise CorruptValue("a value in a pack is damaged")
        if record.name != name:
            if Place.of(record.name).tag != place.tag:
                raise CorruptValue("a value in a pack lies where another key's should be")
            return None  # the other one has pushed this one out
        return Held(spot, record)

    def versioned(self, tree: Tree, name: bytes) -> Versioned:
        """The same, and its version, if nobody has written meanwhile."""
        before = self.version(tree, name)
        entry = self.find(tree, name)
        unchanged = entry is not None and self.version(tree, name) == before
        return Versioned(entry, before if unchanged else None)

    def version(self, tree: Tree, name: bytes) -> Version | None:
        """The version of what is held, unverified; ``None`` if nothing is."""
        place = Place.of(name)
        try:
            return self._looked_for(
                tree, name, place, _version_of, lambda descriptor: version(name, descriptor)
            )
        except CorruptValue:
            return None

    def present(self, tree: Tree, name: bytes, place: Place) -> Entry | None:
        """What is there for a write to judge, without its value; the key's lock is held.

        Raises ``OSError``: it is not known what is there.
        """
        try:
            held = self._packed(tree, name, place)
            if held is None:
                with entries.opened(tree, place) as descriptor:
                    header = self._layout.header(name, descriptor)
            else:
                header = self._layout.header_in(name, held.record.envelope)
        except FileNotFoundError:
            return None
        except CorruptValue as error:
            self._unreadable(error)
            return None
        except OSError as error:
            if error.errno not in _STRANGE:
                raise
            self._unreadable(error)
            return None
        if header.created > self.now(tree) + _FUTURE:
            return None
        return Entry(None, header.expires - tree.counts.base)

    def described(self, tree: Tree, name: bytes) -> tuple[float | None, dict[str, object]]:
        """The seconds that are left to a value, ``None`` if there is none, and what is known."""
        place, now = Place.of(name), self.now(tree)
        mark = claims.read(tree, place)
        claimed = mark is not None and not claims.is_over(tree, mark, now)
        facts: dict[str, object] = {"file": place.path, "claimed": claimed}

        def packed(held: Held) -> tuple[int, Header]:
            facts["file"] = f"{PACKS}/{pack_name(tree.lanes.of(place), held.spot.pack)}"
            return held.spot.length, self._layout.header_in(name, held.record.envelope)

        def apart(descriptor: int) -> tuple[int, Header]:
            facts["file"] = place.path
            return os.fstat(descriptor).st_size, self._layout.header(name, descriptor)

        try:
            found = self._looked_for(tree, name, place, packed, apart)
        except CorruptValue:
            return None, facts
        if found is None:
            return None, facts
        size, header = found
        facts |= {"size": size, "age": now - header.created, "cost": header.cost}
        return header.expires - now, facts

    def is_sound(self, tree: Tree, place: Place) -> bool:
        """Whether the file there is what was written, as far as that can be told."""
        try:
            with entries.opened(tree, place) as descriptor:
                told = peeked(descriptor)
                if told is None or Place.of(told.name) != place:
                    return False
                self._layout.check(told.name, descriptor)
        except (OSError, CorruptValue):
            return False
        return True

    def is_sound_record(self, record: Record) -> bool:
        """The same, of a value in a pack."""
        try:
            self._layout.check_packed(*record)
        except CorruptValue:
            return False
        return True

    # -- Writing -----------------------------------------------------------------

    def write(self, tree: Tree, name: bytes, item: Item, allows: Callable[[Place], bool]) -> bool:
        """Hold *item*, if *allows* says so under the key's lock; whether it does.

        Raises:
            CodecError: it cannot be written.
        """
        place, now = Place.of(name), self.now(tree)
        header = Header(now, item.deadline + tree.counts.base, item.keep, item.cost)
        sealed = self._layout.seal(name, item.value, header)
        room = partial(self._evictor.make_room, tree, now)
        size = record_size(name, len(sealed.envelope))
        if sealed.region or size > tree.packs.limit or self._sync:
            return entries.write(
                tree,
                place,
                self._layout.parts(name, sealed),
                room=room,
                allows=partial(allows, place),
                now=now,
                sync=self._sync,
            )

        def apart() -> Callable[[], object] | None:
            here = entries.is_apart(tree, place)
            return partial(entries.discard, tree, place, now) if here else None

        def room_here() -> bool:
            tidy(tree.packs, tree.locks)
            return room()

        record = pack_record(name, sealed.envelope)
        return tree.packs.write(
            place, record, room=room_here, allows=partial(allows, place), apart=apart, now=now
        )

    def remove(self, tree: Tree, name: bytes) -> bool:
        """Remove what is held, and end a claim; whether anything was held."""
        return self.remove_at(tree, Place.of(name))

    def remove_at(self, tree: Tree, place: Place) -> bool:
        """The same, whatever the name is."""
        with tree.locks.key(place):
            claims.drop(tree, place)
            return self._discard(tree, place)

    def _discard(self, tree: Tree, place: Place) -> bool:
        # Both: the second may be a leftover of somebody who was killed.
        packed = tree.packs.remove(place)
        return entries.discard(tree, place, self.now(tree), sync=self._sync) or packed

    def lengthen(self, tree: Tree, name: bytes, deadline: float) -> bool:
        """Move the deadline out to *deadline*; whether it moved."""
        place = Place.of(name)
        with tree.locks.key(place):
            present = self.present(tree, name, place)
            if present is None or present.deadline >= deadline:
                return False
            self._redate(tree, name, place, deadline)
            return True

    def end(self, tree: Tree, name: bytes, deadline: float) -> bool:
        """Move the deadline in to *deadline*, and end a claim; whether it moved.

        What cannot be read here, or be written, others may read: it has to go.
        """
        place = Place.of(name)
        with tree.locks.key(place):
            return self._end(tree, name, place, deadline)

    def end_at(self, tree: Tree, place: Place, deadline: float) -> bool:
        """The same, whatever the name is."""
        with tree.locks.key(place):  # or it may be on its way to its other place, and in neither
            name = self._name_at(tree, place)
            if name is not None and Place.of(name) == place:
                return self._end(tree, name, place, deadline)
            claims.drop(tree, place)
            self._discard(tree, place)
            return False

    def _end(self, tree: Tree, name: bytes, place: Place, deadline: float) -> bool:
        claims.drop(tree, place)
        try:
            present = self.present(tree, name, place)
        except OSError as error:
            self._unreadable(error)
            present = None
        if present is None:
            self._discard(tree, place)
            return False
        if present.deadline <= deadline:
            return False
        try:
            self._redate(tree, name, place, deadline)
        except OSError:
            self._discard(tree, place)
        return True

    @staticmethod
    def _name_at(tree: Tree, place: Place) -> bytes | None:
        try:
            found = tree.packs.find(place)
            if found is not None:
                return None if found.record is None else found.record.name
            with entries.opened(tree, place) as descriptor:
                told = peeked(descriptor)
        except OSError:
            return None
        return None if told is None else told.name

    def _redate(self, tree: Tree, name: bytes, place: Place, deadline: float) -> None:
        expires = deadline + tree.counts.base
        held = self._packed(tree, name, place)
        if held is not None:
            redated = self._layout.redated(name, held.record.envelope, expires)
            tree.packs.rewrite(place, held.spot, held.record, redated)
            return
        with entries.opened(tree, place, change=True) as descriptor:
            self._layout.redate(name, descriptor, expires)
            if self._sync:
                os.fsync(descriptor)

    def _unreadable(self, error: Exception) -> None:
        self.corrupt += 1
        self._access.failed("corrupt", "an unreadable value is a miss", error)
