"""What stands in a URL as it was meant: percent-decoded, and the name that was meant by a typo."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

__all__ = ["listed", "meant", "unquoted"]

_LOOSE_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


def unquoted(text: str) -> str:
    """*text* with ``%7C`` and the like decoded, as UTF-8. A ``+`` is a plus.

    Raises:
        ValueError: a ``%`` without two hexadecimal digits, bytes that are not UTF-8, or a control
            character. The message does not hold *text*, which may be a secret.
    """
    if _LOOSE_PERCENT.search(text):
        raise ValueError("a % must be followed by two hexadecimal digits; write %25 for a %")
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("what is written with % must be UTF-8") from None
    if _CONTROL.search(plain):
        raise ValueError("control characters cannot be part of a value")
    return plain


def listed(text: str) -> list[str]:
    """What stands between the commas of *text*, each decoded. Raises as :func:`unquoted`."""
    return [unquoted(one) for one in text.split(",")]


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean '...'?`` where one of *known* is close to *name*, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
