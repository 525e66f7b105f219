"""``files usage``: what takes how much."""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tiered.cli.arguments import whole
from tiered.cli.files.common import add_parser, add_progress, inspected
from tiered.cli.files.phrasing import Row, counted, size_text
from tiered.cli.files.progress import ProgressBar

if TYPE_CHECKING:
    from tiered.clients.files.inspection import Inspection
    from tiered.clients.files.packs.seen import PackFigures

__all__ = ["add_to"]

_DESCRIPTION = """\
Tells what a directory holds: how many bytes of those that it may have, how many values, in packs
and in files of their own, how much in packs is dead (replaced or deleted, and not yet given back),
how many values are stale, and which are the largest. Nothing is locked.
"""

_EPILOG = """\
examples:
  python -m tiered files usage /var/cache/app
  python -m tiered files usage /var/cache/app --json

exit codes: 0 told; 2 wrong arguments, or no directory of values
"""


@dataclass
class Usage:
    """What was found.

    Attributes:
        used: bytes, as counted.
        capacity: bytes; 0 if it is not known.
        packs: what small values take, as counted.
        packed, apart: how many values lie in packs, and in files of their own.
        packed_size, apart_size: bytes of these.
        stale: values whose time is over.
        damaged: files of values that do not tell whose.
    """

    used: int
    capacity: int
    packs: PackFigures
    packed: int = 0
    apart: int = 0
    packed_size: int = 0
    apart_size: int = 0
    stale: int = 0
    damaged: int = 0
    largest: list[Row] = field(default_factory=list)

    def take(self, row: Row) -> Row:
        """Count a value."""
        if row.held.packed:
            self.packed += 1
            self.packed_size += row.size
        else:
            self.apart += 1
            self.apart_size += row.size
        self.stale += row.stale
        self.damaged += row.held.header is None
        return row

    @property
    def share(self) -> float | None:
        """Of what may be in use."""
        return self.used / self.capacity if self.capacity else None


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "usage",
        run,
        summary="what takes how much",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--largest",
        type=whole(0, 10**6),
        default=5,
        metavar="N",
        help="how many of the largest values are named (default 5)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Tell; the exit status."""
    with inspected(options) as (inspection, progress):
        usage = _taken(inspection, progress, options.largest)
    if options.json:
        print(json.dumps(_data(options.path, usage)))
    else:
        print("\n".join(_lines(options.path, usage)))
    return 0


def _taken(inspection: Inspection, progress: ProgressBar, largest: int) -> Usage:
    now = inspection.now
    usage = Usage(inspection.used, inspection.capacity, inspection.packs)
    rows = (usage.take(Row.of(held, now)) for held in inspection.values(progress))
    # All are gone through, also where none is to be named.
    found = heapq.nlargest(max(largest, 1), rows, key=attrgetter("size", "key"))
    usage.largest = found[:largest]
    return usage


def _data(path: str, usage: Usage) -> dict[str, object]:
    packs = usage.packs
    return {
        "path": path,
        "used": usage.used,
        "size": usage.capacity or None,
        "share": None if usage.share is None else round(usage.share, 4),
        "values": usage.packed + usage.apart,
        "stale": usage.stale,
        "damaged": usage.damaged,
        "packs": {
            "values": usage.packed,
            "bytes": usage.packed_size,
            "packs": packs.packs,
            "dead": packs.dead,
            "indexes": packs.indexes,
        },
        "files": {"values": usage.apart, "bytes": usage.apart_size},
        "largest": [row.data() for row in usage.largest],
    }


def _lines(path: str, usage: Usage) -> Iterator[str]:
    packs, all_values = usage.packs, usage.packed + usage.apart
    whole_size = ""
    if usage.share is not None:
        whole_size = f" of {size_text(usage.capacity)}, {usage.share:.1%}"
    yield path if path.isprintable() else ascii(path)
    yield f"  in use    {size_text(usage.used)}{whole_size}"
    yield f"  values    {all_values:,}, {usage.stale:,} of them stale"
    dead = f"{size_text(packs.dead)} dead"
    yield (
        f"  in packs  {counted(usage.packed, 'value')}, {size_text(usage.packed_size)}; "
        f"{counted(packs.packs, 'pack')}, {dead}; indexes {size_text(packs.indexes)}"
    )
    yield f"  in files  {counted(usage.apart, 'value')}, {size_text(usage.apart_size)}"
    if usage.damaged:
        yield f"  damaged   {counted(usage.damaged, 'value')}; see 'files verify'"
    for number, row in enumerate(usage.largest):
        yield f"  {'' if number else 'largest':<8}  {size_text(row.size):>8}  {row.key}"
