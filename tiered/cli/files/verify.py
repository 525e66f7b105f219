"""``files verify``: whether all is as it should be, and mending it."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from tiered.cli.files.common import (
    add_parser,
    add_progress,
    add_secret,
    checksum_key_of,
    client_of,
)
from tiered.cli.files.phrasing import size_text
from tiered.cli.files.progress import ProgressBar

if TYPE_CHECKING:
    from tiered.clients.files.scan import Findings

__all__ = ["add_to"]

_NAME: Final = "tiered files verify"
_SAMPLE: Final = 256

_DESCRIPTION = """\
Reads all values, and compares what is there with what was counted. With --repair it removes
what cannot be read and what processes that were killed have left, and corrects the counts.

Nobody can write to the directory until it is done; readers do not notice. A write that has waited
for ten seconds is dropped, and counted as an error of its client. --quick reads no values, and
takes a fraction of the time.

Values that are signed are verified with their secret only.
"""

_EPILOG = """\
examples:
  python -m tiered files verify /var/cache/app
  python -m tiered files verify /var/cache/app --repair --checksum-key-file /etc/app/key

exit codes: 0 nothing is wrong, or it was repaired; 1 something is wrong; 2 wrong arguments, or no
directory of values, or one that this user cannot write
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = add_parser(
        commands,
        "verify",
        run,
        summary="whether all is sound, and mending it",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("--repair", action="store_true", help="put right what is wrong")
    parser.add_argument("--quick", action="store_true", help="count files, and read no values")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_progress(parser)
    add_secret(parser)


def run(options: argparse.Namespace) -> int:
    """Verify; the exit status."""
    checksum_key = checksum_key_of(options)
    contents = not options.quick
    with client_of(options.path, checksum_key) as client:
        if contents and not _fits(options.path, checksum_key):
            kind = "signed with a secret" if checksum_key is None else "not signed with this secret"
            raise ValueError(
                f"the values in {options.path!r} are {kind}; give --checksum-key or "
                f"--checksum-key-file, or --quick to read none; if all are damaged, "
                f"'files purge --all' removes them"
            )
        print(f"{_NAME}: nobody can write until this is done", file=sys.stderr, flush=True)
        with ProgressBar("verifying", wanted=options.progress) as progress:
            found = client.verify(repair=options.repair, contents=contents, progress=progress)
            left = found
            if options.repair and not found.clean:
                left = client.verify(repair=False, contents=contents, progress=progress)
    if options.json:
        mended = left.clean and not found.clean
        print(json.dumps({**asdict(found), "clean": found.clean, "repaired": mended}))
    else:
        print("\n".join(_lines(found, left, contents=contents)))
    return 0 if left.clean else 1


def _fits(path: str, checksum_key: list[str] | None) -> bool:
    """Whether some values, at least, can be verified so: else a repair would remove them all."""
    from tiered.clients.files.inspection import Inspection
    from tiered.errors import StorageError

    try:
        with Inspection(path, checksum_key=checksum_key) as inspection:
            sample = list(itertools.islice(inspection.values(), _SAMPLE))
            fitting = sum(map(inspection.is_signed_as_told, sample))
            return 2 * fitting >= len(sample)
    except StorageError:
        return True  # what tells of values is damaged: there is none to lose


def _lines(found: Findings, left: Findings, *, contents: bool) -> Iterator[str]:
    yield f"values      {found.values:>12,}  {size_text(found.size)}"
    if contents:
        yield f"unreadable  {found.unreadable:>12,}  not what was written"
    yield f"unfinished  {found.unfinished:>12,}  left by processes that ended"
    yield f"claims      {found.claims:>12,}  that nobody holds any more"
    yield f"drift       {found.drift:>+12,}  bytes that were not counted"
    if found.clean:
        yield "all is sound"
    elif left.clean:
        yield "all was repaired"
    else:
        yield "not repaired" if left is not found else "to be repaired with --repair"
