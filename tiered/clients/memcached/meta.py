"""The meta dialect: servers from 1.6.10 on.

Every command carries an opaque number that its answer repeats, so an answer to another
question is found out. Not used, because servers in use refuse them: ``E``, ``md x``,
``mg C``; nor ``md I``, whose stale items look fresh to plain readers.

Many keys are read with one plain ``get``: a server gives a connection twenty commands a
turn, so a hundred ``mg`` cost it five turns, five packets, and three times the time.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from tiered.clients.memcached.bulk import read_each, read_items, weight_of_item, windows
from tiered.clients.memcached.replies import (
    Slot,
    Stored,
    Written,
    is_refusal,
    number,
    refuse,
    refuse_value,
)
from tiered.clients.memcached.stream import Stream
from tiered.errors import BackendError, CodecError, ServerRefusal

__all__ = ["EARLY_META", "META", "MetaDialect"]

_DELETE_BYTES: Final = 32 * 1024


class MetaDialect:
    """Exchanges, each a method that sends and reads. Stateless.

    Args:
        tells_tokens: whether the server answers a write with the token, if it is asked to.

    Methods that end in ``_many`` are generators that stop between question and answer,
    so that several servers can be asked at once.
    """

    name: Final = "meta"

    def __init__(self, *, tells_tokens: bool = True) -> None:
        self._tells_tokens = tells_tokens

    def get(self, stream: Stream, key: bytes) -> bytes | None:
        """The data under *key*; ``None`` also for a stub."""
        found = _read(stream, key, b"v")
        return None if found is None else found[1] or None

    def fetch(self, stream: Stream, key: bytes) -> Stored | None:
        """The item under *key*, a stub included, whose data is empty."""
        found = _read(stream, key, b"v c")
        if found is None:
            return None
        head, data = found
        return Stored(data, _flag(head, b"c"), b"X" in head)

    def token(self, stream: Stream, key: bytes) -> bytes | None:
        """The token of the value under *key*, without the value; none of what is outdated."""
        flags = _look(stream, key)
        if flags is None:
            return None
        token = _flag(flags, b"c")
        return None if _flag(flags, b"s") == b"0" or b"X" in flags else token

    def get_many(
        self, stream: Stream, keys: Sequence[bytes]
    ) -> Generator[None, None, dict[bytes, bytes]]:
        """The data under those of *keys* that are there."""
        return (yield from read_items(stream, keys))

    def set(
        self, stream: Stream, key: bytes, data: bytes, life: int, token: bytes | None = None
    ) -> bool:
        """Write; with a *token*, only if the item is still the one that it came with."""
        condition = b"" if token is None else b" C" + token
        return self._store(stream, key, data, life, condition)[0]

    def put(
        self, stream: Stream, key: bytes, data: bytes, life: int, token: bytes | None = None
    ) -> tuple[bool, bytes | None]:
        """The same, and the token of what was written, if the server tells."""
        condition = b"" if token is None else b" C" + token
        if self._tells_tokens:
            condition += b" c"
        written, flags = self._store(stream, key, data, life, condition)
        told = [flag[1:] for flag in flags if flag[:1] == b"c"] if written else []
        return written, told[0] if told else None

    def add(self, stream: Stream, key: bytes, data: bytes, life: int) -> bool:
        """Write if nothing is there, not even a stub; whether it wrote."""
        return self._store(stream, key, data, life, b" ME")[0]

    def _store(
        self, stream: Stream, key: bytes, data: bytes, life: int, condition: bytes
    ) -> tuple[bool, list[bytes]]:
        opaque = b"O%d" % stream.serial()
        stream.send(
            b"ms %b %d T%d %b%b\r\n%b\r\n" % (key, len(data), life, opaque, condition, data)
        )
        line = stream.line()
        if is_refusal(line):
            refuse_value(line)
        return _expect(line, opaque, b"HD", b"NS", b"EX", b"NF"), line.split()[1:]

    def set_many(
        self, stream: Stream, items: Sequence[tuple[bytes, bytes]], life: int
    ) -> Generator[None, None, list[Written]]:
        """Write each of *items*; for each, in order, what became of it."""
        written: list[Written] = []
        for window in windows(items, weight_of_item):
            tail = b" T%d q\r\n" % life
            parts: list[bytes] = []
            for key, data in window:
                parts += (b"ms ", key, b" %d" % len(data), tail, data, b"\r\n")
            parts.append(b"mn\r\n")
            stream.send_each(parts, 6)
            yield
            if _quiet_end(stream, len(window)):
                written += [True] * len(window)
            else:
                # A refusal does not say which of them it means.
                written += [self._set_one(stream, key, data, life) for key, data in window]
        return written

    def _set_one(self, stream: Stream, key: bytes, data: bytes, life: int) -> Written:
        try:
            return self.set(stream, key, data, life)
        except (CodecError, ServerRefusal) as error:
            return error

    def delete(self, stream: Stream, key: bytes, token: bytes | None = None) -> bool:
        """Remove; with a *token*, only what it came with. Whether it did."""
        opaque = b"O%d" % stream.serial()
        condition = b"" if token is None else b" C" + token
        stream.send(b"md %b %b%b\r\n" % (key, opaque, condition))
        return _expect(stream.line(), opaque, b"HD", b"NF", b"EX")

    def delete_many(
        self, stream: Stream, keys: Sequence[bytes]
    ) -> Generator[None, None, list[bool]]:
        """Remove each of *keys*; for each, in order, whether there was one."""
        gone: list[bool] = []
        for window in windows(keys, len, _DELETE_BYTES):
            opaques = [b"O%d" % stream.serial() for _ in window]
            pairs = zip(window, opaques, strict=True)
            stream.send_each([b"md %b %b\r\n" % pair for pair in pairs], 1)
            yield
            # Not quiet: releases differ in which answers that leaves out.
            gone += read_each(opaques, lambda opaque: _expect(stream.line(), opaque, b"HD", b"NF"))
        return gone

    # -- Claims ------------------------------------------------------------------

    def reserve(self, stream: Stream, key: bytes, life: int) -> Slot:
        """Put a stub under *key* for *life* seconds if nothing is there, not even another."""
        opaque = b"O%d" % stream.serial()
        stream.send(b"mg %b c s t N%d %b\r\n" % (key, life, opaque))
        line = stream.line()
        if not line.startswith(b"HD"):
            refuse(line)
        flags = line.split()
        if opaque not in flags:
            raise _astray(line)
        empty = _flag(flags, b"s") == b"0"
        left = _flag(flags, b"t")
        return Slot(
            won=empty and b"W" in flags,
            # Without a flag: a stub of the text dialect, unless it lies there for ever.
            held=empty and b"W" not in flags and (b"Z" in flags or left != b"-1"),
            token=_flag(flags, b"c"),
            left=-1 if left == b"-1" else number(left),
        )

    def stub(self, stream: Stream, key: bytes) -> bytes | None:
        """The token of the stub under *key*, if there is one."""
        flags = _look(stream, key)
        if flags is None or _flag(flags, b"s") != b"0":
            return None
        return _flag(flags, b"c")

    def touch(self, stream: Stream, key: bytes, life: int) -> bool:
        """Let the item under *key* be kept for *life*; whether there is one."""
        opaque = b"O%d" % stream.serial()
        stream.send(b"mg %b T%d %b\r\n" % (key, life, opaque))
        return _expect(stream.line(), opaque, b"HD", b"EN")

    def renumber(self, stream: Stream, key: bytes) -> None:
        """Give the item under *key* another token, and leave it as it is."""
        opaque = b"O%d" % stream.serial()
        stream.send(b"ms %b 0 MA %b\r\n\r\n" % (key, opaque))
        _expect(stream.line(), opaque, b"HD", b"NS", b"NF")


def _look(stream: Stream, key: bytes) -> list[bytes] | None:
    """The words that tell the token and the size of what is under *key*, without its data."""
    opaque = b"O%d" % stream.serial()
    stream.send(b"mg %b c s %b\r\n" % (key, opaque))
    line = stream.line()
    if not line.startswith(b"HD"):
        _expect(line, opaque, b"EN")
        return None
    flags = line.split()
    if opaque not in flags:
        raise _astray(line)
    return flags


def _read(stream: Stream, key: bytes, flags: bytes) -> tuple[list[bytes], bytes] | None:
    """The words of the answer's line and the data under *key*, if there is any."""
    opaque = b"O%d" % stream.serial()
    stream.send(b"mg %b %b %b\r\n" % (key, flags, opaque))
    line = stream.line()
    if line.startswith(b"VA "):
        head = line.split()
        if opaque not in head[2:]:
            raise _astray(line)
        return head, stream.block(number(head[1]))
    _expect(line, opaque, b"EN")
    return None


def _expect(line: bytes, opaque: bytes, yes: bytes, *no: bytes) -> bool:
    """Whether *line* is the answer *yes* to the command that had *opaque*, or one of *no*."""
    head, *flags = line.split() or [b""]
    if head != yes and head not in no:
        refuse(line)
    # Early releases repeat nothing after a miss.
    if opaque not in flags and (flags or head != b"EN"):
        raise _astray(line)
    return head == yes


def _quiet_end(stream: Stream, count: int) -> bool:
    """Read what *count* quiet commands answer until the end of all; whether that was nothing."""
    for refused in range(count + 1):
        line = stream.line()
        if line == b"MN":
            return not refused
        if not is_refusal(line):
            refuse(line)
    raise BackendError(f"more than {count} answers to {count} commands")


def _flag(flags: Sequence[bytes], letter: bytes) -> bytes:
    """The value of the flag *letter* in an answer's line."""
    for flag in flags[1:]:
        if flag[:1] == letter:
            return flag[1:]
    raise BackendError(f"the answer {b' '.join(flags)[:80]!r} lacks {letter.decode()!r}")


def _astray(line: bytes) -> BackendError:
    return BackendError(f"{line[:80]!r} answers another question")


META: Final = MetaDialect()
EARLY_META: Final = MetaDialect(tells_tokens=False)
