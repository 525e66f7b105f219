"""What callers leave for the transport, and what becomes of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tiered.coherence import nodebus
from tiered.coherence.effects import Found
from tiered.coherence.messages import (
    ALL_TOPICS,
    Kind,
    NodeMessage,
    Publish,
    Settled,
    Welcome,
    unpacked,
)
from tiered.coherence.nodebus import NodeBus
from tiered.testing import ManualClock

TOPIC = b"a-topic."


class Recorded(NodeBus):
    """A node that follows a broker; ``during`` is called whenever it sends."""

    def __init__(self) -> None:
        super().__init__(detection=1.0, label="recorded", clock=ManualClock())
        self.sent: list[NodeMessage] = []
        self.during: Callable[[], object] = bool
        self.happened(Found(), 0.0)
        self.happened(Welcome(self._protocol._hello, 1, 0, 0), 0.0)
        self.sent.clear()

    def _wake(self) -> None:
        """It is for the test to call :meth:`publish_left`."""

    def _seek(self) -> None: ...

    def _send(self, message: NodeMessage) -> None:
        self.sent.append(message)
        self.during()

    def leave_one(self, name: bytes) -> None:
        self.publish(Kind.DELETE, TOPIC, [name])

    @property
    def blocks(self) -> list[list[bytes]]:
        """The names in each message of events."""
        return [
            [event.name for event in unpacked(message.size, message.events)]
            for message in self.sent
            if isinstance(message, Publish)
        ]


@pytest.fixture
def bus() -> Recorded:
    return Recorded()


def test_what_is_left_goes_in_blocks(bus: Recorded) -> None:
    for number in range(2500):
        bus.leave_one(b"%d" % number)
    bus.publish_left(0.0)
    assert [len(block) for block in bus.blocks] == [1024, 1024, 452]
    names = [name for block in bus.blocks for name in block]
    assert names == [b"%d" % number for number in range(2500)]


def test_what_is_left_meanwhile_is_for_another_time(bus: Recorded) -> None:
    bus.leave_one(b"0")

    def leave_another() -> None:
        assert len(bus.sent) < 10, "there is no end of it"
        bus.leave_one(b"%d" % len(bus.sent))

    bus.during = leave_another
    bus.publish_left(0.0)
    assert bus.blocks == [[b"0"]]
    bus.publish_left(0.0)
    assert bus.blocks == [[b"0"], [b"1"]]


def test_asides_that_are_left_meanwhile_are_for_another_time(bus: Recorded) -> None:
    bus.tell(b"a node  ", TOPIC)

    def tell_another() -> None:
        assert len(bus.sent) < 10, "there is no end of it"
        bus.tell(b"a node  ", TOPIC)

    bus.during = tell_another
    bus.publish_left(0.0)
    assert len(bus.sent) == 1


class Shared(deque[Any]):
    """An outbox that another thread clears, as it overflows, before its *number*-th use."""

    number = 0

    def _used(self) -> None:
        self.number -= 1
        if self.number == 0:
            self.clear()

    def __bool__(self) -> bool:
        found = len(self) > 0
        self._used()
        return found

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self._used()
        return found

    def popleft(self) -> Any:
        self._used()
        return super().popleft()


@pytest.mark.parametrize("number", range(1, 5))
def test_an_outbox_may_be_cleared_while_it_is_fetched(
    bus: Recorded, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = bus._outbox = Shared()
    for name in (b"a", b"b", b"c"):
        bus.leave_one(name)
    outbox.number = number
    bus.publish_left(0.0)
    outbox.number = 0
    # It found less than there was; then comes what stands for all.
    monkeypatch.setattr(nodebus, "_MOST_WAITING", len(outbox))
    bus.leave_one(b"d")
    bus.publish_left(0.0)
    last = list(bus._protocol.owed)[-1]
    *_, event = unpacked(last.size, last.events)
    assert (last.last, event.kind, event.topic) == (4, Kind.DISTRUST, ALL_TOPICS)


class Interrupted(deque[Any]):
    """An outbox at whose *number*-th use a signal's handler publishes, once that is over."""

    number = 0
    bus: Recorded

    def _used(self) -> None:
        self.number -= 1
        if self.number == 0:
            self.bus.leave_one(b"of the handler")

    def __len__(self) -> int:
        found = super().__len__()
        self._used()
        return found

    def append(self, left: Any) -> None:
        super().append(left)
        self._used()

    def clear(self) -> None:
        super().clear()
        self._used()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_handler_may_publish_while_its_thread_does(
    bus: Recorded, number: int, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = bus._outbox = Interrupted()
    outbox.bus = bus
    bus.leave_one(b"first")
    if full:
        monkeypatch.setattr(nodebus, "_MOST_WAITING", 1)
    outbox.number = number
    thread = threading.Thread(target=bus.leave_one, args=(b"interrupted",), daemon=True)
    thread.start()
    thread.join(15.0)
    assert not thread.is_alive()
    outbox.number = 0
    serials = [first for first, *_ in outbox]
    assert serials == sorted(serials)
    bus.publish_left(0.0)
    last = list(bus._protocol.owed)[-1]
    assert last.last == bus.stats.published


def test_who_waits_is_told_though_what_is_urgent_was_replaced(
    bus: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodebus, "_MOST_WAITING", 3)
    receipts = [bus.publish(Kind.DELETE, TOPIC, [b"%d" % n], urgent=True) for n in range(3)]
    bus.leave_one(b"not urgent")
    bus.publish_left(0.0)
    bus.happened(Welcome(bus._protocol._hello, 1, 0, 3), 0.0)
    assert [message.urgent for message in bus.sent if isinstance(message, Publish)] == [True]
    bus.happened(Settled(1, 4), 0.0)
    assert all(receipt.settled(0.0) for receipt in receipts)
