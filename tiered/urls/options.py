"""The options of a URL: what may stand behind each name, and how it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tiered.sizes import parse_size
from tiered.urls.secret import read_secret, read_secrets
from tiered.urls.texts import listed, meant, unquoted

__all__ = [
    "COUNT",
    "COUNTS",
    "FLAG",
    "FLAGS",
    "NUMBER",
    "SECRET",
    "SECRETS",
    "SIZE",
    "TEXT",
    "TEXTS",
    "Kind",
    "Option",
    "number",
    "one_of",
]

_WHOLE: Final = re.compile("[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]{1,3})?", re.IGNORECASE)

FLAGS: Final = {"true": True, "false": False}
"""The words for yes and no."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the value of an option may be.

    Attributes:
        right: the same in words, for who wrote something else.
        read: the value that a text says, or ``None`` where it says none. The text is
            percent-encoded still where *encoded*.
        choices: all that it may be, where that is a list.
    """

    right: str
    read: Callable[[str], Any]
    encoded: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a scheme.

    Attributes:
        name: in URLs.
        kind: of its value.
        about: what it is for, in a few words.
        argument: its name where the client is made; that in URLs, if it is empty.
    """

    name: str
    kind: Kind
    about: str
    argument: str = ""

    @property
    def is_secret(self) -> bool:
        """Whether the value only says where the value is."""
        return self.kind is SECRET or self.kind is SECRETS

    def read(self, text: str) -> Any:
        """The value that *text* says, as it stands in the URL.

        Raises:
            ValueError: it says none; the message says what would be right.
        """
        if self.kind is SECRET:
            return read_secret(self.name, text)
        if self.kind is SECRETS:
            return read_secrets(self.name, text)
        value = self.kind.read(text if self.kind.encoded else unquoted(text))
        if value is None:
            plain = unquoted(text)
            raise ValueError(
                f"{self.name} must be {self.kind.right}, not {plain!r}"
                f"{meant(plain, self.kind.choices)}"
            )
        return value


def number(text: str) -> float | None:
    """The number that *text* says: an ``int`` without a point, ``inf`` for no end."""
    if text.lower() == "inf":
        return math.inf
    if _WHOLE.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def one_of(names: Iterable[str], words: Mapping[str, object] = MappingProxyType({})) -> Kind:
    """One of *names*, which stand for themselves, or of *words*, for something else each."""
    meanings = {**{name: name for name in sorted(names)}, **words}
    return Kind(f"one of {', '.join(meanings)}", meanings.get, choices=tuple(meanings))


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _wholes(text: str) -> list[int] | None:
    found = [_whole(one) for one in text.split(",")]
    return None if None in found else [one for one in found if one is not None]


COUNT: Final = Kind("a whole number", _whole)
COUNTS: Final = Kind("whole numbers with commas between them", _wholes)
FLAG: Final = Kind("true or false", lambda text: FLAGS.get(text.lower()), choices=tuple(FLAGS))
NUMBER: Final = Kind("a number", number)
SIZE: Final = Kind("a number of bytes such as 1000000, 500MB or 1GiB", parse_size)
TEXT: Final = Kind("a text", lambda text: text)
TEXTS: Final = Kind("texts with commas between them", listed, encoded=True)
SECRET: Final = Kind("env:NAME or file:/path", lambda text: text)
SECRETS: Final = Kind("env:NAME or file:/path, several with commas between them", lambda text: text)
