"""A broker at its sockets: in which order it sends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import Route
from tiered.coherence.messages import (
    Block,
    BrokerMessage,
    Event,
    Hello,
    Kind,
    Leave,
    NodeMessage,
    Ping,
    Pong,
    Publish,
    packed,
)
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.desk import Desk
from tiered.coherence.zeromq.listener import Listener
from tiered.coherence.zeromq.readiness import Readiness
from tiered.testing import ManualClock

EPOCH = 7
A, B, OWN = b"node   a", b"node   b", b"our  own"
EVENT = packed([Event(Kind.DELETE, b"a topic.", b"k")])


class Sockets:
    """Stands in for a listener: gives what is put into ``incoming``, and notes what is sent."""

    sockets = ()

    def __init__(self, sent: list[tuple[Any, BrokerMessage]]) -> None:
        self.incoming: list[tuple[Route, NodeMessage]] = []
        self.sent = sent

    def receive(self, most: int) -> Iterator[tuple[Route, NodeMessage]]:
        assert most >= len(self.incoming)
        while self.incoming:
            yield self.incoming.pop(0)

    def send(self, routes: Iterable[Route], frame: bytes) -> None:
        self.sent += [(route, Wire().of_broker(frame)) for route in routes]

    def close(self, linger: float) -> None:
        """There is nothing to close."""


class Place:
    """A desk in the thread of a node, which two others follow too."""

    def __init__(self) -> None:
        clock = ManualClock()
        self.sent: list[tuple[Any, BrokerMessage]] = []
        self.sockets = Sockets(self.sent)
        protocol = BrokerProtocol(EPOCH, clock.monotonic(), detection=1.0)
        listener = cast(Listener, self.sockets)
        self.desk = Desk(protocol, listener, Wire(), clock, lambda it: self.sent.append((OWN, it)))
        self.desk.take(Hello(OWN, 1, 0, 0, 1, "own"))
        self.comes(A, Hello(A, 1, 0, 0, 1, "a"))
        self.comes(B, Hello(B, 1, 0, 0, 1, "b"))

    def comes(self, *said: Any) -> None:
        """Messages, each after the route that it comes along."""
        self.sent.clear()
        self.sockets.incoming += zip(said[::2], said[1::2], strict=True)
        self.desk.serve()

    def order(self, kind: type) -> list[Any]:
        """To whom messages of *kind* went."""
        return [route for route, message in self.sent if isinstance(message, kind)]


@pytest.fixture
def place() -> Place:
    return Place()


def published(node: bytes, serial: int) -> Publish:
    return Publish(node, EPOCH, serial, 1, EVENT, False)


def test_whose_events_they_are_is_told_when_the_node_of_this_thread_has_heard(
    place: Place,
) -> None:
    place.comes(A, published(A, 1))
    assert place.order(Block) == [B, OWN]
    place.desk.flush()
    assert place.order(Block) == [B, OWN, A]
    place.desk.flush()
    assert place.order(Block) == [B, OWN, A]


def test_nothing_overtakes_what_was_put_off(place: Place) -> None:
    place.comes(A, published(A, 1), A, Ping(A, EPOCH, 5, 0), A, published(A, 2), B, published(B, 1))
    place.desk.flush()
    to_a = [message for route, message in place.sent if route == A]
    assert [type(message) for message in to_a] == [Block, Pong, Block, Block]
    assert [one.first for one in to_a if isinstance(one, Block)] == [1, 2, 3]
    assert place.order(Block) == [B, OWN, A, B, OWN, A, A, OWN, B]


def test_what_was_put_off_is_sent_before_a_goodbye(place: Place) -> None:
    place.comes(A, published(A, 1))
    place.desk.close(cast(Readiness, None), 0.0)
    assert [type(message) for route, message in place.sent if route == A] == [Block, Leave]


def test_events_of_the_node_of_this_thread_go_to_the_others_first(place: Place) -> None:
    place.sent.clear()
    place.desk.take(published(OWN, 1))
    assert place.order(Block) == [A, B, OWN]
