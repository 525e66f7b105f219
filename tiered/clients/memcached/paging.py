"""Values that are larger than a server's items: their pages, on all servers."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.items import Item, lives, told
from tiered.clients.memcached.servers import Servers
from tiered.codec.pages import MIN_PAGE_SIZE, Manifest, page_key, split
from tiered.codec.values import Header, ValueCodec
from tiered.errors import ValueTooLarge

__all__ = ["Joined", "Paging"]

_ITEM_OVERHEAD: Final = 512
"""Bytes of an item that are not data, with a key of any length: the limit counts them."""


class Joined(NamedTuple):
    """A value that was put together; a class of its own, as ``None`` is a value."""

    value: Any


class Paging:
    """Writes large values in pages, and reads them.

    The pages come first, the manifest last. Pages of a version that was overwritten, or
    whose manifest was deleted, are reached by nobody, and go when their time is over.

    Threads: safe.
    """

    def __init__(self, servers: Servers, codec: ValueCodec, prefix: bytes) -> None:
        self._servers = servers
        self._codec = codec
        self._prefix = prefix

    @property
    def room(self) -> int:
        """Bytes of the largest sealed value that all servers take, as far as is known."""
        return self._servers.fleet.item_limit - _ITEM_OVERHEAD

    def write(self, name: bytes, item: Item) -> Item:
        """Write the pages of *item*, whose key is signed as *name*; its manifest, to be written.

        Raises:
            ValueTooLarge: a server takes no page of a sensible size, or no server took one.
        """
        room = self.room
        try:
            return self._written(name, item)
        except ValueTooLarge:
            if self.room >= room:
                raise
            return self._written(name, item)  # a server has told only now how little it takes

    def _written(self, name: bytes, item: Item) -> Item:
        if self.room < MIN_PAGE_SIZE:
            raise ValueTooLarge(f"{len(item.sealed)} bytes, and a server takes {self.room}")
        manifest, pages = split(item.sealed, self.room)
        keyed = dict(zip(self._keys(manifest), pages, strict=True))

        written = self._servers.write_many(
            keyed,
            lambda connection, away: told(connection, *lives(item.remaining, item.keep, away)),
        )
        for key in keyed:
            if written.get(key) is not True:
                raise ValueTooLarge(
                    f"a page of {len(item.sealed)} bytes was not taken: {written.get(key)}"
                )
        header = self._codec.header(name, item.sealed)

        def seal(remaining: float, keep: float) -> bytes:
            lasting = header.created + remaining
            return self._codec.seal_manifest(
                name, manifest, Header(header.created, lasting, keep, header.cost)
            )

        return Item(item.wire, seal, item.remaining, item.keep)

    def read(self, name: bytes, manifest: Manifest) -> Joined | None:
        """The value that *manifest* stands for; ``None`` if pages are gone.

        Raises:
            CorruptValue: the pages are not what was written.
        """
        keys = self._keys(manifest)
        stored = self._servers.read_many(keys)
        if len(stored) < len(keys):
            return None
        return Joined(self._codec.decode_pages(name, manifest, [stored[key] for key in keys]))

    def touch(self, name: bytes, manifest: bytes, life: float) -> None:
        """Let the pages of the sealed *manifest* be kept for *life* seconds."""
        known, _ = self._codec.decode(name, manifest)

        def touch(connection: Connection, away: bool) -> bool:
            seconds = told(connection, *lives(life, 0.0, away))
            return connection.dialect.touch(connection.stream, key, seconds)

        for key in self._keys(known):
            self._servers.write(key, touch, False)

    def _keys(self, manifest: Manifest) -> list[bytes]:
        return [page_key(self._prefix, manifest.token, index) for index in range(manifest.pages)]
