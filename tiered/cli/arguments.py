"""Types of arguments of the command line."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Final

from tiered.sizes import parse_size

__all__ = ["byte_size", "period", "seconds", "whole"]

_LONGEST: Final = 86_400.0


def seconds(text: str) -> float:
    """A positive number of seconds, less than a day."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < _LONGEST:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return number


def period(text: str) -> float:
    """A number of seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, not {text!r}")
    return number


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from *low* to *high*."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {low} to {high}, not {text!r}"
            )
        return int(text)

    return parse


def byte_size(text: str) -> int:
    """A number of bytes, such as ``500M``, ``2GB`` or ``1GiB``."""
    size = parse_size(text)
    if size is None:
        raise argparse.ArgumentTypeError(
            f"must be a number of bytes such as 1000000, 500M or 2G, not {text!r}"
        )
    return size
