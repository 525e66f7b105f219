"""The command line and its subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import tiered
from tiered.cli.coherence import command as coherence
from tiered.cli.demo import arguments as demo
from tiered.cli.files import command as files

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m tiered`` with *arguments*; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tiered", description="Tiered caching: memory in front of memcached."
    )
    parser.add_argument("--version", action="version", version=f"tiered {tiered.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_to(commands)
    coherence.add_to(commands)
    files.add_to(commands)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status
