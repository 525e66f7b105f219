"""``coherence keys``: makes a pair of CURVE keys."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tiered.cli.coherence.secret import curve_text

__all__ = ["add_to"]

_DESCRIPTION = """\
Writes a new pair of CURVE keys to a file that only this user can read. All processes of the
bus get a copy of it; what they send is encrypted then, and nobody else can take part.
"""

_EPILOG = """\
example:  python -m tiered coherence keys /etc/tiered/bus.curve

exit codes: 0 written; 1 not written, say, because the file is there; 2 wrong arguments
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "keys",
        help="make a pair of CURVE keys",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="to be made; there must be none yet")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the file; the exit status."""
    from tiered.coherence import CurveKeys

    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        print(f"tiered coherence keys: {options.file!r}: {error.strerror}", file=sys.stderr)
        return 1
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(curve_text(CurveKeys.generate()))
    return 0
