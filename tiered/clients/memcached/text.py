"""The text dialect: servers before 1.6.10, back to 1.4.

It has no leases. An ``add`` of nothing leaves the same stub, and a ``cas`` on it is the fill,
so a delete in between is found out here, too.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from tiered.clients.memcached.bulk import read_each, read_items, weight_of_item, windows
from tiered.clients.memcached.replies import (
    Slot,
    Stored,
    Written,
    number,
    refuse,
    refuse_value,
)
from tiered.clients.memcached.stream import Stream
from tiered.errors import BackendError, CodecError, ServerRefusal, ValueTooLarge

__all__ = ["TEXT", "TextDialect"]

_DELETE_BYTES: Final = 32 * 1024
_STUB: Final = 0x571B
"""The flags of a stub."""


class _Found(NamedTuple):
    data: bytes
    token: bytes
    flags: int


class TextDialect:
    """The same exchanges as :class:`MetaDialect`'s, in the commands of old servers."""

    name: Final = "text"

    def get(self, stream: Stream, key: bytes) -> bytes | None:
        """The data under *key*; ``None`` also for a stub."""
        stream.send(b"get %b\r\n" % key)
        item = _one_item(stream, key, 4)
        return None if item is None else item.data or None

    def fetch(self, stream: Stream, key: bytes) -> Stored | None:
        """The item under *key*, a stub included, whose data is empty."""
        stream.send(b"gets %b\r\n" % key)
        item = _one_item(stream, key, 5)
        return None if item is None else Stored(item.data, item.token)

    def token(self, stream: Stream, key: bytes) -> bytes | None:
        """The token of the value under *key*; the value comes with it."""
        item = self.fetch(stream, key)
        return item.token if item is not None and item.data else None

    def get_many(
        self, stream: Stream, keys: Sequence[bytes]
    ) -> Generator[None, None, dict[bytes, bytes]]:
        """The data under those of *keys* that are there."""
        return (yield from read_items(stream, keys))

    def set(
        self, stream: Stream, key: bytes, data: bytes, life: int, token: bytes | None = None
    ) -> bool:
        """Write; with a *token*, only if the item is still the one that it came with."""
        if token is None:
            head = b"set %b 0 %d %d\r\n" % (key, life, len(data))
        else:
            head = b"cas %b 0 %d %d %b\r\n" % (key, life, len(data), token)
        return _store(stream, head, data)

    def put(
        self, stream: Stream, key: bytes, data: bytes, life: int, token: bytes | None = None
    ) -> tuple[bool, bytes | None]:
        """The same, and the token of what was written, which these commands do not tell."""
        return self.set(stream, key, data, life, token), None

    def add(self, stream: Stream, key: bytes, data: bytes, life: int) -> bool:
        """Write if nothing is there, not even a stub; whether it wrote."""
        return _store(stream, b"add %b 0 %d %d\r\n" % (key, life, len(data)), data)

    def set_many(
        self, stream: Stream, items: Sequence[tuple[bytes, bytes]], life: int
    ) -> Generator[None, None, list[Written]]:
        """Write each of *items*; for each, in order, what became of it."""
        written: list[Written] = []
        for window in windows(items, weight_of_item):
            parts: list[bytes] = []
            for key, data in window:
                parts += (b"set %b 0 %d %d\r\n" % (key, life, len(data)), data, b"\r\n")
            stream.send_each(parts, 3)
            yield
            for _ in window:
                try:
                    written.append(_stored(stream, b"NOT_STORED"))
                except (CodecError, ServerRefusal) as error:
                    written.append(error)
        return written

    def delete(self, stream: Stream, key: bytes, token: bytes | None = None) -> bool:
        """Remove; with a *token*, only what it came with. Whether it did."""
        if token is not None:  # no such command; an item that has expired is gone as well
            try:
                return self.set(stream, key, b"", -1, token)
            except ValueTooLarge as error:
                raise ServerRefusal(str(error)) from error
        stream.send(b"delete %b\r\n" % key)
        return _expect(stream, b"DELETED", b"NOT_FOUND")

    def delete_many(
        self, stream: Stream, keys: Sequence[bytes]
    ) -> Generator[None, None, list[bool]]:
        """Remove each of *keys*; for each, in order, whether there was one."""
        gone: list[bool] = []
        for window in windows(keys, len, _DELETE_BYTES):
            stream.send_each([b"delete %b\r\n" % key for key in window], 1)
            yield
            gone += read_each(window, lambda _: _expect(stream, b"DELETED", b"NOT_FOUND"))
        return gone

    # -- Claims ------------------------------------------------------------------

    def reserve(self, stream: Stream, key: bytes, life: int) -> Slot:
        """Put a stub under *key* for *life* seconds if nothing is there, not even another.

        Between the two steps, somebody may delete it and put another in its place. Then both
        have won, and only the first to fill does; neither has read the source before that.
        """
        for _ in range(2):
            won = _store(stream, b"add %b %d %d 0\r\n" % (key, _STUB, life), b"")
            stream.send(b"gets %b\r\n" % key)
            found = _one_item(stream, key, 5)
            if found is not None:
                # Without the flags it is nobody's stub, and might lie there for ever.
                stub = not found.data and found.flags == _STUB
                return Slot(won and stub, not won and stub, found.token)
        return Slot(won=False, held=True, token=b"0")  # it goes as fast as it comes

    def stub(self, stream: Stream, key: bytes) -> bytes | None:
        """The token of the stub under *key*, if there is one."""
        item = self.fetch(stream, key)
        return None if item is None or item.data else item.token

    def touch(self, stream: Stream, key: bytes, life: int) -> bool:
        """Let the item under *key* be kept for *life*; whether there is one."""
        stream.send(b"touch %b %d\r\n" % (key, life))
        return _expect(stream, b"TOUCHED", b"NOT_FOUND")

    def renumber(self, stream: Stream, key: bytes) -> None:
        """Give the item under *key* another token, and leave it as it is."""
        stream.send(b"append %b 0 0 0\r\n\r\n" % key)
        _expect(stream, b"STORED", b"NOT_STORED")


def _store(stream: Stream, head: bytes, data: bytes) -> bool:
    stream.send(b"%b%b\r\n" % (head, data))
    return _stored(stream, b"NOT_STORED", b"EXISTS", b"NOT_FOUND")


def _stored(stream: Stream, *no: bytes) -> bool:
    line = stream.line()
    if line != b"STORED" and line not in no:
        refuse_value(line)
    return line == b"STORED"


def _expect(stream: Stream, yes: bytes, *no: bytes) -> bool:
    """Whether the next line is *yes*, or one of *no*."""
    line = stream.line()
    if line != yes and line not in no:
        refuse(line)
    return line == yes


def _one_item(stream: Stream, key: bytes, fields: int) -> _Found | None:
    """The answer to a ``get`` (4 *fields*) or ``gets`` (5) of one key."""
    line = stream.line()
    if line == b"END":
        return None
    if not line.startswith(b"VALUE "):
        refuse(line)
    head = line.split(b" ")
    if len(head) != fields or head[1] != key:
        raise BackendError(f"{line[:80]!r} answers another question")
    data = stream.block(number(head[3]))
    end = stream.line()
    if end != b"END":
        raise BackendError(f"{end[:80]!r} after the only item asked for")
    return _Found(data, head[-1], number(head[2]))


TEXT: Final = TextDialect()
