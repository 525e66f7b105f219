"""What the commands on files have in common: their arguments, their secret, and how they end."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tiered.cli import output
from tiered.cli.files.progress import ProgressBar
from tiered.cli.keyfile import lines_of
from tiered.errors import CacheError, StorageError

if TYPE_CHECKING:
    from tiered.clients.files import FilesCacheClient
    from tiered.clients.files.inspection import Inspection

__all__ = [
    "add_parser",
    "add_progress",
    "add_secret",
    "checksum_key_of",
    "client_of",
    "inspected",
]

_VARIABLE: Final = "TIERED_CHECKSUM_KEY"
_INTERRUPTED: Final = 130
"""What a shell tells of a program that was ended by Ctrl-C."""

_SIZE: Final = 10**9
"""Bytes of a directory that does not tell; nothing is put there."""

Work = Callable[[argparse.Namespace], int]


def add_parser(
    commands: Any, name: str, run: Work, *, summary: str, description: str, epilog: str
) -> Any:
    """Add a subcommand that works on a directory; its parser."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="of the directory")
    parser.set_defaults(run=partial(_concluded, f"tiered files {name}", run))
    return parser


def add_progress(parser: Any) -> None:
    """Add the option that shows progress where that is not the usual."""
    parser.add_argument(
        "--progress",
        action="store_true",
        help="show how far it is, also where stderr is no terminal",
    )


def add_secret(parser: Any) -> None:
    """Add the options that tell the secret which values are signed with."""
    group = parser.add_argument_group("secret").add_mutually_exclusive_group()
    group.add_argument(
        "--checksum-key",
        metavar="env:NAME",
        help=f"the variable with the checksum_key of the files; without it, {_VARIABLE}, if it "
        f"is set",
    )
    group.add_argument(
        "--checksum-key-file",
        metavar="F",
        help="a file with it; with several lines, all are accepted",
    )


def checksum_key_of(options: argparse.Namespace) -> list[str] | None:
    """The secret that the options and the environment tell.

    Raises:
        ValueError: they tell of one that is not there.
    """
    if options.checksum_key_file is not None:
        return lines_of("--checksum-key-file", options.checksum_key_file)
    if options.checksum_key is None:
        return [os.environ[_VARIABLE]] if os.environ.get(_VARIABLE) else None
    scheme, _, name = options.checksum_key.partition(":")
    if scheme != "env" or not name:
        # It may be the secret itself, which is not to be repeated.
        raise ValueError(
            "--checksum-key must be env:NAME, with the name of a variable that holds the secret: "
            "everybody on this machine sees arguments in the list of processes"
        )
    if not os.environ.get(name):
        raise ValueError(f"--checksum-key env:{name}: the variable {name} is not set")
    return [os.environ[name]]


@contextmanager
def inspected(options: argparse.Namespace) -> Iterator[tuple[Inspection, ProgressBar]]:
    """The directory to be read, and what shows how far that is. Raises as :class:`Inspection`."""
    from tiered.clients.files.inspection import Inspection

    with (
        Inspection(options.path) as inspection,
        ProgressBar("reading", wanted=options.progress) as progress,
    ):
        yield inspection, progress


def client_of(path: str, checksum_key: list[str] | None = None) -> FilesCacheClient:
    """A client of the directory that is there, for all but values.

    Raises:
        OSError, StorageError: there is none.
    """
    from tiered.clients.files import FilesCacheClient
    from tiered.clients.files.inspection import Inspection

    owner = os.stat(path).st_uid
    if os.geteuid() == 0 != owner:
        # What root makes there would be of no use to whose cache it is.
        raise StorageError(
            f"{path!r} belongs to user {owner}, and this is run by root; run it as its owner, "
            f"say with sudo -u '#{owner}'"
        )
    # What is wrong is told here, and once.
    logging.basicConfig(level=logging.ERROR)
    size = Inspection.capacity_of(path) or _SIZE
    # With this serialiser nothing is ever unpickled.
    return FilesCacheClient(size, path, checksum_key=checksum_key, serializer="raw", strict=True)


def _concluded(name: str, run: Work, options: argparse.Namespace) -> int:
    """Run a command; its exit status, whatever happens."""
    output.forgive()
    try:
        status = run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        output.abandon()
        return 0
    except OSError as error:
        where = f"{error.filename!r}: " if isinstance(error.filename, str) else ""
        print(f"{name}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except (CacheError, TypeError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return status
