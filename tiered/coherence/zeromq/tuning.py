"""The options of all sockets of a bus, and why they are what they are."""

from __future__ import annotations

import struct
from typing import Final

import zmq
import zmq.backend

from tiered.coherence.wire import MAX_FRAME

__all__ = ["EVENT", "NOW", "Context", "Socket", "is_readable", "send", "skip", "tune"]

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

NOW: Final = int(zmq.NOBLOCK)
"""For ``socket.recv``: raises ``zmq.Again`` if there is nothing. An enum takes longer."""
_MORE: Final = int(zmq.RCVMORE)
_READABLE: Final = int(zmq.POLLIN)

EVENT: Final = struct.Struct("=HI")
"""The first frame of what a monitor says: what has happened, and a number that depends on it."""

_HIGH_WATER: Final = 1000
"""Frames that wait for one peer.

A frame carries up to a few hundred events, and the broker keeps these anyway: who has more
than that to read is far behind, notices it by the numbers, and asks for what it missed.
"""


def tune(socket: Socket, *, ipv6: bool) -> None:
    """Set what is the same for nodes and brokers, before *socket* is bound or connected."""
    for option, value in {
        # Nothing waits at the end of a process, unless it is asked to.
        zmq.LINGER: 0,
        zmq.SNDHWM: _HIGH_WATER,
        zmq.RCVHWM: _HIGH_WATER,
        # What is longer is not read at all: the connection is cut.
        zmq.MAXMSGSIZE: MAX_FRAME,
        # Nothing is queued for a peer that is not there: it would come late, and is sent again.
        zmq.IMMEDIATE: 1,
        zmq.IPV6: int(ipv6),
        # A peer that accepts and then says nothing is no peer.
        zmq.CONNECT_TIMEOUT: 1000,
        zmq.HANDSHAKE_IVL: 1000,
        # Links that were cut without a word are closed some time; leases do not depend on it.
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: 10,
        zmq.TCP_KEEPALIVE_INTVL: 5,
        zmq.TCP_KEEPALIVE_CNT: 3,
    }.items():
        socket.set(option, value)


def skip(socket: Socket) -> int:
    """Take what is left of the message that was begun; how many frames."""
    skipped = 0
    while socket.getsockopt(_MORE):
        socket.recv(NOW)
        skipped += 1
    return skipped


def is_readable(socket: Socket) -> bool:
    """Whether there is a message. Cheaper than ``zmq.Again``, where there is none."""
    return bool(zmq.backend.zmq_poll([(socket, _READABLE)], 0))


send: Final = zmq.backend.Socket.send
"""``send(socket, frame, flags)``, without pyzmq's own layer above it: half the time."""
