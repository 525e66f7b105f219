"""The protocol of a broker, row by row of its table."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from tests.cluster.rows import Rows
from tiered.coherence import broker as module
from tiered.coherence import peers
from tiered.coherence.broker import BROKER_TABLE, BrokerProtocol
from tiered.coherence.effects import BrokerEffect, SendAll, SendTo, Time
from tiered.coherence.messages import (
    ALL_TOPICS,
    NOBODY,
    Block,
    Bye,
    ClaimKey,
    Event,
    Granted,
    Held,
    Hello,
    Inquire,
    Kind,
    Leave,
    Lost,
    Ping,
    Pong,
    Publish,
    ReleaseKey,
    Replay,
    Report,
    Settled,
    Stranger,
    Tell,
    Told,
    Welcome,
    packed,
)
from tiered.coherence.node import MARGIN
from tiered.coherence.state import Phase

SERVING = Phase.SERVING
A, B, C = b"node   a", b"node   b", b"node   c"
EPOCH, OTHER_EPOCH = 7, 6
D = 1.0
TOPIC = b"a topic."
DISTRUST = packed([Event(Kind.DISTRUST, ALL_TOPICS, b"")])

row = Rows(module, "BROKER_TABLE")
T = TypeVar("T")


def events(first: int, size: int) -> bytes:
    numbers = range(first, first + size)
    return packed([Event(Kind.DELETE, TOPIC, b"%d" % number) for number in numbers])


class Driver:
    """A broker old enough to settle, its clock, and what it has sent last, by route."""

    def __init__(self, **bounds: Any) -> None:
        self.now = 50.0
        self.broker = BrokerProtocol(EPOCH, self.now, detection=D, **bounds)
        self.now += 2 * D
        self.sent: list[tuple[Any, Any]] = []
        self._nonce = 100

    def __call__(self, message: Any, route: Any = None) -> None:
        """*message* comes; along a route with the name of the node, if no other is given."""
        self._sent(self.broker.receive(route or getattr(message, "node", None), message, self.now))

    def passes(self, seconds: float) -> None:
        """Time does."""
        self.now += seconds
        self._sent(self.broker.tick(self.now))

    def _sent(self, effects: Any) -> None:
        self.sent = []
        effect: BrokerEffect
        for effect in effects:
            if isinstance(effect, SendTo):
                self.sent.append((effect.route, effect.message))
            else:
                assert isinstance(effect, SendAll)
                self.sent += [(route, effect.message) for route in effect.routes]

    def to(self, route: Any, kind: type[T]) -> list[T]:
        """What was sent along *route* last, of *kind*."""
        return [message for at, message in self.sent if at == route and isinstance(message, kind)]

    def hello(self, node: bytes, epoch: int = EPOCH, seq: int = 0, serial: int = 1) -> None:
        self._nonce += 1
        self(Hello(node, self._nonce, epoch, seq, serial, "label"))

    def publish(self, node: bytes, first: int, size: int = 1, *, urgent: bool = False) -> None:
        self(Publish(node, EPOCH, first, size, events(first, size), urgent))

    def ping(self, node: bytes, seq: int, nonce: int = 0) -> None:
        self(Ping(node, EPOCH, nonce, seq))


@pytest.fixture
def driver() -> Driver:
    """Two nodes follow."""
    driver = Driver()
    driver.hello(A)
    driver.hello(B)
    return driver


# -- Who is there --------------------------------------------------------------------


@row((SERVING, Hello))
def test_who_says_hello_is_welcome(driver: Driver) -> None:
    driver.publish(A, 1, 3)
    driver(Hello(C, 5, 0, 0, 10, "c"))
    assert driver.sent == [(C, Welcome(5, EPOCH, 3, 9))]
    assert driver.broker.nodes == 3


@row((SERVING, Hello))
def test_the_welcome_tells_what_of_the_nodes_own_is_known(driver: Driver) -> None:
    driver.publish(A, 1, 3)
    driver.hello(A, seq=3, serial=1)
    assert driver.to(A, Welcome)[0].serial == 3
    driver.hello(A, seq=3, serial=9)  # others, elsewhere
    assert driver.to(A, Welcome)[0].serial == 8
    driver.publish(A, 9)
    assert driver.broker.seq == 4


@row((SERVING, Hello))
def test_a_hello_that_was_held_up_means_nothing(driver: Driver) -> None:
    late = Hello(A, 1000, OTHER_EPOCH, 0, 1, "a")
    driver(late)
    driver(late._replace(nonce=1001, epoch=EPOCH, seq=driver.broker.seq))
    driver.publish(B, 1, urgent=True)
    driver(late, route="an old way")
    assert driver.sent == []
    driver.ping(B, 5, nonce=1)
    assert not driver.to(B, Settled)  # it was not taken for somebody who has distrusted
    driver(Bye(A, EPOCH))
    driver(late)
    assert driver.broker.nodes == 1


@row((SERVING, Hello))
def test_all_distrust_when_somebody_comes_from_another_broker_once(driver: Driver) -> None:
    driver.hello(C, OTHER_EPOCH, seq=5)
    (block,) = driver.to(A, Block)
    assert (block.node, block.events, block.first) == (NOBODY, DISTRUST, 1)
    assert driver.to(B, Block) == [block]
    assert not driver.to(C, Block)
    assert driver.to(C, Welcome)[0].seq == 1
    driver.hello(C, OTHER_EPOCH, seq=5)
    driver.hello(C, OTHER_EPOCH, seq=4)
    assert not driver.to(A, Block)
    driver.hello(C, OTHER_EPOCH, seq=6)
    assert driver.to(A, Block)


@row((SERVING, Hello))
def test_nobody_distrusts_when_new_nodes_come(driver: Driver) -> None:
    driver.hello(C, 0)
    assert not driver.to(A, Block)


@row((SERVING, Hello))
def test_who_is_alone_is_not_told_to_distrust() -> None:
    driver = Driver()
    driver.hello(A, OTHER_EPOCH, 5)
    assert [type(message) for _, message in driver.sent] == [Welcome]


@pytest.mark.parametrize(
    "message",
    [
        Publish(C, EPOCH, 1, 1, events(1, 1), False),
        Ping(C, EPOCH, 1, 0),
        Replay(C, EPOCH, 0),
        ClaimKey(C, EPOCH, 1, TOPIC, b"key", 1000),
        Tell(C, EPOCH, A, b"hello"),
        Publish(A, OTHER_EPOCH, 1, 1, events(1, 1), False),
        Ping(A, OTHER_EPOCH, 1, 0),
        Replay(A, OTHER_EPOCH, 0),
        ClaimKey(A, OTHER_EPOCH, 1, TOPIC, b"key", 1000),
        Tell(A, OTHER_EPOCH, B, b"hello"),
    ],
)
def test_who_does_not_follow_is_told_so_once_in_a_while(driver: Driver, message: Any) -> None:
    for _ in range(2):
        driver(message)
        assert driver.sent == [(message.node, Stranger(EPOCH))]
        driver(message)
        assert driver.sent == []
        driver.passes(0.1)
    assert (driver.broker.seq, driver.broker.claims) == (0, 0)


@row((SERVING, Bye))
def test_who_says_bye_is_not_waited_for(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver(Bye(B, OTHER_EPOCH))
    assert driver.broker.nodes == 2
    driver(Bye(B, EPOCH))
    assert driver.broker.nodes == 1
    assert driver.to(A, Settled) == [Settled(EPOCH, 1)]
    driver(Bye(B, EPOCH))
    driver(Bye(C, EPOCH))
    assert driver.sent == []


@row((SERVING, Time))
def test_who_is_silent_for_longer_than_a_lease_can_last_is_dropped(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver.passes(0.5)
    driver.ping(A, 1, nonce=1)
    driver.ping(B, 0)  # with which nobody gets a lease
    driver.passes(MARGIN * D - 0.51)
    assert driver.broker.nodes == 2
    assert not driver.sent
    driver.passes(0.01)
    assert driver.broker.nodes == 1
    assert driver.to(A, Settled)
    assert not driver.to(A, Block)


@row((SERVING, Time))
def test_all_distrust_when_somebody_who_publishes_falls_silent(driver: Driver) -> None:
    driver.hello(C)
    driver.publish(A, 1)
    driver.publish(C, 1)
    driver.passes(0.5)
    driver.ping(B, 2, nonce=1)
    driver.passes(MARGIN * D - 0.5)
    assert driver.broker.nodes == 1
    (block,) = driver.to(B, Block)  # once for both
    assert block.events == DISTRUST


def test_a_broker_that_leaves_says_so(driver: Driver) -> None:
    driver._sent(driver.broker.leave())
    assert driver.sent == [(A, Leave(EPOCH)), (B, Leave(EPOCH))]


def test_a_node_is_reached_where_it_was_heard_of_last(driver: Driver) -> None:
    driver(Ping(B, EPOCH, 1, 0), route="a new way")
    assert driver.to("a new way", Pong)
    driver.publish(A, 1)
    assert driver.to("a new way", Block)
    assert not driver.to(B, Block)


# -- Events --------------------------------------------------------------------------


@row((SERVING, Publish))
def test_whose_events_they_are_is_told_last(driver: Driver) -> None:
    for count, node in enumerate((A, B, B, A), 2):
        driver.publish(node, count // 2)
        (other,) = {A, B} - {node}
        assert [route for route, _ in driver.sent] == [other, node]
    driver.hello(C)
    driver.publish(A, 3)
    assert [route for route, _ in driver.sent][-1] == A
    assert len(driver.to(A, Block)) == len(driver.to(B, Block)) == len(driver.to(C, Block)) == 1


@row((SERVING, Publish))
def test_events_are_numbered_and_sent_to_all(driver: Driver) -> None:
    driver.publish(A, 1, 2)
    driver.publish(B, 1, 3, urgent=True)
    block = Block(EPOCH, 3, B, 1, 3, events(1, 3), True)
    assert driver.sent == [(A, block), (B, block)]
    assert driver.broker.seq == 5


@row((SERVING, Publish))
def test_events_are_taken_once_and_in_their_order(driver: Driver) -> None:
    driver.publish(A, 2)
    assert (driver.sent, driver.broker.seq) == ([], 0)
    driver.publish(A, 1, 2)
    driver.publish(A, 1, 2)
    driver.publish(A, 2)
    assert (driver.sent, driver.broker.seq) == ([], 2)
    driver.publish(A, 2, 3)
    (block,) = driver.to(B, Block)
    assert (block.first, block.serial, block.size) == (3, 3, 2)
    assert block.events == events(3, 2)
    driver(Publish(A, EPOCH, 4, 3, b"nonsense", False))
    assert (driver.sent, driver.broker.seq, driver.broker.ignored) == ([], 4, 1)


@row((SERVING, Publish))
def test_a_node_that_was_dropped_is_known_when_it_comes_back(driver: Driver) -> None:
    driver.publish(A, 1, 3)
    driver(Bye(A, EPOCH))
    driver.hello(A, seq=3, serial=1)
    assert driver.to(A, Welcome)[0].serial == 3
    driver.publish(A, 1, 3)
    assert driver.broker.seq == 3


@row((SERVING, Ping))
def test_a_pong_tells_the_newest_event(driver: Driver) -> None:
    driver.publish(A, 1, 2)
    driver.ping(B, 0, nonce=9)
    assert driver.sent == [(B, Pong(EPOCH, 9, 2))]
    driver.ping(B, 2)
    assert driver.sent == []


@row((SERVING, Replay))
def test_what_is_kept_is_sent_again(driver: Driver) -> None:
    for serial in range(1, 4):
        driver.publish(A, serial)
    driver(Replay(B, EPOCH, 1))
    assert [type(message) for _, message in driver.sent] == [Block, Pong]
    assert driver.to(B, Block) == [Block(EPOCH, 2, A, 2, 2, events(2, 2), False)]
    assert driver.to(B, Pong) == [Pong(EPOCH, 0, 3)]
    driver(Replay(B, EPOCH, 3))
    assert driver.sent == [(B, Pong(EPOCH, 0, 3))]


@row((SERVING, Replay))
def test_what_is_not_kept_is_lost() -> None:
    driver = Driver(journal_events=2)
    driver.hello(A)
    for serial in range(1, 5):
        driver.publish(A, serial)
    driver(Replay(A, EPOCH, 2))
    assert driver.to(A, Block)
    driver(Replay(A, EPOCH, 1))
    assert driver.sent == [(A, Lost(EPOCH, 4))]


@row((SERVING, Replay))
def test_a_long_replay_comes_in_parts(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPLAY_BYTES", 30)
    for serial in range(1, 6):
        driver.publish((A, B)[serial % 2], (serial + 1) // 2)
    after, parts = 0, 0
    while after < 5:
        driver(Replay(B, EPOCH, after))
        blocks = driver.to(B, Block)
        assert blocks[0].first == after + 1
        after = blocks[-1].first + blocks[-1].size - 1
        assert driver.sent[-1] == (B, Pong(EPOCH, 0, 5))
        parts += 1
    assert parts == 2


# -- Who waits for everybody ---------------------------------------------------------


def test_urgent_events_are_settled_when_all_others_have_applied_them(driver: Driver) -> None:
    driver.hello(C)
    driver.publish(A, 1, 2, urgent=True)
    assert not driver.to(A, Settled)
    driver.ping(B, 1)
    driver.ping(C, 2)
    assert not driver.sent
    driver.ping(B, 2)
    assert driver.sent == [(A, Settled(EPOCH, 2))]


def test_who_comes_later_is_not_waited_for(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver.hello(C)
    driver.ping(B, 1)
    assert driver.to(A, Settled)


def test_who_is_alone_has_settled_at_once() -> None:
    driver = Driver()
    driver.hello(A)
    driver.publish(A, 1, urgent=True)
    assert driver.to(A, Settled) == [Settled(EPOCH, 1)]


def test_who_comes_back_is_waited_for_still(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver.hello(B, seq=0)
    assert not driver.to(A, Settled)
    driver.hello(B, seq=1)
    assert driver.to(A, Settled)


def test_who_comes_back_from_another_broker_has_distrusted(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver.hello(B, OTHER_EPOCH, seq=3)
    assert driver.to(A, Settled)


def test_nothing_is_settled_while_others_may_follow_the_last_broker() -> None:
    driver = Driver()
    driver.broker = BrokerProtocol(EPOCH, driver.now, detection=D)
    driver.hello(A)
    driver.publish(A, 1, urgent=True)
    driver.passes(0.6)
    driver.ping(A, 1, nonce=1)
    driver.passes(MARGIN * D - 0.61)
    assert not driver.to(A, Settled)
    driver.passes(0.01)
    assert driver.to(A, Settled) == [Settled(EPOCH, 1)]


def test_that_it_is_settled_is_said_with_every_pong(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver.ping(A, 1, nonce=1)
    assert not driver.to(A, Settled)
    driver.ping(B, 1)
    driver.publish(A, 2)
    for _ in range(2):
        driver.ping(A, 2, nonce=2)
        assert driver.to(A, Settled) == [Settled(EPOCH, 1)]


def test_who_was_away_when_it_settled_is_told_when_it_is_back(driver: Driver) -> None:
    driver.publish(A, 1, urgent=True)
    driver(Bye(A, EPOCH))
    driver.ping(B, 1)
    assert not driver.sent
    driver.hello(A, seq=1)
    driver.ping(A, 1, nonce=1)
    assert driver.to(A, Settled) == [Settled(EPOCH, 1)]


def test_very_many_waits_become_one(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_WAITS", 3)
    for serial in range(1, 11):
        driver.publish(A, serial, urgent=True)
        driver.publish(B, serial, urgent=True)
    assert len(driver.broker._waits) <= 4
    driver.ping(B, 18)
    assert driver.to(A, Settled) == [Settled(EPOCH, 1)]
    driver.ping(B, 19)
    assert driver.to(A, Settled) == [Settled(EPOCH, 10)]
    driver.ping(A, 20)
    assert driver.to(B, Settled)[-1] == Settled(EPOCH, 10)
    assert not driver.broker._waits


# -- Claims, and messages for others -------------------------------------------------


def claim(node: bytes, question: int = 1, ttl: int = 1000) -> ClaimKey:
    return ClaimKey(node, EPOCH, question, TOPIC, b"key", ttl)


@row((SERVING, ClaimKey), (SERVING, ReleaseKey))
def test_one_at_a_time_may_compute(driver: Driver) -> None:
    driver(claim(A))
    ((_, granted),) = driver.sent
    assert granted == Granted(EPOCH, 1, granted.token)
    assert granted.token
    driver.passes(0.25)
    driver(claim(B, 2))
    assert driver.sent == [(B, Held(EPOCH, 2, 750))]
    for no in (
        ReleaseKey(A, OTHER_EPOCH, TOPIC, b"key", granted.token),
        ReleaseKey(A, EPOCH, TOPIC, b"key", granted.token + 1),
        ReleaseKey(A, EPOCH, TOPIC, b"other", granted.token),
    ):
        driver(no)
        assert driver.broker.claims == 1
    driver(ReleaseKey(A, EPOCH, TOPIC, b"key", granted.token))
    assert driver.broker.claims == 0
    driver(claim(B, 3))
    assert driver.to(B, Granted)


@row((SERVING, ClaimKey))
def test_claims_end(driver: Driver) -> None:
    driver(claim(A, ttl=300))
    driver.passes(0.2)
    assert driver.broker.claims == 1
    driver.passes(0.1)
    assert driver.broker.claims == 0
    driver(claim(A, ttl=3000))
    driver(Bye(A, EPOCH))
    assert driver.broker.claims == 0


@row((SERVING, Tell))
def test_messages_are_passed_on_to_who_is_there(driver: Driver) -> None:
    driver(Tell(A, EPOCH, B, b"hello"))
    assert driver.sent == [(B, Told(EPOCH, A, b"hello"))]
    driver(Tell(A, EPOCH, C, b"hello"))
    assert driver.sent == []


@row((SERVING, Inquire))
def test_anybody_may_ask_who_is_there(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.publish(A, 1, 3)
    driver(claim(B))
    driver.now += 0.5
    driver.ping(B, 2, nonce=1)
    driver(Inquire(C, 77))
    ((route, report),) = driver.sent
    assert route == C
    assert isinstance(report, Report)
    assert report[:6] == (EPOCH, 77, 3, 1, 2500, 1)
    assert [(one.node, one.label, one.seq, one.silent) for one in report.rows] == [
        (A, "label", 0, 500),
        (B, "label", 2, 0),
    ]
    monkeypatch.setattr(module, "_ROWS", 1)
    driver(Inquire(C, 78))
    assert len(driver.to(C, Report)[0].rows) == 1


# -- Bounds, and the table -----------------------------------------------------------


def test_only_so_many_of_the_past_are_remembered(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    driver.publish(A, 1, 3)
    for number in range(100):
        node = b"%8d" % number
        driver.hello(node, epoch=1000 + number, seq=1)
        driver(Bye(node, EPOCH))
    assert len(driver.broker._past) == 10
    assert len(driver.broker._merged) == 10
    driver.publish(A, 4)  # who follows is known, however many have been there
    assert driver.to(B, Block)


def test_what_has_no_row_is_counted_and_changes_nothing(driver: Driver) -> None:
    for message in (Welcome(1, EPOCH, 0, 0), "nonsense", None):
        driver(message)
        assert driver.sent == []
    assert driver.broker.ignored == 3


def test_every_row_has_a_test() -> None:
    assert row.tested == row.all
    assert all(step.leads_to == (SERVING,) for step in BROKER_TABLE.values())
