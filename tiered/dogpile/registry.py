"""One object for each name, for as long as anybody has it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from tiered.concurrency import fork

__all__ = ["NameRegistry"]

T = TypeVar("T")


class NameRegistry(Generic[T]):
    """Makes the object of a name when it is first asked for, and forgets it with its last user.

    Args:
        creator: ``creator(identifier, *args, **kwargs)`` makes the object, which must allow
            weak references.

    Threads: safe; *creator* runs under the registry's lock, and may ask the registry itself.
    """

    def __init__(self, creator: Callable[..., T]) -> None:
        self.creator = creator
        self._values: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock: whoever held it is not in this process."""
        self._lock = threading.RLock()

    def get(self, identifier: Hashable, *args: Any, **kwargs: Any) -> T:
        """The object of *identifier*; the arguments are for the one who makes it."""
        value: T | None = self._values.get(identifier)
        if value is not None:
            return value
        with self._lock:
            value = self._values.get(identifier)
            if value is None:
                value = self.creator(identifier, *args, **kwargs)
                # The creator may have asked for this very name: the first one stays.
                value = self._values.setdefault(identifier, value)
            return value
