"""Waiting until one of several sockets can be read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import zmq

from tiered.coherence.zeromq.bell import Bell
from tiered.coherence.zeromq.tuning import Socket

__all__ = ["Action", "Readiness"]

Action: TypeAlias = Callable[[], object]


class Readiness:
    """The sockets of one thread, each with what to do when it can be read.

    Attributes:
        bell: ends a wait; to be rung by any thread.

    Threads: one.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self._poller = zmq.Poller()
        self._poller.register(self.bell.descriptor, zmq.POLLIN)
        self._actions: dict[Socket | int, Action] = {self.bell.descriptor: self.bell.clear}

    def add(self, socket: Socket, action: Action) -> None:
        """Call *action* when *socket* can be read."""
        self._poller.register(socket, zmq.POLLIN)
        self._actions[socket] = action

    def remove(self, socket: Socket) -> None:
        """Do so no more; before it is closed."""
        self._poller.unregister(socket)
        del self._actions[socket]

    def wait(self, seconds: float) -> list[Socket | int]:
        """What can be read now, or within *seconds*; to be given to :meth:`act`."""
        milliseconds = math.ceil(max(0.0, seconds) * 1000)
        return [socket for socket, _ in self._poller.poll(milliseconds)]

    def act(self, ready: list[Socket | int]) -> None:
        """Do what is to be done, unless something before it has made that void."""
        for socket in ready:
            action = self._actions.get(socket)
            if action is not None:
                action()
