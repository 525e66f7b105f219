"""The ``coherence`` subcommand, and those under it."""

from __future__ import annotations

from typing import Any

from tiered.cli.coherence import broker, keys, listen, status

__all__ = ["add_to"]

_DESCRIPTION = """\
A bus keeps the private caches of many processes in step: what one of them deletes or
replaces, the others forget. The processes that use it find or make a broker by themselves;
these commands run one that stays, watch the bus, and say who takes part.
"""


def add_to(commands: Any) -> None:
    """Add the subcommand to an argparse collection of subparsers."""
    parser = commands.add_parser(
        "coherence", help="the bus that keeps private tiers in step", description=_DESCRIPTION
    )
    below = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for one in (broker, listen, status, keys):
        one.add_to(below)
