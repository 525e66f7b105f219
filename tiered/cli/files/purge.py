"""``files purge``: removes what is stale, or everything."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tiered.cli.arguments import period
from tiered.cli.files.common import add_parser, add_progress, client_of
from tiered.cli.files.phrasing import counted
from tiered.cli.files.progress import ProgressBar

__all__ = ["add_to"]

_DESCRIPTION = """\
Removes values whose time is over, from all processes that use the directory. With --older-than,
only those that have been stale for longer: stale values may be kept for when a source fails. With
--all, everything is removed, and what is being computed is not stored. Writers wait for moments.
"""

_EPILOG = """\
examples:
  python -m tiered files purge /var/cache/app --older-than 3600
  python -m tiered files purge /var/cache/app --all --yes

exit codes: 0 done; 1 it was not confirmed; 2 wrong arguments, or no directory of values, or one
that this user cannot write
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "purge",
        run,
        summary="remove what is stale, or everything",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--older-than",
        type=period,
        default=0.0,
        metavar="SECONDS",
        help="what has been stale for more than this (default 0)",
    )
    which.add_argument(
        "--all", action="store_true", help="everything; asks first, where stdin is a terminal"
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Remove; the exit status."""
    with client_of(options.path) as client:
        if options.all and not options.yes and sys.stdin.isatty() and not _confirmed(options.path):
            print("tiered files purge: nothing was removed", file=sys.stderr)
            return 1
        before = None if options.all else client.clock.monotonic() - options.older_than
        with ProgressBar("purging", wanted=options.progress) as progress:
            removed = client.sweep(before, progress=progress)
    print(
        json.dumps({"removed": removed}) if options.json else f"removed {counted(removed, 'value')}"
    )
    return 0


def _confirmed(path: str) -> bool:
    print(f"remove all values in {path!r}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
