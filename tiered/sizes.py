"""Numbers of bytes as people write them: ``500MB``, ``1GiB``."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_size"]

_EXPONENTS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE: Final = re.compile(r"([0-9]{1,15})(?:([KMGT]?)B?|([KMGT])iB)", re.IGNORECASE)


def parse_size(text: str) -> int | None:
    """The number of bytes that *text* says; ``None`` if it says none, or 0.

    The units are ``B``, ``KB``, ``MB``, ``GB`` and ``TB``, of 1000 each, and ``KiB``, ``MiB``,
    ``GiB`` and ``TiB``, of 1024 each. Small letters will do, and ``K`` for ``KB``.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    number, decimal, binary = match.groups()
    scale = 1024 ** _EXPONENTS[binary.upper()] if binary else 1000 ** _EXPONENTS[decimal.upper()]
    return int(number) * scale or None
