"""The ``demo`` subcommand, and what it can be told."""

from __future__ import annotations

import argparse
from typing import Any

from tiered.cli.arguments import seconds, whole
from tiered.routing.addresses import parse_address

__all__ = ["add_to", "run"]

_DESCRIPTION = """\
Several worker processes answer requests for metrics of the Python modules on this
machine, through a small cache in each process and one that they share. Popular modules
are asked for more often, as on any web site. The shared cache is a memcached: the one at
--memcached or 127.0.0.1:11211 if it answers, else a private one, started for the demo and
stopped with it. Where none is installed, and with --files, it is a temporary directory, which
is removed at the end.

The workers also change notices, many times a second, and a bus keeps what they hold in step.
Its broker is killed in the middle of the run; a worker takes over. No answer may be out of
date at any time, which is checked.
"""


def add_to(commands: Any) -> None:
    """Add the subcommand to an argparse collection of subparsers."""
    parser = commands.add_parser(
        "demo", help="a real job on tiers, measured", description=_DESCRIPTION
    )
    parser.add_argument("--workers", type=whole(1, 256), default=4, help="processes (default 4)")
    parser.add_argument(
        "--seconds", type=seconds, default=10.0, help="how long to serve (default 10)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--memcached", type=_address, metavar="HOST:PORT", help="use this server as shared tier"
    )
    where.add_argument(
        "--files", action="store_true", help="use files in a temporary directory as shared tier"
    )
    where.add_argument(
        "--no-memcached", action="store_true", help="no shared tier: one cache per worker"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo; its exit status."""
    # Now only: all of it is imported for that, which other commands need not wait for.
    from tiered.cli.demo import command

    return command.run(options)


def _address(text: str) -> str:
    try:
        return str(parse_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
