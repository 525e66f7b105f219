"""Canonical bytes to a text for people: what key is that?

The text looks like the key in Python, as far as the bytes tell. It is for logs and screens,
and no key is made from it again: nothing is looked up, imported or executed, and whatever the
bytes are, there is a text.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final, TypeVar
from uuid import UUID

__all__ = ["readable"]

T = TypeVar("T")

_DEEPEST: Final = 100
_FLOAT: Final = struct.Struct(">d")
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_HEX: Final = re.compile(rb"-?[0-9a-f]+")
_SIZE: Final = re.compile(rb"[0-9]{1,18}")
_HASHED: Final = b"#"
_HASH_SIZE: Final = 20


def readable(name: bytes, *, most: int = 500) -> str:
    """The key that has the canonical bytes *name*, as a text of up to *most* characters.

    A long key, of which the bus knows a digest only, is shown as that; what is no canonical
    form at all, as the bytes that it is. All characters can be printed.
    """
    if name[:1] == _HASHED and len(name) == len(_HASHED) + _HASH_SIZE:
        text = f"#{name[1:].hex()}"
    else:
        try:
            reader = _Reader(name)
            text = reader.part()
            reader.end()
        except _Strange:
            text = f"<no key: {name!r}>"
    return text if len(text) <= most else text[: most - 1] + "…"


class _Strange(Exception):
    """The bytes are no canonical form."""


class _Reader:
    """Reads *data* from its beginning to its end, a part of a key at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._depth = 0

    def part(self) -> str:
        """The text of the next part."""
        show = _SHOWN.get(self._taken(1))
        if show is None or self._depth >= _DEEPEST:
            raise _Strange
        self._depth += 1
        text = show(self)
        self._depth -= 1
        return text

    def end(self) -> None:
        """Nothing follows."""
        if self._at != len(self._data):
            raise _Strange

    def _taken(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise _Strange
        self._at += size
        return taken

    def _until(self, mark: bytes, form: re.Pattern[bytes]) -> bytes:
        end = self._data.find(mark, self._at)
        taken = self._data[self._at : max(end, self._at)]
        if not form.fullmatch(taken):
            raise _Strange
        self._at = end + 1
        return taken

    def size(self) -> int:
        """A length, or a number of parts."""
        return int(self._until(b":", _SIZE))

    def framed(self) -> bytes:
        """As many bytes as are told before them."""
        return self._taken(self.size())

    def plain(self) -> str:
        """The same, where they are printable ASCII."""
        text = self.framed().decode("latin-1")
        if not (text.isascii() and text.isprintable()):
            raise _Strange
        return text

    def parts(self) -> list[str]:
        """As many parts as are told before them."""
        return [self.part() for _ in range(self.size())]

    # -- What follows each letter --------------------------------------------------

    def integer(self) -> str:
        return self._until(b";", _INTEGER).decode()

    def large(self) -> str:
        digits = self._until(b";", _HEX).decode()
        return f"-0x{digits[1:]}" if digits.startswith("-") else f"0x{digits}"

    def float(self) -> str:
        digits = self._until(b";", _HEX)
        if len(digits) != 2 * _FLOAT.size or digits.startswith(b"-"):
            raise _Strange
        return repr(_FLOAT.unpack(bytes.fromhex(digits.decode()))[0])

    def text(self) -> str:
        try:
            return repr(self.framed().decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise _Strange from None

    def set(self) -> str:
        parts = self.parts()
        return "{" + ", ".join(parts) + "}" if parts else "frozenset()"

    def tuple(self) -> str:
        parts = self.parts()
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"

    def range(self) -> str:
        length = self.integer()
        if length == "0":
            return "range(0)"
        return f"range of {length} from {self.part()} by {self.part()}"

    def path(self) -> str:
        flavour = {b"w": "PureWindowsPath", b"p": "PurePosixPath"}.get(self._taken(1))
        if flavour is None:
            raise _Strange
        return f"{flavour}({self.part()})"

    def name(self) -> str:
        """Of a class or a function: its module's, and its own."""
        return ".".join(self._expected(b"s", self._word) for _ in range(2))

    def _word(self) -> str:
        # Python's names may have any letters; what is none would be told by its quotes.
        shown = self.text()
        return shown[1:-1] if shown[1:-1].replace(".", "").isidentifier() else shown

    def _expected(self, letter: bytes, show: Callable[[], T]) -> T:
        if self._taken(1) != letter:
            raise _Strange
        return show()

    def member(self) -> str:
        kind = self._expected(b"n", self.name)
        if self._data[self._at : self._at + 1] == b"s":
            return f"{kind}.{self._expected(b's', self._word)}"
        return f"{kind}({self.part()})"  # of a flag

    def record(self) -> str:
        kind = self._expected(b"n", self.name)
        return f"{kind}({', '.join(self.parts())})"

    def registered(self) -> str:
        inner = _Reader(self.framed())
        inner._depth = self._depth
        kind = inner._expected(b"s", inner._word)
        text = f"{kind}({inner.part()})"
        inner.end()
        return text

    def identifier(self) -> str:
        data = self.framed()
        if len(data) != 16:
            raise _Strange
        return f"UUID({str(UUID(bytes=data))!r})"


_SHOWN: Final[dict[bytes, Callable[[_Reader], str]]] = {
    b"N": lambda _: "None",
    b"E": lambda _: "Ellipsis",
    b"I": lambda _: "NotImplemented",
    b"i": _Reader.integer,
    b"x": _Reader.large,
    b"f": _Reader.float,
    b"q": lambda reader: f"Fraction({reader.part()}, {reader.part()})",
    b"c": lambda reader: f"complex({reader.part()}, {reader.part()})",
    b"s": _Reader.text,
    b"b": lambda reader: repr(reader.framed()),
    b"t": _Reader.tuple,
    b"z": _Reader.set,
    b"r": _Reader.range,
    b"d": lambda reader: f"datetime({reader.plain()})",
    b"u": lambda reader: f"datetime({reader.plain()} UTC)",
    b"v": lambda reader: f"datetime({reader.plain()})",
    b"y": lambda reader: f"date({reader.plain()})",
    b"h": lambda reader: f"time({reader.plain()})",
    b"k": lambda reader: f"time(UTC, midnight + {reader.part()})",
    b"e": lambda reader: f"timedelta({reader.integer()} µs)",
    b"p": _Reader.path,
    b"n": _Reader.name,
    b"m": _Reader.member,
    b"a": _Reader.record,
    b"o": _Reader.registered,
    b"g": _Reader.identifier,
}
"""By the letter that begins a part, what reads the rest of it."""
