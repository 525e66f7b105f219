"""Who wants to know when what lies under a name changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from tiered.clients.revision import Lease
from tiered.concurrency import fork

__all__ = ["EVERY_NAME", "Follow", "Follows"]

EVERY_NAME: Final = b""
"""Who follows this is told of each name; none of them is empty."""


class Follow:
    """One who is told of one name; see :class:`tiered.typing.Following`.

    Attributes:
        lease: silence means that nothing has changed, while ``now < lease.horizon``.
    """

    __slots__ = ("_follows", "changed", "lease", "name")

    def __init__(
        self, follows: Follows, name: bytes, lease: Lease, changed: Callable[[str], Any]
    ) -> None:
        self._follows = follows
        self.name = name
        self.lease = lease
        self.changed = changed

    def close(self) -> None:
        """Be told no more."""
        self._follows.drop(self)


class Follows:
    """All of them. Threads: safe; they are told without a lock."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, tuple[Follow, ...]] = {}
        fork.register(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Who followed does so anew, or no more; and a new lock."""
        self._lock = threading.Lock()
        self._by_name.clear()

    def add(self, name: bytes, lease: Lease, changed: Callable[[str], Any]) -> Follow:
        """Call ``changed(how)`` when *name* changes."""
        follow = Follow(self, name, lease, changed)
        with self._lock:
            self._by_name[name] = (*self._by_name.get(name, ()), follow)
        return follow

    def drop(self, follow: Follow) -> None:
        """Forget *follow*, if it is there."""
        with self._lock:
            left = tuple(one for one in self._by_name.get(follow.name, ()) if one is not follow)
            if left:
                self._by_name[follow.name] = left
            else:
                self._by_name.pop(follow.name, None)

    def tell(self, name: bytes, how: str) -> None:
        """*name* has changed."""
        for follow in self._by_name.get(name, ()):
            follow.changed(how)
        for follow in self._by_name.get(EVERY_NAME, ()):
            follow.changed(how)

    def tell_all(self, how: str) -> None:
        """Any name may have changed."""
        for followers in list(self._by_name.values()):
            for follow in followers:
                follow.changed(how)

    def __len__(self) -> int:
        return len(self._by_name)
