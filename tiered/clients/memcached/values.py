"""Values and what stands for them on a server: envelopes, manifests, deadlines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from tiered.clients.memcached.items import Item
from tiered.clients.memcached.paging import Paging
from tiered.clients.memcached.replies import Stored
from tiered.clients.memcached.servers import Servers
from tiered.codec.pages import Manifest
from tiered.codec.values import Header, ValueCodec
from tiered.entry import Entry
from tiered.errors import CorruptValue
from tiered.keys.wire import KeyName, PythonKeyNames
from tiered.stats.counters import Counters
from tiered.stats.reports import Reports
from tiered.typing import Clock, Key

__all__ = ["Values"]


class Values:
    """Turns values into items, and what servers answer into entries.

    Attributes:
        paging: for those that are too large for a server.
        corrupt: how much of what was found could not be read.

    Threads: safe; counted as in :class:`tiered.stats.counters.Counters`.
    """

    def __init__(
        self, codec: ValueCodec, servers: Servers, paging: Paging, clock: Clock, reports: Reports
    ) -> None:
        self.paging: Final = paging
        self.corrupt = 0
        self._codec = codec
        self._open = codec.open
        self._open_many = codec.open_many
        self._servers = servers
        self._counters: Counters = servers.counters
        self._reports = reports
        self._monotonic = clock.monotonic
        self._clock = clock

    def wall(self) -> float:
        """The time on the servers' clocks, which is what all their users can agree on."""
        return self._clock.wall() + self._servers.fleet.clock_offset

    def entries(self, names: PythonKeyNames, keys: Iterable[Key]) -> dict[Key, Entry]:
        """Ask for *keys*, and return the entries of those that are there."""
        asked = names.index(keys)
        stored = self._servers.read_many(list(asked))
        found: dict[Key, Entry] = {}
        if self._servers.fleet.doubts:
            unusual = list(stored)
        else:
            shift = self._monotonic() - self.wall()
            unusual = self._open_many(stored, asked, shift, found)
        for wire in unusual:
            key, name = asked[wire]
            entry = self.entry(name, stored[wire])
            if entry is not None:
                found[key] = entry
        return found

    def entry(self, name: KeyName, data: bytes) -> Entry | None:
        """What *data*, found under *name*, stands for; ``None`` if that is not to be believed."""
        opened = self._open(name.signed, data)
        if opened is None:
            try:
                value, (created, expires, _, _) = self._codec.decode(name.signed, data)
            except CorruptValue as error:
                self._unreadable(error)
                return None
        else:
            value, created, expires = opened
        if self._servers.fleet.doubts and not self._servers.trusts(name.wire, created):
            return None
        # The envelope's wall-clock expiry on this process's monotonic clock.
        deadline = expires + (self._monotonic() - self.wall())
        if type(value) is Manifest:
            return self._joined(name, value, deadline)
        return Entry(value, deadline)

    def _joined(self, name: KeyName, manifest: Manifest, deadline: float) -> Entry | None:
        """The entry of a value that lies in pages; ``None`` if some of them are gone."""
        try:
            found = self.paging.read(name.signed, manifest)
        except CorruptValue as error:
            self._unreadable(error)
            return None
        return None if found is None else Entry(found.value, deadline)

    def header(self, name: KeyName, stored: Stored | None) -> Header | None:
        """Of what is stored, if that is a value to be believed."""
        if stored is None or not stored.data:
            return None
        try:
            header = self._codec.header(name.signed, stored.data)
        except CorruptValue as error:
            self._unreadable(error)
            return None
        return header if self._servers.trusts(name.wire, header.created) else None

    def _unreadable(self, error: CorruptValue) -> None:
        self.corrupt += 1
        self._counters.errors += 1
        self._reports.warn("corrupt", "memcached: an unreadable value is a miss: %s", error)

    def deadline(self, header: Header) -> float:
        """The envelope's wall-clock expiry on this process's monotonic clock."""
        return self._monotonic() + (header.expires - self.wall())

    def item(
        self, name: KeyName, value: Any, deadline: float, keep: float, cost: float = 0.0
    ) -> Item:
        """*value* on its way to a server. Raises ``CodecError`` if it cannot go."""
        now = self.wall()
        remaining = deadline - self._monotonic()

        def seal(remaining: float, keep: float) -> bytes:
            header = Header(now, now + remaining, keep, cost)
            return self._codec.encode(name.signed, value, header)

        item = Item(name.wire, seal, remaining, keep)
        if len(item.sealed) > self.paging.room:
            return self.paging.write(name.signed, item)
        return item

    def size(self, name: KeyName, data: bytes) -> int:
        """Bytes of an envelope that can be read, or of the one that lies in pages for it."""
        if not self._codec.is_manifest(data):
            return len(data)
        manifest, _ = self._codec.decode(name.signed, data)
        size: int = manifest.size
        return size

    def lasting(self, name: KeyName, value: Any) -> bytes:
        """The envelope of a *value* that never expires."""
        return self._codec.encode(name.signed, value, Header(self.wall(), math.inf))
