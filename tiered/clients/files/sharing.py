"""Files that are made in a directory, for all who may use the directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["make_file", "replace_file", "share", "share_again"]

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def share(descriptor: int, mode: int) -> None:
    """Let others use a file or directory that was made just now, as *mode* says.

    The process's umask is for files of the process. Raises ``OSError``.
    """
    if mode & 0o077:
        os.fchmod(descriptor, mode)


def share_again(descriptor: int, mode: int) -> None:
    """The same, of a directory or an empty file that was found: who made it may have been killed
    before it was shared. Only its owner can put that right. Raises ``OSError``."""
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not mode & ~status.st_mode:
        return
    # Nothing that another user has put here, to have its owner open it to him.
    if stat.S_ISDIR(status.st_mode) or (status.st_size == 0 and status.st_nlink == 1):
        share(descriptor, mode)


def make_file(directory: int, name: str, mode: int, size: int = 0, head: bytes = b"") -> int:
    """A new file of *size* bytes that begins with *head*, the rest of it 0; open.

    Raises:
        FileExistsError: there is something of this name.
        OSError: no room, no right; then no file is left.
    """
    descriptor = os.open(name, _NEW, mode, dir_fd=directory)
    with _gone_if_it_fails(descriptor, directory, name):
        share(descriptor, mode)
        if size:
            # All of it now: on a full disk, a hole that is written to in memory ends the process.
            os.posix_fallocate(descriptor, 0, size)
            os.pwrite(descriptor, head, 0)
    return descriptor


def replace_file(directory: int, name: str, mode: int, size: int, head: bytes) -> int:
    """The same, in place of what has this name; others find the one or the other, whole.

    For one at a time: the caller has a lock. Raises ``OSError``.
    """
    new = f"{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)  # of somebody who was killed
    descriptor = make_file(directory, new, mode, size, head)
    with _gone_if_it_fails(descriptor, directory, new):
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    return descriptor


@contextmanager
def _gone_if_it_fails(descriptor: int, directory: int, name: str) -> Iterator[None]:
    """An open file that was just made, until it is what it is to be."""
    try:
        yield
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
