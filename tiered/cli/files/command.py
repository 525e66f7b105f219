"""The ``files`` subcommand, and those under it."""

from __future__ import annotations

from typing import Any

from tiered.cli.files import get, ls, purge, usage, verify

__all__ = ["add_to"]

_DESCRIPTION = """\
Looks into a directory of a FilesCacheClient, checks it, and empties it. The processes that use
the directory go on meanwhile. None of these commands makes a directory: one that is not there, or
is something else, is an error.
"""


def add_to(commands: Any) -> None:
    """Add the subcommand to an argparse collection of subparsers."""
    parser = commands.add_parser(
        "files", help="look into a host's files, check them", description=_DESCRIPTION
    )
    below = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for one in (usage, verify, purge, get, ls):
        one.add_to(below)
