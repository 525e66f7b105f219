"""Tables of figures that are text already: columns of their own, unlike those of sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """Rows, each with a name in the first column."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """For a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [self.title]
        for first, *others in lines:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            shown.append("  " + "  ".join([first.ljust(widths[0]), *cells]))
        return "\n".join(shown)

    def markdown(self) -> str:
        """For a page of the documentation, without the title."""
        line = ["---", *("---:" for _ in self.head[1:])]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (self.head, line, *self.rows))
