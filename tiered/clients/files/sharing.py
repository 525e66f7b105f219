"""Who may use what is made in a directory: who may use the directory."""

from __future__ import annotations

import os

__all__ = ["share"]


def share(descriptor: int, mode: int) -> None:
    """Let others use a file or directory that was made just now, as *mode* says.

    The process's umask is for files of the process. Raises ``OSError``.
    """
    if mode & 0o077:
        os.fchmod(descriptor, mode)
