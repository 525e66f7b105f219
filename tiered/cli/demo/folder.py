"""A directory of one's own: gone when its owner and all who use it are gone."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import shutil
import subprocess
import tempfile
from multiprocessing.connection import Connection
from typing import Final, Self

__all__ = ["PrivateFolder"]

_REMOVAL: Final = 'read -r _; rm -rf -- "$1"'
_REMOVED_WITHIN: Final = 10.0


class PrivateFolder:
    """A temporary directory that only this user can read; a context manager.

    However the owning process ends, the directory is removed: a shell waits at the end of a pipe
    whose other end the owner holds, and everybody whom it gives :attr:`hold`. It removes the
    directory when the last of them has ended, also by ``kill -9``.

    Attributes:
        path: of the directory.
        hold: to be given to the processes that use it.

    Raises:
        OSError: it cannot be made.
    """

    path: str
    hold: Connection

    def __init__(self) -> None:
        self._remover: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        path = tempfile.mkdtemp(prefix="tiered-demo-")
        try:
            waiting, hold = multiprocessing.connection.Pipe(duplex=False)
            with waiting:
                self._remover = subprocess.Popen(
                    ["sh", "-c", _REMOVAL, "sh", path],
                    stdin=waiting.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the owner
                )
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        self.path, self.hold = path, hold
        return self

    def __exit__(self, *_: object) -> None:
        remover, self._remover = self._remover, None
        if remover is None:
            return
        self.hold.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            remover.wait(_REMOVED_WITHIN)
            return
        # Somebody who holds it does not end.
        remover.kill()
        remover.wait()
        shutil.rmtree(self.path, ignore_errors=True)
