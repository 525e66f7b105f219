"""The way of one client to its directory: opened on first use, and again when it was lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from tiered.clients.files.tree import Tree
from tiered.concurrency import fork
from tiered.errors import StorageError
from tiered.stats.counters import Counters
from tiered.stats.reports import Reports
from tiered.typing import Clock

__all__ = ["Access"]

T = TypeVar("T")

_ATTEMPTS: Final = 3


class Access:
    """Runs what a client has to do in its directory, and counts what fails.

    Args:
        path: of the directory.
        size: bytes that it is to hold.
        private: refuse a directory that others can write.
        strict: let failures through.
        counters: of the client.

    Attributes:
        opened: the directory, if it is open.

    Threads: safe, and in forked children, which open the directory for themselves.
    """

    def __init__(
        self,
        path: str,
        size: int,
        *,
        private: bool,
        strict: bool,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self.path: Final = path
        self.strict: Final = strict
        self._size = size
        self._private = private
        self._clock = clock
        self._counters = counters
        self._reports = Reports("tiered.files", clock)
        self.opened: Tree | None = None
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A child has a slot and locks of its own."""
        self._opening = threading.Lock()
        tree, self.opened = self.opened, None
        if tree is not None:
            tree.close()  # nobody is at it: the other threads are not in this process

    def close(self) -> None:
        """Give back all files; the next use opens them again."""
        self.opened = None  # whoever is at it just now closes them when he is done

    def tree(self) -> Tree:
        """The open directory. Raises ``OSError`` and ``StorageError``."""
        tree = self.opened
        if tree is not None:
            return tree
        with self._opening:
            if self.opened is None:
                self.opened = Tree(self.path, self._size, private=self._private, clock=self._clock)
            return self.opened

    def read(self, action: Callable[[Tree], T], default: T) -> T:
        """What *action* gives; *default* if it fails, unless the client is strict."""
        try:
            tree = self.tree()
            if self.is_lost(tree):
                tree = self.tree()
            return action(tree)
        except (OSError, StorageError) as error:
            if self.strict:
                raise self._failure(error) from error
            self._failure(error)
            return default

    def change(self, action: Callable[[Tree], T]) -> T:
        """What *action* gives, on the directory that everybody sees now.

        Raises:
            StorageError: it failed; it has been counted.
        """
        for _ in range(_ATTEMPTS):
            tree = None
            try:
                tree = self.tree()
                if not self.is_lost(tree):
                    return action(tree)
            except FileNotFoundError as error:
                if tree is None:
                    raise self._failure(error) from error
                # A directory was removed: what is to be changed is in the one made after it.
            except (OSError, StorageError) as error:
                raise self._failure(error) from error
        raise self._failure(OSError(f"{self.path!r} is removed again and again"))

    def attempt(self, action: Callable[[Tree], T], default: T) -> T:
        """The same, but *default* if it fails, unless the client is strict."""
        try:
            return self.change(action)
        except StorageError:
            if self.strict:
                raise
            return default

    def is_lost(self, tree: Tree) -> bool:
        """Whether others find another directory by now: the next use opens that one."""
        if tree.is_current:
            return False
        with self._opening:
            if self.opened is tree:
                self.opened = None
        return True

    def failed(self, subject: str, message: str, error: BaseException) -> None:
        """Count and report what is to be a miss, or a value that is not kept."""
        self._counters.errors += 1
        # Its text: a record that is kept would keep the frames, and with them the open directory.
        self._reports.warn(subject, f"files in %s: {message}: %s", self.path, str(error))

    def _failure(self, error: OSError | StorageError) -> StorageError:
        self.failed("storage", "they cannot be used", error)
        if isinstance(error, StorageError):
            return error
        return StorageError(f"files in {self.path!r} cannot be used: {error}")
