"""The open files of packs: kept open, as opening one costs more than reading a value."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import stat
from typing import Final

from tiered.acceleration import core
from tiered.clients.files.names import pack_name
from tiered.clients.files.packs.lanes import Lanes
from tiered.clients.files.sharing import make_file

__all__ = ["PACK_BITS", "OpenFile", "PackFiles"]

PACK_BITS: Final = 40
"""Of the number of an open pack; the lane's is above them."""

_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_STRANGE: Final = frozenset((errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR))
_MOST: Final = min(max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8, 32), 1024)
"""Packs that a client keeps open: most of what a process may open is for others."""


class OpenFile:
    """An open pack of at most *size* bytes, closed when nobody reads it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor: Final = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


open_pack: Final[type[OpenFile]] = OpenFile if core is None else core.MappedPack
"""The compiled one is mapped as well."""


class PackFiles:
    """Reads and writes packs by their numbers. Threads: safe.

    Args:
        directory: open, with the packs in it; it is closed by its owner.
        lanes: tells which packs there are.
        kept: what is open, by ``lane << PACK_BITS | pack``.
    """

    def __init__(self, directory: int, lanes: Lanes, kept: dict[int, OpenFile]) -> None:
        self._directory = directory
        self._lanes = lanes
        self._open = kept

    def open(self, name: str) -> int:
        """A file of the directory. Raises ``OSError``.

        Something else of its name, say a link, is as good as none.
        """
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=self._directory)
        except OSError as error:
            if error.errno in _STRANGE:
                raise _missing(name) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _missing(name)
        return descriptor

    def read(self, lane: int, pack: int, start: int, length: int) -> bytes:
        """What is there; too little, or nothing, of a pack that is gone. Raises ``OSError``."""
        file = self._open.get(lane << PACK_BITS | pack)
        if file is None:
            try:
                file = self._opened(lane, pack)
            except FileNotFoundError:
                return b""
        return os.pread(file.descriptor, length, start)

    def write(self, lane: int, pack: int, start: int, data: bytes) -> None:
        """Write all of *data*. Raises ``OSError``."""
        file = self._open.get(lane << PACK_BITS | pack) or self._opened(lane, pack)
        if os.fstat(file.descriptor).st_nlink == 0:
            self.forget(lane, pack)
            raise _missing(pack_name(lane, pack))
        if os.pwrite(file.descriptor, data, start) != len(data):
            raise OSError(errno.ENOSPC, "there is no room on the disk")

    def make(self, name: str, mode: int) -> None:
        """Make an empty file, in place of one that was left behind. Raises ``OSError``."""
        self.remove(name)
        os.close(make_file(self._directory, name, mode))

    def size(self, lane: int, pack: int) -> int:
        """Bytes in a pack; 0 if there is none. Raises ``OSError``."""
        name = pack_name(lane, pack)
        try:
            status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def trim(self, lane: int, pack: int, size: int | None) -> int | None:
        """Cut a pack to *size* bytes, if it has more; its size, ``None`` if there is none.

        Raises ``OSError``.
        """
        try:
            file = self._opened(lane, pack)
        except FileNotFoundError:
            return None
        found = os.fstat(file.descriptor).st_size
        if size is not None and found > size:
            os.ftruncate(file.descriptor, size)
            return size
        return found

    def discard(self, lane: int, pack: int) -> None:
        """Remove a pack. What others have open of it takes no room any more."""
        name = pack_name(lane, pack)
        try:
            descriptor = self.open(name)
        except OSError:
            return
        # First, so that nobody begins to read what is about to be nothing.
        self.remove(name)
        self._open.pop(lane << PACK_BITS | pack, None)
        try:
            if size := os.fstat(descriptor).st_size:
                # Not cut to nothing: others may be reading their mapping of it just now.
                with mmap.mmap(descriptor, size) as mapped:
                    mapped.madvise(mmap.MADV_REMOVE)
        except OSError:
            pass  # not each file system can do that: it stays until they close it
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> bool:
        """Remove a file; whether it was there."""
        try:
            os.unlink(name, dir_fd=self._directory)
        except OSError:
            return False
        return True

    def forget(self, lane: int, pack: int) -> None:
        """Open a pack again on its next use."""
        self._open.pop(lane << PACK_BITS | pack, None)

    def forget_all(self) -> None:
        """Open all packs again on their next use."""
        self._open.clear()

    def names(self) -> list[str]:
        """Of all files. Raises ``OSError``."""
        return os.listdir(self._directory)

    def _opened(self, lane: int, pack: int) -> OpenFile:
        file = open_pack(self.open(pack_name(lane, pack)), self._lanes.pack)
        kept = self._open
        if len(kept) >= _MOST:
            keys = list(kept)
            gone = [key for key in keys if not self._lanes.has(*divmod(key, 1 << PACK_BITS))]
            # Some at a time, so that not each opening has to look at all.
            for key in gone or keys[: _MOST // 8]:
                kept.pop(key, None)
        kept[lane << PACK_BITS | pack] = file
        return file


def _missing(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "what is there is no file", name)
