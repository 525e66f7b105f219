"""Members of a bus that hear of all topics."""

from __future__ import annotations

from collections.abc import Sequence

from tiered.coherence.messages import ALL_TOPICS, Event, Kind
from tiered.coherence.names import topic_of
from tiered.testing.buses import LocalBus, LocalHub

USERS, ORDERS = topic_of("users"), topic_of("orders")


class Listener:
    def __init__(self, topic: bytes) -> None:
        self.topic = topic
        self.heard: list[Event] = []
        self.doubts = 0
        self.extended = 0

    def hear(self, events: Sequence[Event]) -> None:
        self.heard += events

    def distrust(self, reason: str) -> None:
        self.doubts += 1

    def extend(self, epoch: int, until: float) -> None:
        self.extended += 1

    def accepted(self) -> None:
        pass

    def overdue(self) -> None:
        pass

    def told(self, node: bytes, payload: bytes) -> None:
        pass


def started(hub: LocalHub, *members: Listener) -> LocalBus:
    bus = LocalBus(hub)
    for member in members:
        bus.join(member)
    bus.start()
    hub.advance(1.0)
    return bus


def test_they_hear_what_happens_to_any_topic() -> None:
    hub = LocalHub()
    everything, users = Listener(ALL_TOPICS), Listener(USERS)
    started(hub, everything, users)
    other = started(hub)
    other.publish(Kind.DELETE, USERS, [b"one", b"two"])
    other.publish(Kind.EXPIRE, ORDERS, [b"three"])
    of_users = [Event(Kind.DELETE, USERS, b"one"), Event(Kind.DELETE, USERS, b"two")]
    assert everything.heard == [*of_users, Event(Kind.EXPIRE, ORDERS, b"three")]
    assert users.heard == of_users


def test_they_hear_what_their_own_process_does() -> None:
    hub = LocalHub()
    everything, users = Listener(ALL_TOPICS), Listener(USERS)
    bus = started(hub, everything, users)
    bus.publish(Kind.DELETE, USERS, [b"one"], source=users)
    assert everything.heard == [Event(Kind.DELETE, USERS, b"one")]
    assert users.heard == []


def test_they_are_told_of_every_doubt_once() -> None:
    hub = LocalHub()
    everything, users = Listener(ALL_TOPICS), Listener(USERS)
    started(hub, everything, users)
    other = started(hub)
    everything.doubts = users.doubts = 0
    other.publish(Kind.DISTRUST, ORDERS, [b""])
    assert (everything.doubts, users.doubts) == (1, 0)
    other.publish(Kind.DISTRUST, ALL_TOPICS, [b""])
    assert (everything.doubts, users.doubts) == (2, 1)
    everything.extended = users.extended = 0
    hub.advance(1.0)
    assert everything.extended == users.extended > 0


def test_they_can_leave() -> None:
    hub = LocalHub()
    everything = Listener(ALL_TOPICS)
    bus = started(hub, everything)
    other = started(hub)
    bus.leave(everything)
    other.publish(Kind.DELETE, USERS, [b"one"])
    assert everything.heard == []
