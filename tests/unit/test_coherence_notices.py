"""What neighbours tell each other ahead of the bus."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.coherent import Cluster, Node
from tiered.coherence import nodebus, notices
from tiered.coherence.messages import (
    ALL_TOPICS,
    Block,
    Event,
    Kind,
    Publish,
    packed,
    packed_names,
)
from tiered.coherence.notices import AHEAD, Notices
from tiered.testing.buses import LocalBus, LocalHub

TOPIC = b"a-topic."
OTHER = b"another "
DELETED = packed_names(Kind.DELETE, TOPIC, [b"k"])
FLOOD = packed([Event(Kind.DISTRUST, ALL_TOPICS, b"")])


def notice(serial: int, events: bytes = DELETED, *, epoch: int = 1, size: int = 1) -> Publish:
    return Publish(OTHER, epoch, serial, size, events, False)


def block(serial: int, events: bytes = DELETED, *, size: int = 1, first: int = 1) -> Block:
    return Block(1, first, OTHER, serial, size, events, False)


# -- What was heard of -----------------------------------------------------------------


def test_what_was_noticed_is_known_once() -> None:
    heard = Notices()
    assert heard.is_new(notice(1))
    assert not heard.is_new(notice(1))
    assert heard.among(block(1))
    assert not heard.among(block(1))


def test_a_notice_that_comes_after_its_event_is_not_new() -> None:
    heard = Notices()
    assert not heard.among(block(4, DELETED * 3, size=3))
    assert [heard.is_new(notice(serial)) for serial in (4, 5, 6, 7)] == [False] * 3 + [True]


def test_another_event_under_a_serial_that_was_noticed_is_not_known() -> None:
    """All that was owed was replaced by one event, with the serial of the last."""
    heard = Notices()
    assert heard.is_new(notice(1))
    assert not heard.among(block(1, FLOOD))


def test_of_a_block_of_several_events_some_may_be_known() -> None:
    heard = Notices()
    stored = packed_names(Kind.STORED, TOPIC, [b"k"])
    for number, events in ((1, DELETED), (3, DELETED), (4, stored), (7, stored)):
        assert heard.is_new(notice(number, events))
    assert list(heard.among(block(1, DELETED * 5, size=5))) == [0, 2]
    assert list(heard.among(block(6, DELETED + stored, size=2))) == [1]
    assert list(heard.among(block(1, DELETED * 5, size=5))) == []


def test_of_a_block_that_makes_no_sense_nothing_is_known() -> None:
    heard = Notices()
    assert heard.is_new(notice(1))
    assert not heard.among(block(1, DELETED * 2 + b"x", size=2))


def test_what_is_awaited_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_MOST", 3)
    heard = Notices()
    for serial in range(1, 6):
        assert heard.is_new(notice(serial))
    known = [bool(heard.among(block(serial))) for serial in range(1, 6)]
    assert known == [False] * 2 + [True] * 3


def test_the_nodes_that_are_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_MOST_NODES", 3)
    heard = Notices()
    for number in range(10):
        heard.among(block(1)._replace(node=b"node %d  " % number))
    assert len(heard._last) <= 3


# -- A node ----------------------------------------------------------------------------


class Member:
    """Remembers what it hears."""

    def __init__(self, topic: bytes = TOPIC, *, eager: bool = True) -> None:
        self.topic = topic
        self.eager = eager
        self.heard: list[tuple[Kind, bytes]] = []
        self.distrusted = 0

    def hear(self, events: Sequence[Event]) -> None:
        self.heard += [(event.kind, event.name) for event in events]

    def distrust(self, reason: str) -> None:
        self.distrusted += 1

    def extend(self, epoch: int, until: float) -> None: ...
    def accepted(self) -> None: ...
    def overdue(self) -> None: ...
    def told(self, node: bytes, payload: bytes) -> None: ...


class Pair:
    """Two neighbours, one of whom publishes; nothing comes by the bus until it is told to."""

    def __init__(self) -> None:
        self.hub = LocalHub(neighbours=True)
        self.sender, self.hearer = LocalBus(self.hub), LocalBus(self.hub)
        for bus in (self.sender, self.hearer):
            bus.start()
        self.hub.advance(1.0)
        self.bus = self.sender
        self.notices: list[Publish] = []
        self.ahead: Callable[[], object] = bool

    def publish(self, kind: Kind = Kind.DELETE, names: Sequence[bytes] = (b"k",)) -> None:
        """What it tells its neighbours is noted; ``ahead`` is called before it goes by the bus."""
        self.hub.held = True
        wake = self.sender._wake

        def woken() -> None:
            self.notices += [notice for _, notice in self.hub.notices]
            self.hub.deliver()
            self.ahead()
            wake()

        self.sender._wake = woken  # type: ignore[method-assign]
        try:
            self.sender.publish(kind, TOPIC, names)
        finally:
            del self.sender._wake


@pytest.fixture
def pair() -> Pair:
    return Pair()


def joined(pair: Pair, **options: Any) -> Member:
    member = Member(**options)
    pair.hearer.join(member)
    pair.hub.run()
    return member


@pytest.mark.parametrize("kind", sorted(AHEAD))
def test_an_eager_member_hears_of_a_change_first_and_once(pair: Pair, kind: Kind) -> None:
    member = joined(pair)
    ahead: list[Any] = []
    pair.ahead = lambda: ahead.extend(member.heard)
    pair.publish(kind)
    assert ahead == member.heard == [(kind, b"k")]
    assert (pair.hearer.stats.noticed, pair.hearer.stats.received) == (1, 1)


def test_who_is_not_eager_hears_in_the_order_of_the_bus(pair: Pair) -> None:
    eager, patient = joined(pair), joined(pair, eager=False)
    everything = joined(pair, topic=ALL_TOPICS, eager=False)
    ahead: list[int] = []
    pair.ahead = lambda: ahead.extend(len(one.heard) for one in (eager, patient, everything))
    pair.publish()
    assert ahead == [1, 0, 0]
    assert eager.heard == patient.heard == everything.heard == [(Kind.DELETE, b"k")]


def test_what_is_new_in_a_block_is_heard_by_all(pair: Pair) -> None:
    eager, patient = joined(pair), joined(pair, eager=False)
    pair.hearer.noticed(notice(2))
    other = packed_names(Kind.DELETE, b"another.", [b"x"])
    events = packed_names(Kind.STORED, TOPIC, [b"a"]) + DELETED + other
    seq = pair.hearer.stats.seq
    pair.hearer.happened(block(1, events, size=3, first=seq + 1), pair.hub.clock.monotonic())
    assert eager.heard == [(Kind.DELETE, b"k"), (Kind.STORED, b"a")]
    assert patient.heard == [(Kind.STORED, b"a"), (Kind.DELETE, b"k")]


@pytest.mark.parametrize("kind", sorted(set(Kind) - AHEAD))
def test_other_events_are_for_the_bus(pair: Pair, kind: Kind) -> None:
    pair.publish(kind, [b""])
    assert pair.notices == []
    member = joined(pair)
    pair.hearer.noticed(notice(1, packed_names(kind, TOPIC, [b""])))
    assert (member.heard, member.distrusted) == ([], 0)


def test_floods_are_for_the_bus(pair: Pair) -> None:
    pair.publish(names=[b"a", b"b"])
    assert pair.notices == []
    pair.hub.clock.advance(2 * nodebus._QUIET)
    for _ in range(5):
        pair.publish()
        pair.hub.clock.advance(nodebus._QUIET / 2)
    assert [one.first for one in pair.notices] == [3]


def test_what_a_full_outbox_replaces_is_not_told(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodebus, "_MOST_WAITING", 0)
    member = joined(pair)
    pair.publish()
    assert (pair.notices, member.distrusted) == ([], 1)


def test_a_serial_of_a_former_life_is_not_told(pair: Pair) -> None:
    """The bus is closed and started again by another thread, just when an event was left."""

    class Outbox(deque[Any]):
        def append(self, left: Any) -> None:
            super().append(left)
            pair.sender._begin_again()

    pair.sender._outbox = Outbox()
    pair.publish()
    assert pair.notices == []


@pytest.mark.parametrize(
    "strange",
    [
        notice(1, epoch=2),
        notice(1, b""),
        notice(1, DELETED[:-1]),
        notice(1, DELETED * 2),
        notice(1, DELETED * 2, size=2),
        notice(1, b"\xff" + DELETED[1:]),
    ],
)
def test_a_notice_that_makes_no_sense_is_left(pair: Pair, strange: Publish) -> None:
    member = joined(pair)
    pair.hearer.noticed(strange)
    assert member.heard == []


def test_our_own_notice_is_left(pair: Pair) -> None:
    member = joined(pair)
    pair.hearer.noticed(notice(1)._replace(node=pair.hearer.node))
    assert member.heard == []


def test_what_was_noticed_and_then_replaced_is_distrusted(pair: Pair) -> None:
    """The notice was for one event; the one that comes with its serial stands for all."""
    member = joined(pair)

    def collapse() -> None:
        pair.sender._outbox.clear()
        pair.sender._outbox.append((pair.sender._serial, 1, FLOOD, False))

    pair.ahead = collapse
    pair.publish()
    assert (member.heard, member.distrusted) == ([(Kind.DELETE, b"k")], 1)


# -- Clients ---------------------------------------------------------------------------


def test_a_computation_that_began_after_a_notice_is_not_given_up() -> None:
    """The event by the bus is the same change, which it has not missed."""
    cluster = Cluster(neighbours=True)
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    cluster.advance(0.1)
    b.bus.cut = True  # what comes by the bus comes later
    a.client.delete("k")
    assert not b.private.contains("k")
    claim = b.client.claim("k")
    assert claim is not None
    b.bus.cut = False
    cluster.advance(0.5)
    assert b.bus.stats.seq == a.bus.stats.seq
    assert b.client.fill("k", 2, b.client.clock.monotonic() + 600, keep=0.0, claim=claim)
    claim.release()
    assert b.private.contains("k")


def test_a_value_that_was_read_before_a_notice_is_not_kept_after_it() -> None:
    cluster = Cluster(neighbours=True)
    a, b = cluster.node(), cluster.node()
    cluster.server.put("k", "old", 600)
    cluster.advance(0.1)
    assert b.shared is not None
    read = b.shared.entry
    deleted: list[bool] = []

    def read_and_delete(key: Any) -> Any:
        found = read(key)
        if not deleted:
            b.bus.cut = True
            deleted.append(a.client.delete("k"))
        return found

    b.shared.entry = read_and_delete  # type: ignore[method-assign]
    assert b.client.get("k", None) == "old"
    assert deleted == [True]
    assert not b.private.contains("k")


class Program:
    """Three processes that do what chance tells them, on a bus that fails them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.cluster = Cluster(neighbours=True, quick_refresh=True)
        self.nodes: list[Node] = [self.cluster.node() for _ in range(3)]
        self.keys = ["a", "b", "c"]
        self.number = 0

    def run(self, steps: int) -> None:
        hub = self.cluster.hub
        for _ in range(steps):
            self.step()
        hub.held = False
        hub.deliver()
        if hub.broker is None:
            hub.begin()
        for node in self.nodes:
            node.bus.cut, node.bus.deaf = False, 0
        self.cluster.settle()

    def step(self) -> None:
        chance, hub = self.chance, self.cluster.hub
        node, key = chance.choice(self.nodes), chance.choice(self.keys)
        self.number += 1
        what = chance.randrange(16)
        if what < 5:
            node.client.get(key, None)
        elif what < 7:
            node.client.put(key, self.number, 600)
        elif what < 10:
            node.client.delete(key)
        elif what == 10:
            node.client.expire(key)
        elif what == 11:
            node.bus.deaf = chance.randrange(3)
        elif what == 12:
            node.bus.cut = not node.bus.cut
        elif what == 13:
            self._meddle()
        elif what == 14 and chance.random() < 0.3:
            hub.begin() if hub.broker is None else hub.kill()
        else:
            self.cluster.advance(chance.choice([0.001, 0.05, 0.5]))

    def _meddle(self) -> None:
        """Notices are held up, lost, doubled, and overtake each other."""
        chance, hub = self.chance, self.cluster.hub
        hub.held = not hub.held
        waiting = list(hub.notices)
        hub.notices.clear()
        chance.shuffle(waiting)
        hub.notices.extend(one for one in waiting if chance.random() < 0.8)
        hub.notices.extend(one for one in waiting if chance.random() < 0.2)
        if not hub.held:
            hub.deliver()


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_stale_for_good_whatever_becomes_of_notices(seed: int) -> None:
    program = Program(seed)
    program.run(60)
    for key in program.keys:
        truth = program.cluster.server.get(key, None)
        served = [node.client.get(key, None) for node in program.nodes]
        assert served == [truth] * 3, key
    assert any(node.bus.stats.noticed for node in program.nodes)
