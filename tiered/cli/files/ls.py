"""``files ls``: which values there are."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any, Final

from tiered.cli.arguments import whole
from tiered.cli.files.common import add_parser, add_progress, inspected
from tiered.cli.files.phrasing import Row, duration

__all__ = ["add_to"]

_DESCRIPTION = """\
Lists values: the bytes that they take, their age, the time that is left to them (below 0 where
it is over), and their keys. What the files tell of themselves is shown, and not verified, so no
secret is needed.
"""

_EPILOG = """\
examples:
  python -m tiered files ls /var/cache/app --sort size --limit 20
  python -m tiered files ls /var/cache/app --prefix user: --json

exit codes: 0 listed, also if there are none; 2 wrong arguments, or no directory of values
"""

_ORDERS: Final[dict[str, Callable[[Row], tuple[Any, ...]]]] = {
    "key": lambda row: (),
    "size": lambda row: (-row.size,),
    "age": lambda row: (_or_least(row.age, -1.0),),
    "ttl": lambda row: (_or_least(row.ttl, 1.0),),
    "used": lambda row: (-row.used,),
}


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "ls",
        run,
        summary="which values there are",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--prefix", metavar="TEXT", default="", help="only keys that begin so, as they are shown"
    )
    parser.add_argument("--limit", type=whole(0, 10**15), metavar="N", help="the first N only")
    parser.add_argument(
        "--sort",
        choices=list(_ORDERS),
        default="key",
        help="the largest, the oldest, those that end next, or those used last come first",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """List; the exit status."""
    with inspected(options) as (inspection, progress):
        now = inspection.now
        rows = [
            row
            for held in inspection.values(progress)
            if _begins(row := Row.of(held, now), options.prefix)
        ]
    order = _ORDERS[options.sort]
    rows.sort(key=lambda row: (*order(row), row.key))
    if not options.json:
        print(f"{'size':>15}  {'age':>10}  {'ttl':>10}  key, not verified")
    for row in rows[: options.limit]:
        print(json.dumps(row.data()) if options.json else _line(row))
    return 0


def _begins(row: Row, prefix: str) -> bool:
    # Of texts without their quotes, too.
    return row.key.startswith((prefix, f"'{prefix}", f'"{prefix}'))


def _line(row: Row) -> str:
    return f"{row.size:>15,}  {duration(row.age):>10}  {duration(row.ttl):>10}  {row.key}"


def _or_least(seconds: float | None, sign: float) -> float:
    """To sort by; what is not known comes last."""
    return math.inf if seconds is None or math.isnan(seconds) else sign * seconds
