"""Tell objects that they now live in a forked child.

A lock that another thread holds while the process forks stays locked in the
child for ever, because the thread that would release it is not there. Whoever
keeps a lock, a socket or a table of running work registers here and gets
``after_fork()`` called in the child, before any other code of the child runs.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["ForkAware", "register"]


class ForkAware(Protocol):
    """What has something to renew in a child process."""

    def after_fork(self) -> None:
        """Renew locks, drop sockets; called in the child, alone, once."""
        ...


_registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register(owner: ForkAware) -> None:
    """Call ``owner.after_fork()`` in every child from now on; keeps no reference to it."""
    _registered.add(owner)


def _renew_all() -> None:
    for owner in list(_registered):
        owner.after_fork()


os.register_at_fork(after_in_child=_renew_all)
