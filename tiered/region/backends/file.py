"""The backend over a dbm file: for the processes of one host, without a server."""

from __future__ import annotations

import dbm
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Final, Literal

from tiered.concurrency import fork
from tiered.dogpile.mutexes import FileMutex
from tiered.dogpile.reentrant import KeyReentrantMutex
from tiered.region.api import (
    NO_VALUE,
    BackendArguments,
    BytesBackend,
    CacheMutex,
    KeyType,
    SerializedReturnType,
)
from tiered.region.backends.filelock import AbstractFileLock, FileLock, ThreadLock
from tiered.region.exception import ValidationError

__all__ = ["AbstractFileLock", "DBMBackend", "FileLock"]

_SUFFIXES: Final = ("", ".db", ".dat", ".dir", ".pag", "-wal", "-shm", "-journal")
"""What the kinds of dbm add to the name of the files that they read."""

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class _Opening:
    """A lock for ``dbm.open``, which is not made for threads.

    It finds its modules step by step when it is first used. ``dbm.dumb`` changes the umask of the
    process for a moment: of two at a time, one would take the other's for the real one. And it
    parses its index as Python, which now and then is a ``SystemError`` when two threads do it,
    before Python 3.12.2 and 3.11.8.
    """

    def __init__(self) -> None:
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new one: whoever held it is not in this process."""
        self.lock = threading.Lock()


_opening: Final = _Opening()


class DBMBackend(BytesBackend):
    """Keeps values in a dbm file, of whichever kind this Python makes or finds there.

    The file is opened for each operation, under a read-write lock. It is made on first use, for
    its owner only: values are pickled by default, and who can write the file could have any
    code executed. One that somebody else could have written is refused.

    Args:
        arguments: ``filename``; ``rw_lockfile``, the file of the read-write lock, by default
            *filename* with ``.rw.lock`` added, or ``False`` to keep only the threads of this
            object apart (where the kind of dbm locks the file itself); ``dogpile_lockfile``,
            the file of the mutexes, by default with ``.dogpile.lock`` added, or ``False`` for
            those of the region; ``lock_factory``, a class called with the path of a lock's
            file, as :class:`AbstractFileLock`, by default :class:`FileLock`.

    By default each key has a mutex of its own. A *lock_factory* makes one lock for all keys, and
    only one thread creates values at a time, as many as it needs.

    Raises:
        ValidationError: an argument that cannot be right; on use also, when the file has become
            somebody else's.
        dbm.error, OSError, ValueError: on use, the file is damaged or cannot be used.

    Threads: safe.
    """

    arguments_known: ClassVar[frozenset[str]] = frozenset(
        {"filename", "rw_lockfile", "dogpile_lockfile", "lock_factory"}
    )

    def __init__(self, arguments: BackendArguments) -> None:
        self.filename: Final = _path("filename", arguments.get("filename"))
        factory = arguments.get("lock_factory")
        if factory is None:
            factory = FileLock
        rw_file, dogpile_file = (
            _lock_path(name, arguments.get(name), self.filename + suffix)
            for name, suffix in (("rw_lockfile", ".rw.lock"), ("dogpile_lockfile", ".dogpile.lock"))
        )
        self._lock = ThreadLock("") if rw_file is None else _made(factory, rw_file)
        self._mutex: Callable[[str], Any] | None = None
        if dogpile_file is not None and factory is FileLock:
            self._mutex = lambda key: FileMutex(dogpile_file, key, mode=0o600)
        elif dogpile_file is not None:
            self._mutex = KeyReentrantMutex.factory(_made(factory, dogpile_file))
        _check_owner(self.filename)

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        return None if self._mutex is None else self._mutex(key)

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        return self.get_serialized_multi([key])[0]

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> Sequence[SerializedReturnType]:
        with self._lock.read():
            if not self._is_there():
                return [NO_VALUE for _ in keys]
            with self._opened("r") as file:
                return [_found(file, key) for key in keys]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        self.set_serialized_multi({key: value})

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        with self._lock.write():
            self._is_there()
            with self._opened("c") as file:
                for key, value in mapping.items():
                    file[_name(key)] = value

    def delete(self, key: KeyType) -> None:
        self.delete_multi([key])

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        with self._lock.write():
            if not self._is_there():
                return
            with self._opened("w") as file:
                for key in keys:
                    try:
                        del file[_name(key)]
                    except KeyError:
                        pass  # it is not there, as it shall be

    @contextmanager
    def _opened(self, flag: Literal["r", "w", "c"]) -> Iterator[Any]:
        with ExitStack() as until_closed:
            with _opening.lock:
                file = until_closed.enter_context(dbm.open(self.filename, flag, 0o600))
            yield file

    def _is_there(self) -> bool:
        """Whether there is a file yet. Raises ``ValidationError`` if it cannot be trusted."""
        _check_owner(self.filename)
        return dbm.whichdb(self.filename) is not None


def _name(key: KeyType) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _found(file: Any, key: KeyType) -> SerializedReturnType:
    try:
        value: bytes = file[_name(key)]  # not all kinds have a get()
    except KeyError:
        return NO_VALUE
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValidationError(f"{name} must be the path of a file, not {value!r}")
    path = os.path.abspath(str(os.fspath(value)))
    if not os.path.isdir(os.path.dirname(path)):
        raise ValidationError(
            f"{name}: {path!r} cannot be, as its folder is not there; make the folder, or name "
            f"a file in another one"
        )
    return path


def _lock_path(name: str, value: Any, default: str) -> str | None:
    if value is False:
        return None
    return default if value is None else _path(name, value)


def _made(factory: Any, path: str) -> Any:
    """The lock that a user's *factory* makes."""
    lock = factory(path) if callable(factory) else None
    if not all(hasattr(lock, name) for name in ("read", "write", "acquire", "release")):
        raise ValidationError(
            f"lock_factory must be a class called with a path, as AbstractFileLock, not {factory!r}"
        )
    return lock


def _check_owner(filename: str) -> None:
    """Refuse what somebody else could have written; it would be unpickled."""
    for path in (filename + suffix for suffix in _SUFFIXES):
        try:
            states = [os.lstat(path)]
            if stat.S_ISLNK(states[0].st_mode):
                # Who owns the link says what we read, too. A link itself has no mode.
                states.append(os.stat(path))
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(states[-1].st_mode):
            continue
        if any(state.st_uid != os.geteuid() for state in states):
            raise ValidationError(
                f"filename: {path!r} belongs to another user, who could have written anything "
                f"into it; use a file of your own, in a folder where only you can make files"
            )
        if states[-1].st_mode & _OTHERS:
            raise ValidationError(
                f"filename: {path!r} can be written by others, and what they write would be "
                f"unpickled; if you trust what is in it, chmod go-w it, else remove it"
            )
