"""The tier that the workers of the demo share: a memcached, files, or none."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from tiered.cli.demo.folder import PrivateFolder
from tiered.cli.demo.server import PrivateMemcached, answers
from tiered.clients.base import CacheClient
from tiered.clients.files import FilesCacheClient
from tiered.clients.memcached import MemcachedClient

__all__ = ["Files", "SharedTier", "shared_tier"]

_USUAL_ADDRESS: Final = "127.0.0.1:11211"
_PATIENCE: Final = 5.0
"""Seconds for an answer: the workers share the machine with the server, and may keep it busy."""
_FILES_SIZE: Final = 256 * 10**6
"""Bytes, as a private memcached has."""


@dataclass(frozen=True)
class Files:
    """A directory, for a worker.

    Attributes:
        path: of it.
        hold: keeps it there for as long as the worker lives.
    """

    path: str
    hold: Connection | None = None


@dataclass(frozen=True)
class SharedTier:
    """Where the shared tier is, if there is one.

    Attributes:
        words: what to call it.
        memcached: ``host:port`` of it.
        files: the directory of it.
    """

    words: str
    memcached: str | None = None
    files: Files | None = None

    def client(self, secret: str) -> CacheClient | None:
        """A client of it, whose values are signed with *secret*; ``None`` for no tier."""
        if self.memcached is not None:
            return MemcachedClient(
                [self.memcached],
                checksum_key=secret,
                connect_timeout=_PATIENCE,
                timeout=_PATIENCE,
                pool_timeout=_PATIENCE,
            )
        if self.files is not None:
            return FilesCacheClient(_FILES_SIZE, self.files.path, checksum_key=secret)
        return None


def shared_tier(options: argparse.Namespace, cleanup: contextlib.ExitStack) -> SharedTier:
    """The tier that *options* ask for, or the best that there is; *cleanup* ends it.

    Raises:
        OSError: it cannot be had.
    """
    if options.no_memcached:
        return SharedTier("none (--no-memcached): each worker has only its own cache")
    if options.files:
        return _files(cleanup, "removed at the end")
    if options.memcached is not None:
        if not answers(options.memcached):
            raise OSError(f"no memcached answers at {options.memcached}")
        return SharedTier(f"memcached at {options.memcached}", memcached=options.memcached)
    if answers(_USUAL_ADDRESS):
        return SharedTier(f"memcached at {_USUAL_ADDRESS}", memcached=_USUAL_ADDRESS)
    if PrivateMemcached.installed():
        server = cleanup.enter_context(PrivateMemcached())
        return SharedTier(f"a private memcached at {server.address}", memcached=server.address)
    return _files(
        cleanup,
        f"removed at the end: no memcached answers at {_USUAL_ADDRESS} and none is installed",
    )


def _files(cleanup: contextlib.ExitStack, note: str) -> SharedTier:
    folder = cleanup.enter_context(PrivateFolder())
    return SharedTier(f"files in {folder.path} ({note})", files=Files(folder.path, folder.hold))
