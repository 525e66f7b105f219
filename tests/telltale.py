"""A value that tells of itself where it is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["Telltale"]


class Telltale:
    """Leaves a file where it is unpickled; with an array, from a region."""

    def __init__(self, mark: Path, *more: Any) -> None:
        self._arguments = (str(mark), *more)

    def __reduce__(self) -> Any:
        return _leave, self._arguments


def _leave(mark: str, *_: Any) -> None:
    Path(mark).touch()
