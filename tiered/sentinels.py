"""The two values that stand for something that is not a value."""

from __future__ import annotations

import enum
import math
from typing import Final, Literal, TypeAlias

__all__ = ["FOREVER", "MISSING", "Missing", "MissingType"]


class Missing(enum.Enum):
    """The type of :data:`MISSING`; an enum so that it pickles, compares and types well."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MissingType: TypeAlias = Literal[Missing.MISSING]

MISSING: Final = Missing.MISSING
"""No value, where ``None`` would be one."""

FOREVER: Final[float] = math.inf
"""The ttl, in seconds, of what never expires."""
