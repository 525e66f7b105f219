"""What both dialects make of the lines that servers answer with."""

from __future__ import annotations

from typing import NamedTuple, NoReturn, TypeAlias

from tiered.errors import BackendError, CodecError, ServerRefusal, ValueTooLarge

__all__ = ["Slot", "Stored", "Written", "is_refusal", "number", "refuse", "refuse_value"]

Written: TypeAlias = bool | CodecError | ServerRefusal
"""Whether one of many was written, or why the server refused it."""


class Stored(NamedTuple):
    """An item as the server holds it; *token* changes with every write of it.

    *outdated* says that somebody has marked it so, as clients of other makes do (``md I``).
    """

    data: bytes
    token: bytes
    outdated: bool = False


class Slot(NamedTuple):
    """What a reservation met.

    Attributes:
        won: nothing was there, and now a stub of ours is.
        held: somebody else's stub is there.
        token: of what is there; changes with every write of it.
        left: whole seconds that the server keeps it; -1 for no end, or unknown.
    """

    won: bool
    held: bool
    token: bytes
    left: int = -1


def is_refusal(line: bytes) -> bool:
    """Whether *line* is a whole answer that says no, after which the connection is as before."""
    return line.startswith(b"SERVER_ERROR")


def refuse(line: bytes) -> NoReturn:
    """Raise what *line* means in place of an answer.

    Raises:
        ServerRefusal: a clean refusal.
        BackendError: nonsense; what follows cannot be trusted.
    """
    if not is_refusal(line):
        raise BackendError(f"the answer {line[:80]!r} makes no sense")
    raise ServerRefusal(f"the server answers {_text(line)}")


def refuse_value(line: bytes) -> NoReturn:
    """The same for what answers a write.

    Raises:
        ValueTooLarge: a clean refusal that only a smaller value can help.
        ServerRefusal, BackendError: as :func:`refuse` does.
    """
    if is_refusal(line) and b"too large" in line:
        raise ValueTooLarge(f"the server refuses the value: {_text(line)}")
    refuse(line)


def _text(line: bytes) -> str:
    return line.decode("ascii", "replace")[:200]


def number(text: bytes) -> int:
    """A count in an answer. Raises ``BackendError`` for anything but plain digits."""
    if not text.isdigit() or len(text) > 20:
        raise BackendError(f"{text[:40]!r} where a number should be")
    return int(text)
