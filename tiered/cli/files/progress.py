"""How far a long scan is, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

__all__ = ["ProgressBar"]

_WIDTH: Final = 40
_STEP: Final = 10
"""Percent between two lines, where lines cannot be drawn over."""


class ProgressBar:
    """Shows what it is called with, and takes itself away at the end; a context manager.

    Args:
        label: what goes on.
        wanted: show it also where stderr is no terminal: a line for each tenth.
    """

    def __init__(self, label: str, *, wanted: bool = False) -> None:
        self._label = label
        self._screen = sys.stderr.isatty()
        self._shown = wanted or self._screen
        self._percent = -1

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, every: int) -> None:
        """*done* of *every* part are done."""
        percent = 100 * done // max(every, 1)
        if not self._shown or percent == self._percent:
            return
        if self._screen:
            filled = _WIDTH * percent // 100
            bar = "#" * filled + "." * (_WIDTH - filled)
            print(f"\r{self._label} [{bar}] {percent:3} %", end="", file=sys.stderr, flush=True)
        elif percent // _STEP != self._percent // _STEP:
            print(f"{self._label}: {percent} %", file=sys.stderr, flush=True)
        self._percent = percent

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._screen and self._percent >= 0:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
