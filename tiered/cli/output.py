"""Standard output, and what becomes of it when nobody reads it any more."""

from __future__ import annotations

import os
import sys

__all__ = ["abandon", "forgive"]


def forgive() -> None:
    """Show characters that the terminal does not know as escapes, instead of failing."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def abandon() -> None:
    """The reader is gone: have what is still to be written, at exit at the latest, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
