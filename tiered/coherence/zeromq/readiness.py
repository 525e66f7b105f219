"""Waiting until one of several sockets can be read."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import zmq
import zmq.backend

from tiered.coherence.zeromq.bell import Bell
from tiered.coherence.zeromq.tuning import Socket

__all__ = ["Action", "Readiness"]

_READABLE: Final = int(zmq.POLLIN)
_LONGEST: Final = 3600.0
"""Seconds of a sleep: the kernel refuses to sleep for weeks. Who wakes too early sleeps again."""

Action: TypeAlias = Callable[[], object]


class Readiness:
    """Sockets, each with what to do when it can be read, or may be.

    One thread sleeps, and does so outside of libzmq, in ``epoll`` on the sockets' descriptors:
    meanwhile others may use the sockets, one at a time, under a lock of their own.

    Such a descriptor (``ZMQ_FD``) does not say that a socket can be read. It says that libzmq has
    left word for the socket's next user, and any use may take that word, a ``send`` too: a
    message can then be there, and the descriptor silent. That is why nothing is missed:

    - Polling, which is asking each socket for its ``EVENTS``, takes all such words, and tells what
      can be read then. What comes later makes the descriptor readable, and it stays readable until
      somebody uses the socket again.
    - Who has used a socket looks at :meth:`ready` before giving the lock away. Who finds
      something there and is not the thread that sleeps rings :attr:`bell`.

    So when the lock is free, a message that nobody knows of is behind a readable descriptor, at
    which the sleeper does not go on sleeping; or somebody has rung. Were that wrong, the sleeper
    would find it when its time is over, as it polls then.

    Attributes:
        bell: ends a sleep; to be rung by any thread.

    Threads: one at a time; :meth:`sleep` needs no lock, but what adds and removes is for the
    thread that sleeps.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self._epoll = select.epoll()
        self._epoll.register(self.bell.descriptor, select.EPOLLIN)
        self._polled: list[tuple[Socket, int]] = []
        self._actions: dict[Socket | int, Action] = {}
        self._descriptors: dict[int, Socket | int] = {}

    def add(self, socket: Socket, action: Action) -> None:
        """Call *action* when *socket* may be read, now and then for nothing; no other any more."""
        if socket not in self._actions:
            descriptor = int(socket.getsockopt(zmq.FD))
            self._epoll.register(descriptor, select.EPOLLIN)
            self._descriptors[descriptor] = socket
            self._polled.append((socket, _READABLE))
        self._actions[socket] = action

    def remove(self, socket: Socket) -> None:
        """Do so no more; before it is closed."""
        del self._actions[socket]
        descriptor = int(socket.getsockopt(zmq.FD))
        self._epoll.unregister(descriptor)
        del self._descriptors[descriptor]
        self._polled.remove((socket, _READABLE))

    def add_descriptor(self, descriptor: int, action: Action) -> None:
        """Call *action* after a sleep that *descriptor* has ended; it is readable until it is read.

        :meth:`ready` does not tell of it: while there is more to do than to sleep, it has to wait.
        """
        self._epoll.register(descriptor, select.EPOLLIN)
        self._descriptors[descriptor] = descriptor
        self._actions[descriptor] = action

    def remove_descriptor(self, descriptor: int) -> None:
        """Do so no more; before it is closed."""
        del self._actions[descriptor]
        self._epoll.unregister(descriptor)
        del self._descriptors[descriptor]

    def ready(self) -> list[Socket]:
        """What can be read now; to be given to :meth:`act`."""
        # Without the layer that pyzmq's Poller is above it.
        found = zmq.backend.zmq_poll(self._polled, 0)
        return [socket for socket, _ in found] if found else []  # type: ignore[misc]

    def sleep(self, seconds: float) -> list[Socket | int]:
        """Until one of the sockets stirs, or the bell is rung, or *seconds* are over.

        Returns:
            those that have stirred, which may be for nothing; to be given to :meth:`act`.
        """
        stirred: list[Socket | int] = []
        for descriptor, _ in self._epoll.poll(min(max(0.0, seconds), _LONGEST)):
            socket = self._descriptors.get(descriptor)
            if socket is None:
                self.bell.clear()
            else:
                stirred.append(socket)
        return stirred

    def wait(self, seconds: float) -> Sequence[Socket | int]:
        """What can be read now, or may be after :meth:`sleep`; to be given to :meth:`act`."""
        return self.ready() or self.sleep(seconds)

    def act(self, sockets: Iterable[Socket | int]) -> None:
        """Do what is to be done, unless something before it has made that void."""
        for socket in sockets:
            action = self._actions.get(socket)
            if action is not None:
                action()
