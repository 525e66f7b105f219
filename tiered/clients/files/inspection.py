"""Looking at a directory of values without taking part in it.

A client makes what is missing, takes a slot and counts. Who only wants to know what is there
should change nothing, and needs no right to: this reads, and nothing else. It takes no lock
either, so others may write meanwhile, and what it tells of many values is of no one moment.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, Self, TypeVar

from tiered.clients.files.counts import SeenCounts
from tiered.clients.files.layout import Layout, allocated, beginning
from tiered.clients.files.names import (
    COUNTS,
    LANES,
    LANES_FILE,
    LOCKS,
    SHARDS,
    Place,
    is_value,
    shard_name,
)
from tiered.clients.files.packs.seen import PackFigures, SeenPacks
from tiered.clock import SYSTEM_CLOCK
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, StorageError
from tiered.keys.wire import key_names
from tiered.typing import Clock, Key

__all__ = ["Held", "Inspection"]

T = TypeVar("T")

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_LARGEST: Final = 1 << 60
"""Bytes of a value: what is there is not too large to be read."""


class Held(NamedTuple):
    """A value, as its file tells of it; nothing of this is verified.

    Attributes:
        name: the canonical bytes of its key; ``None`` if its file does not tell.
        digest: 40 hexadecimal digits that the key is known by.
        file: where it lies, in the directory.
        size: bytes that it takes.
        header: in the time of files; ``None`` as *name*.
        used: when it was last used, by the clock of accesses.
        packed: whether it lies in a pack, with others.
    """

    name: bytes | None
    digest: str
    file: str
    size: int
    header: Header | None
    used: int
    packed: bool


class Inspection:
    """A directory that was made by a ``FilesCacheClient``, to be looked at; a context manager.

    Args:
        path: of the directory.
        checksum_key: as of ``FilesCacheClient``; for :meth:`value` only.
        clock: the source of time.

    Raises, on entry:
        FileNotFoundError, NotADirectoryError, PermissionError: about *path*.
        StorageError: it is no directory of values, or what counts them is damaged.

    Threads: for one at a time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        checksum_key: str | bytes | Sequence[str | bytes] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._path = os.fspath(path)
        self._checksum_key = checksum_key
        self._clock = clock
        self._name = key_names(b"").sign
        self._cleanup = ExitStack()
        self._packs: SeenPacks | None = None

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            self._root = os.open(self._path, _DIRECTORY)
            cleanup.callback(os.close, self._root)
            self._require()
            try:
                self._counts = SeenCounts(self._root, self._clock)
                try:
                    self._packs = SeenPacks(self._root)
                    cleanup.callback(self._packs.close)
                except FileNotFoundError:
                    pass  # it was never written to
            except OSError as error:
                raise StorageError(f"{self._path!r}: {error}") from error
            self._layout = self._reading()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._packs = None  # what is mapped stays open as long as it is
        self._cleanup.close()

    @classmethod
    def capacity_of(cls, path: str | os.PathLike[str]) -> int:
        """As :attr:`capacity`, also of a directory whose counts are damaged. Raises as on entry."""
        inspection = cls(path)
        inspection._root = os.open(inspection._path, _DIRECTORY)
        try:
            inspection._require()
            return SeenCounts(inspection._root, inspection._clock).capacity
        except OSError:
            return 0
        finally:
            os.close(inspection._root)

    # -- What is known of all together ---------------------------------------------

    @property
    def used(self) -> int:
        """Bytes that are in use, as counted."""
        packs = self.packs
        return max(self._counts.used, 0) + packs.data + packs.indexes

    @property
    def capacity(self) -> int:
        """Bytes that may be in use, as of who wrote last; 0 if that is not known."""
        return self._counts.capacity

    @property
    def packs(self) -> PackFigures:
        """What small values take."""
        return PackFigures(0, 0, 0, 0) if self._packs is None else self._packs.figures

    @property
    def now(self) -> float:
        """The time that headers tell times in."""
        return self._clock.monotonic() + self._counts.base

    @property
    def keyed(self) -> bool:
        """Whether there is a secret to verify values with."""
        return self._checksum_key is not None

    @property
    def is_private(self) -> bool:
        """Whether it is this user's, and nobody else can write it."""
        status = os.fstat(self._root)
        return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE

    # -- Values --------------------------------------------------------------------

    def values(self, progress: Callable[[int, int], object] | None = None) -> Iterator[Held]:
        """All values; *progress* is called with ``(done, all)`` parts of the directory."""
        tell = _ignored if progress is None else progress
        every = LANES + SHARDS
        if self._packs is not None:
            for record, pack, size, used in self._packs.records(lambda done: tell(done, every)):
                header = ValueCodec.told(record.envelope)
                name, file = record.name, f"packs/{pack}"
                yield Held(name[1:], Place.of(name).file, file, size, header, used, True)
        for number in range(SHARDS):
            yield from self._in_shard(number)
            tell(LANES + number + 1, every)

    def find(self, key: Key) -> Held | None:
        """What is held for *key*. Raises ``KeyEncodingError``."""
        return self.find_at(Place.of(self._name(key)).file)

    def find_at(self, digest: str) -> Held | None:
        """The same, by what :attr:`Held.digest` says."""
        place = Place.at(digest)
        found = None if self._packs is None else self._packs.find(place)
        if found is not None and Place.of(found.record.name) == place:
            header = ValueCodec.told(found.record.envelope)
            file = f"packs/{found.pack}"
            return Held(found.record.name[1:], digest, file, found.size, header, found.used, True)
        try:
            descriptor = os.open(place.path, _READ, dir_fd=self._root)
        except FileNotFoundError:
            return None
        try:
            return self._told(place, descriptor)
        finally:
            os.close(descriptor)

    def value(self, held: Held) -> Any:
        """The value itself, verified.

        Raises:
            CorruptValue: it is damaged, or signed with another secret, or not signed where
                others could have written it.
            FileNotFoundError: it is gone.
        """
        try:
            return self._read(held, self._layout.opened, self._layout.read)[0]
        except CorruptValue:
            # Perhaps it was given another deadline in this very moment.
            return self._read(held, self._layout.opened, self._layout.read)[0]

    def is_signed_as_told(self, held: Held) -> bool:
        """Whether the secret, or that there is none, is right for a value that is not damaged."""
        try:
            self._read(held, self._layout.header_in, self._layout.header)
        except (OSError, CorruptValue):
            return False
        return True

    # -- Parts ---------------------------------------------------------------------

    def _require(self) -> None:
        for names in ((LOCKS,), (COUNTS, LANES_FILE)):
            if not any(map(self._has, names)):
                wanted = " nor ".join(repr(name) for name in names)
                raise StorageError(
                    f"{self._path!r} is no directory of a FilesCacheClient: it has no {wanted}"
                )

    def _has(self, name: str) -> bool:
        try:
            status = os.stat(name, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode)

    def _reading(self) -> Layout:
        # The serialiser is for writing: any is read that may be.
        codec = ValueCodec(
            checksum_key=self._checksum_key,
            serializer="raw",
            compress=False,
            max_value_size=_LARGEST,
            guarded=self._checksum_key is None and self.is_private,
            more=Layout.serializers,
            light=True,
        )
        return Layout(codec, pickles=False, limit=_LARGEST)

    def _read(
        self, held: Held, packed: Callable[[bytes, bytes], T], apart: Callable[[bytes, int], T]
    ) -> T:
        """What one of the two gives for a name, and an envelope or an open file."""
        if held.name is None:
            raise CorruptValue("its file is damaged")
        name = b"\0" + held.name
        place = Place.of(name)
        if held.packed:
            found = None if self._packs is None else self._packs.find(place)
            if found is None or found.record.name != name:
                raise FileNotFoundError(errno.ENOENT, "it is not there any more", held.file)
            return packed(name, found.record.envelope)
        descriptor = os.open(place.path, _READ, dir_fd=self._root)
        try:
            return apart(name, descriptor)
        finally:
            os.close(descriptor)

    def _in_shard(self, number: int) -> Iterator[Held]:
        try:
            shard = os.open(shard_name(number), _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root)
        except FileNotFoundError:
            return
        try:
            for file in os.listdir(shard):
                if not is_value(file):
                    continue
                try:
                    descriptor = os.open(file, _READ, dir_fd=shard)
                except OSError:
                    continue  # it is gone, or a link: a scan finds what should not be there
                try:
                    yield self._told(Place.at(file), descriptor)
                finally:
                    os.close(descriptor)
        finally:
            os.close(shard)

    def _told(self, place: Place, descriptor: int) -> Held:
        status = os.fstat(descriptor)
        found = beginning(descriptor) if stat.S_ISREG(status.st_mode) else None
        size, used = allocated(status.st_size), self._counts.last_used(place.stamp)
        if found is None or Place.of(found[0]) != place:
            return Held(None, place.file, place.path, size, None, used, False)
        header = ValueCodec.told(found[1])
        return Held(found[0][1:], place.file, place.path, size, header, used, False)


def _ignored(done: int, every: int) -> None:
    """Nobody wants to know."""
