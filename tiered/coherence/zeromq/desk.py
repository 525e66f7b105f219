"""A broker at its sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import BrokerEffect, Route, SendAll
from tiered.coherence.messages import Block, BrokerMessage, NodeMessage
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.listener import Listener
from tiered.coherence.zeromq.readiness import Readiness
from tiered.typing import Clock

__all__ = ["OWN", "Desk"]

OWN: Final[Route] = None
"""The way to the node of the same thread."""

_AT_ONCE: Final = 256
"""Messages that are taken before other sockets have their turn."""


class Desk:
    """Feeds the protocol of a broker with what comes in, and sends what comes of it.

    Args:
        own: takes what is for the node of this thread.

    Threads: one.
    """

    def __init__(
        self,
        protocol: BrokerProtocol,
        listener: Listener,
        wire: Wire,
        clock: Clock,
        own: Callable[[BrokerMessage], None],
    ) -> None:
        self.protocol = protocol
        self.listener = listener
        self._wire = wire
        self._now = clock.monotonic
        self._own = own
        self._echo: tuple[Route, BrokerMessage] | None = None

    def open(self, readiness: Readiness) -> None:
        """Serve whenever something has come in."""
        for socket in self.listener.sockets:
            readiness.add(socket, self.listener.attend)
        readiness.add(self.listener.socket, self.serve)

    def serve(self) -> None:
        """Take what has come in."""
        receive, now = self.protocol.receive, self._now
        for route, message in self.listener.receive(_AT_ONCE):
            self._perform(receive(route, message, now()))

    def flush(self) -> None:
        """Send what was put off until the node of this thread has heard of it."""
        if self._echo is not None:
            (route, message), self._echo = self._echo, None
            self.listener.send((route,), self._wire.pack(message))

    def take(self, message: NodeMessage) -> None:
        """*message* is from the node of this thread."""
        self._perform(self.protocol.receive(OWN, message, self._now()))

    def tick(self) -> None:
        """Time has passed."""
        self._perform(self.protocol.tick(self._now()))

    def close(self, readiness: Readiness, linger: float) -> None:
        """Tell all nodes to look for another broker, and end."""
        self._perform(self.protocol.leave())
        self.flush()
        for socket in self.listener.sockets:
            readiness.remove(socket)
        self.listener.close(linger)

    def _perform(self, effects: Iterable[BrokerEffect]) -> None:
        for effect in effects:
            message = effect.message
            routes = effect.routes if isinstance(effect, SendAll) else (effect.route,)
            if self._echo is not None:
                self.flush()  # nothing overtakes it
            if OWN in routes:
                self._send_here(routes, message)
            else:
                self.listener.send(routes, self._wire.pack(message))

    def _send_here(self, routes: tuple[Route, ...], message: BrokerMessage) -> None:
        """Send it along *routes*, one of which is our own."""
        others = [route for route in routes if route is not OWN]
        if type(message) is Block and routes[-1] is not OWN:
            # Whose events they are has no use for them, and can wait.
            self._echo = (others.pop(), message)
        if others:
            self.listener.send(others, self._wire.pack(message))
        self._own(message)
