"""A node's end of the connection to one address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zmq

from tiered.coherence.messages import BrokerMessage, NodeMessage
from tiered.coherence.wire import ForeignFrame, Wire
from tiered.coherence.zeromq.addresses import BusAddress
from tiered.coherence.zeromq.election import Prospect
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.security import CurveKeys
from tiered.coherence.zeromq.tuning import (
    EVENT,
    NOW,
    Context,
    Socket,
    is_readable,
    send,
    skip,
    tune,
)

__all__ = ["Link"]

_LOST: Final = zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
_REFUSED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)
_MOST_REFUSALS: Final = 3
_SOONEST_MS: Final = 10
"""Between two attempts to connect; doubled up to the longest."""


class Link:
    """Connects to *address*, again and again, until it is closed.

    Args:
        longest: seconds between two attempts.

    Attributes:
        prospect: what is known of the address.
        socket, monitor: to be polled; :meth:`receive` and :meth:`watch` when they are readable.

    Raises:
        OSError: the address is a name that cannot be resolved.

    Threads: one.
    """

    def __init__(
        self,
        context: Context,
        address: BusAddress,
        *,
        wire: Wire,
        curve: CurveKeys | None,
        foreign: ForeignCount,
        longest: float = 0.2,
    ) -> None:
        self.address = address
        self.prospect = Prospect.UNKNOWN
        self._refusals = 0
        self._wire = wire
        self._foreign = foreign
        _, ipv6 = address.located()
        self.socket: Socket = context.socket(zmq.DEALER)
        tune(self.socket, ipv6=ipv6)
        self.socket.set(zmq.RECONNECT_IVL, _SOONEST_MS)
        self.socket.set(zmq.RECONNECT_IVL_MAX, round(longest * 1000))
        if curve is not None:
            curve.use(self.socket)
        self.monitor: Socket = self.socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | _LOST | _REFUSED
        )
        # By its name: libzmq asks for the number anew each time that it connects.
        self.socket.connect(address.text)

    def watch(self) -> bool:
        """Take note of what has happened; whether the way to the other side was lost."""
        was_there = self.prospect is Prospect.THERE
        lost = False
        while True:
            try:
                frames = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return lost and was_there
            event, _ = EVENT.unpack(frames[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.prospect = Prospect.THERE
                self._refusals = 0
                # A new way in the place of the old one: what was sent on that may be lost.
                lost = lost or was_there
            else:
                self.prospect = Prospect.VACANT
                lost = True
                self._refusals += bool(event & _REFUSED)

    @property
    def is_refused(self) -> bool:
        """Whether somebody is there with whom we have no common language or key.

        To be closed then, and made anew after a while: libzmq would try again each 10 ms.
        """
        return self._refusals >= _MOST_REFUSALS

    def receive(self, most: int) -> Iterator[BrokerMessage]:
        """Up to *most* messages that have come."""
        parse, socket = self._wire.of_broker, self.socket
        for number in range(most):
            if number == 1 and not is_readable(socket):
                return
            try:
                frame = socket.recv(NOW)
            except zmq.Again:
                return
            try:
                yield parse(frame)
                # Asked when that is done, as to ask takes as long as to receive. A message of
                # several frames is none of ours, but its first one is as good as one by itself.
                skipped = skip(socket)
                if skipped:
                    raise ForeignFrame(f"{skipped + 1} frames in the place of one")
            except ForeignFrame as error:
                skip(socket)
                self._foreign.refuse(str(self.address), error)

    def send(self, message: NodeMessage) -> bool:
        """Send *message*; whether there was room.

        Raises:
            ValueError: it is too long.
        """
        frame = self._wire.pack(message)
        try:
            send(self.socket, frame, zmq.NOBLOCK)
        except zmq.Again:
            # libzmq looks only now and then whether there is a way again.
            if not self._has_room:
                return False
            try:
                send(self.socket, frame, zmq.NOBLOCK)
            except zmq.Again:
                return False
        return True

    @property
    def _has_room(self) -> bool:
        return bool(int(self.socket.get(zmq.EVENTS)) & zmq.POLLOUT)

    def close(self, linger: float = 0.0) -> None:
        """Close the connection, and have what was sent leave for up to *linger* seconds."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(round(linger * 1000))
