"""Standard output, and what becomes of it when it cannot be written any more."""

from __future__ import annotations

import os
import sys

__all__ = ["abandon", "forgive", "refused"]


def forgive() -> None:
    """Show characters that the terminal does not know as escapes, instead of failing."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def abandon() -> None:
    """The reader is gone: have what is still to be written, at exit at the latest, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def refused(name: str, error: OSError) -> int:
    """Say why the command *name* could not write, and have it write no more; its exit status."""
    abandon()
    print(f"{name}: standard output: {error.strerror or error}", file=sys.stderr)
    return 2
