"""Secrets of a bus on the command line: in a file, in the environment, or as they are."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from tiered.cli.keyfile import lines_of, text_of

if TYPE_CHECKING:
    from tiered.coherence import CurveKeys

__all__ = ["VARIABLE", "Secrets", "add_secrets", "curve_text", "secrets_of"]

VARIABLE: Final = "TIERED_BUS_KEY"

_PAIR: Final = re.compile(r'^\s*(public|secret)-key\s*=\s*"([^"\n]*)"', re.MULTILINE)


class Secrets(NamedTuple):
    """As a bus takes them."""

    key: list[str] | None
    curve: CurveKeys | None


def add_secrets(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell secrets."""
    group = parser.add_argument_group(
        "secrets",
        f"All processes of a bus have the same. Without any, only addresses of this machine are\n"
        f"allowed. The variable {VARIABLE} is used where no key is given here.",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--key",
        metavar="K",
        help="the bus key; everybody on this machine sees it in the list of processes, where "
        f"--key-file and {VARIABLE} show nothing",
    )
    which.add_argument(
        "--key-file",
        metavar="F",
        help="a file with the bus key; with several lines, the first signs, all are accepted",
    )
    group.add_argument(
        "--curve-file",
        metavar="F",
        help="a file with a pair of CURVE keys, as made by 'coherence keys': encrypts, too",
    )


def secrets_of(options: argparse.Namespace) -> Secrets:
    """What the options and the environment tell.

    Raises:
        ValueError: a file that cannot be read, or holds none.
    """
    key: list[str] | None = None
    if options.key is not None:
        key = [options.key]
    elif options.key_file is not None:
        key = lines_of("--key-file", options.key_file)
    elif os.environ.get(VARIABLE):
        key = [os.environ[VARIABLE]]
    curve = None if options.curve_file is None else _curve_in(options.curve_file)
    return Secrets(key, curve)


def curve_text(keys: CurveKeys) -> str:
    """What a file with *keys* contains; ZeroMQ's own tools read and write the same."""
    return (
        "# CURVE keys of a tiered coherence bus: all its processes have this file, nobody else.\n"
        "curve\n"
        f'    public-key = "{keys.public}"\n'
        f'    secret-key = "{keys.secret}"\n'
    )


def _curve_in(path: str) -> CurveKeys:
    from tiered.coherence import CurveKeys

    found = dict(_PAIR.findall(text_of("--curve-file", path)))
    if len(found) != 2:
        raise ValueError(
            f"--curve-file {path!r} holds no pair of keys; 'python -m tiered coherence keys' "
            f"makes one"
        )
    try:
        return CurveKeys(found["public"], found["secret"])
    except ValueError as error:
        raise ValueError(f"--curve-file {path!r}: {error}") from error
