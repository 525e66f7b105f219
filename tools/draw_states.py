"""Draws docs/states.svg, the phases of a node, from the table that the node runs on.

Run it after a change of the table: ``python tools/draw_states.py``. It prints the table for
docs/explanation/coherence.md, too. A test compares both.
"""

from __future__ import annotations

import math
import pathlib
from typing import Final

from tiered.coherence.node import NODE_TABLE
from tiered.coherence.state import Phase

FILE: Final = pathlib.Path(__file__).parent.parent / "docs" / "states.svg"
_PLACES: Final = {
    Phase.DETACHED: (130, 90),
    Phase.JOINING: (130, 330),
    Phase.FOLLOWING: (640, 330),
    Phase.CATCHING_UP: (640, 90),
}
_NOTES: Final = {
    Phase.DETACHED: "the lease runs out",
    Phase.JOINING: "hello was said",
    Phase.FOLLOWING: "pongs extend the lease",
    Phase.CATCHING_UP: "no lease; replay asked for",
}
_WIDTH, _HEIGHT = 210, 60
_LINE = 15


def arrows() -> dict[tuple[Phase, Phase], list[str]]:
    """For each two phases, the names of what leads from the one to the other."""
    found: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, kind), step in NODE_TABLE.items():
        for target in step.leads_to:
            if target is not phase:
                found.setdefault((phase, target), []).append(kind.__name__)
    return found


def drawing() -> str:
    """The picture, as SVG."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 430" '
        'font-family="sans-serif" font-size="13">',
        "<title>The phases of a node, and the messages that lead from one to another</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
        '<rect width="780" height="430" fill="white"/>',
    ]
    for (source, target), names in arrows().items():
        parts.extend(_arrow(source, target, names))
    for phase, (x, y) in _PLACES.items():
        left, top = x - _WIDTH / 2, y - _HEIGHT / 2
        fill = "#d9efd9" if phase is Phase.FOLLOWING else "#eef2f7"
        parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="10" '
            f'fill="{fill}" stroke="#345"/>'
        )
        parts.append(
            f'<text x="{x}" y="{y - 4}" text-anchor="middle" font-weight="bold">'
            f"{phase.value}</text>"
        )
        parts.append(
            f'<text x="{x}" y="{y + 15}" text-anchor="middle" fill="#555">{_NOTES[phase]}</text>'
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def rows() -> str:
    """The table itself, for the page: what each message means where."""
    meanings: dict[tuple[str, str], list[str]] = {}
    for (phase, kind), step in NODE_TABLE.items():
        meanings.setdefault((kind.__name__, step.meaning), []).append(phase.value)
    lines = ["| what comes | when | what it means |", "| --- | --- | --- |"]
    for (kind, meaning), phases in meanings.items():
        lines.append(f"| `{kind}` | {', '.join(phases)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _arrow(source: Phase, target: Phase, names: list[str]) -> list[str]:
    (x1, y1), (x2, y2) = _PLACES[source], _PLACES[target]
    length = math.hypot(x2 - x1, y2 - y1)
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    # Beside the straight line, on the left of who walks along, so that two ways do not meet.
    side = 16
    sx, sy = dy * side, -dx * side
    begin, end = _to_edge(dx, dy, sx, sy), _to_edge(-dx, -dy, sx, sy) + 2
    x1, y1 = x1 + dx * begin + sx, y1 + dy * begin + sy
    x2, y2 = x2 - dx * end + sx, y2 - dy * end + sy
    lines = [
        f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#555" '
        f'marker-end="url(#tip)"/>'
    ]
    share = 0.5 if not (dx and dy) else 0.3
    x, y = x1 + (x2 - x1) * share, y1 + (y2 - y1) * share
    anchor = "middle" if abs(dx) > 0.9 and not dy else ("start" if sx > 0 else "end")
    x += 6 if anchor == "start" else -6 if anchor == "end" else 0
    if anchor == "middle":
        y += -5 - _LINE * (len(names) - 1) if sy < 0 else _LINE
        names = [", ".join(names)]
        y = y if sy > 0 else y1 - 6
    else:
        y -= _LINE * (len(names) - 1) / 2 - 4
    for row, name in enumerate(names):
        lines.append(
            f'<text x="{x:.0f}" y="{y + row * _LINE:.0f}" text-anchor="{anchor}" '
            f'font-size="12" fill="#333">{name}</text>'
        )
    return lines


def _to_edge(dx: float, dy: float, x: float, y: float) -> float:
    """How far it is in a direction from (*x*, *y*), off the middle of a box, to its edge."""
    across = (math.copysign(_WIDTH / 2, dx) - x) / dx if dx else math.inf
    down = (math.copysign(_HEIGHT / 2, dy) - y) / dy if dy else math.inf
    return min(across, down)


if __name__ == "__main__":
    FILE.write_text(drawing())
    print(rows())  # noqa: T201
