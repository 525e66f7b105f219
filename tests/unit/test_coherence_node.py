"""The protocol of a node, row by row of its table."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytest

from tests.cluster.rows import Rows
from tiered.coherence import node as module
from tiered.coherence.effects import (
    Accepted,
    Answered,
    Apply,
    Distrust,
    Extend,
    Found,
    Gone,
    NodeEffect,
    Overdue,
    Passed,
    Reported,
    Seek,
    Send,
    SettledUpTo,
    Time,
)
from tiered.coherence.messages import (
    ALL_TOPICS,
    Block,
    Bye,
    Event,
    Granted,
    Held,
    Hello,
    Kind,
    Leave,
    Lost,
    Ping,
    Pong,
    Publish,
    Replay,
    Report,
    Settled,
    Stranger,
    Told,
    Welcome,
    packed,
    unpacked,
)
from tiered.coherence.node import MARGIN, NODE_TABLE, NodeProtocol
from tiered.coherence.state import Phase, diagram

DETACHED, JOINING = Phase.DETACHED, Phase.JOINING
FOLLOWING, CATCHING_UP = Phase.FOLLOWING, Phase.CATCHING_UP
IN_STEP = (FOLLOWING, CATCHING_UP)

ME, OTHER = b"this one", b"another "
EPOCH, NEXT_EPOCH = 7, 8
D = 1.0

row = Rows(module, "NODE_TABLE")
T = TypeVar("T")


def events(size: int) -> bytes:
    return packed([Event(Kind.DELETE, b"topic___", b"%d" % number) for number in range(size)])


FLOOD = packed([Event(Kind.DISTRUST, ALL_TOPICS, b"")])


class Driver:
    """A node, its clock, and what it has wanted done last."""

    def __init__(self, most_owed: int = 100) -> None:
        self.node = NodeProtocol(ME, "me", detection=D, nonce=1000, most_owed=most_owed)
        self.now = 50.0
        self.effects: list[NodeEffect] = []

    @property
    def phase(self) -> Phase:
        return self.node.phase

    def __call__(self, message: Any, after: float = 0.0) -> None:
        """*message* comes, *after* seconds from now."""
        self.now += after
        before = self.phase
        step = NODE_TABLE.get((before, type(message)))
        self.effects = list(self.node.receive(message, self.now))
        assert step is None or self.phase in step.leads_to

    def publish(self, first: int, size: int = 1, *, urgent: bool = False) -> None:
        data = events(size)
        self.effects = list(self.node.publish(first, size, data, self.now, urgent=urgent))

    def all(self, kind: type[T]) -> list[T]:
        """Those of the last effects, and of the messages sent, that are of *kind*."""
        sent = [effect.message for effect in self.effects if isinstance(effect, Send)]
        return [one for one in (*self.effects, *sent) if isinstance(one, kind)]

    def the(self, kind: type[T]) -> T:
        (one,) = self.all(kind)
        return one

    def join(self, epoch: int = EPOCH, seq: int = 10, serial: int = 0) -> None:
        """Find a broker and follow it."""
        self(Found())
        self(Welcome(self.the(Hello).nonce, epoch, seq, serial))

    def block(self, first: int, size: int = 1, *, after: float = 0.0, **fields: Any) -> None:
        """Events of the broker come, of another node if nothing else is said."""
        block = Block(EPOCH, first, OTHER, 1, size, events(size), False)
        self(block._replace(**fields), after)


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def following(driver: Driver) -> Driver:
    """It follows, and has a lease until 51."""
    driver.join()
    driver(Pong(EPOCH, driver.the(Ping).nonce, 10))
    assert driver.phase is FOLLOWING
    assert driver.the(Extend) == Extend(EPOCH, 51.0)
    return driver


@pytest.fixture
def behind(following: Driver) -> Driver:
    """Events 11 and 12 are missing."""
    following.block(13)
    assert following.phase is CATCHING_UP
    return following


@pytest.fixture(params=IN_STEP)
def in_step(request: pytest.FixtureRequest) -> Driver:
    """In either phase."""
    name = {FOLLOWING: "following", CATCHING_UP: "behind"}[request.param]
    driver: Driver = request.getfixturevalue(name)
    return driver


def in_both(kind: type) -> list[tuple[Phase, type]]:
    return [(phase, kind) for phase in IN_STEP]


# -- Joining -------------------------------------------------------------------------


@row((DETACHED, Found))
def test_it_says_hello_to_whom_it_finds(driver: Driver) -> None:
    driver.publish(1, 3)
    assert driver.effects == []
    driver(Found())
    assert driver.phase is JOINING
    hello = driver.the(Hello)
    assert (hello.node, hello.epoch, hello.seq, hello.serial) == (ME, 0, 0, 1)


@row((JOINING, Found))
def test_it_says_hello_anew_to_another_one(driver: Driver) -> None:
    driver(Found())
    first = driver.the(Hello).nonce
    driver(Found())
    assert driver.phase is JOINING
    second = driver.the(Hello).nonce
    assert second > first
    driver(Welcome(first, EPOCH, 10, 0))
    assert driver.phase is JOINING  # that was the answer of the one before
    driver(Welcome(second, EPOCH, 10, 0))
    assert driver.phase is FOLLOWING


@row((JOINING, Welcome))
def test_it_distrusts_when_the_epoch_is_new(driver: Driver) -> None:
    driver.join()
    kinds = [type(effect) for effect in driver.effects]
    assert kinds.index(Extend) < kinds.index(Distrust)
    assert driver.the(Extend) == Extend(EPOCH, -math.inf)
    assert (driver.node.epoch, driver.node.seq, driver.node.distrusts) == (EPOCH, 10, 1)
    assert driver.the(Ping).nonce


@row((JOINING, Welcome))
def test_it_trusts_when_the_epoch_is_the_same_and_nothing_is_missing(following: Driver) -> None:
    following(Gone())
    following.join()
    assert following.phase is FOLLOWING
    assert not following.all(Distrust)
    assert not following.all(Extend)


@row((JOINING, Welcome))
def test_it_catches_up_when_the_epoch_is_the_same_and_events_are_missing(
    following: Driver,
) -> None:
    following(Gone())
    following.join(seq=12)
    assert following.phase is CATCHING_UP
    assert not following.all(Distrust)
    assert following.the(Extend) == Extend(EPOCH, -math.inf)
    assert following.the(Replay).after == 10


@row((JOINING, Welcome))
def test_it_distrusts_when_the_epoch_has_lost_events_that_it_has_applied(
    following: Driver,
) -> None:
    following(Gone())
    following.join(seq=9)
    assert following.all(Distrust)
    assert following.node.seq == 9


@row((JOINING, Welcome))
def test_it_sends_what_is_owed_and_not_what_was_accepted(driver: Driver) -> None:
    driver.publish(1, 2)
    driver.publish(3, 2, urgent=True)
    driver.join(serial=2)
    assert driver.the(Accepted).serial == 2
    (publish,) = driver.all(Publish)
    assert (publish.epoch, publish.first, publish.size, publish.urgent) == (EPOCH, 3, 2, True)


@row((JOINING, Welcome))
def test_it_says_hello_again_if_all_that_is_owed_was_replaced_since(driver: Driver) -> None:
    driver = Driver(most_owed=3)
    driver.publish(1, 3)
    driver(Found())
    hello = driver.the(Hello)
    driver.publish(4)
    assert driver.effects == []
    driver(Welcome(hello.nonce, EPOCH, 10, 0))
    assert driver.phase is JOINING
    assert driver.the(Hello).serial == 4
    assert not driver.all(Publish)
    driver(Welcome(driver.the(Hello).nonce, EPOCH, 10, 3))
    assert driver.phase is FOLLOWING
    assert driver.the(Publish).events == FLOOD


@row((JOINING, Stranger))
def test_it_says_hello_again_to_who_does_not_know_it_but_not_at_once(driver: Driver) -> None:
    driver(Found())
    for _ in range(3):
        driver(Stranger(EPOCH))
        assert driver.effects == []
    driver(Stranger(EPOCH), after=D / 4)
    assert driver.phase is JOINING
    assert driver.all(Hello)


@row((JOINING, Gone))
def test_it_looks_for_another_if_the_way_is_gone_before_the_welcome(driver: Driver) -> None:
    driver(Found())
    driver(Gone())
    assert (driver.phase, driver.effects) == (DETACHED, [Seek()])


@row((JOINING, Leave))
def test_it_looks_for_another_if_the_broker_leaves_before_the_welcome(driver: Driver) -> None:
    driver.join()
    driver(Found())
    driver(Leave(NEXT_EPOCH))
    assert driver.phase is JOINING
    driver(Leave(EPOCH))
    assert (driver.phase, driver.effects) == (DETACHED, [Seek()])


@row((JOINING, Time))
def test_it_waits_for_a_welcome_for_a_while_only(driver: Driver) -> None:
    driver(Found())
    driver(Time(), after=0.5 * D)
    assert (driver.phase, driver.effects) == (JOINING, [])
    driver(Time(), after=0.1 * D)
    assert (driver.phase, driver.effects) == (DETACHED, [Seek()])


def test_joining_does_not_end_the_lease(following: Driver) -> None:
    following(Gone())
    assert not following.all(Extend)
    following(Found())
    assert not following.all(Extend)


# -- Following -----------------------------------------------------------------------


@row((FOLLOWING, Block))
def test_it_applies_what_comes_in_order(following: Driver) -> None:
    following.block(11, 2)
    assert following.the(Apply).block.first == 11
    assert following.node.seq == 12
    assert not following.all(Ping)
    following.block(13, urgent=True)
    assert following.all(Apply)
    assert following.effects[-1] == Send(Ping(ME, EPOCH, 0, 13))


@row((FOLLOWING, Block))
def test_it_skips_what_it_has_applied_and_what_is_of_another_epoch(following: Driver) -> None:
    for skipped in (9, 5):
        following.block(skipped, 2)
        assert following.effects == []
    following.block(11, epoch=NEXT_EPOCH)
    assert following.effects == []
    assert following.node.seq == 10


@row((FOLLOWING, Block))
def test_it_applies_of_what_overlaps_the_part_that_is_new(following: Driver) -> None:
    following.block(9, 4)
    block = following.the(Apply).block
    assert (block.first, block.size, block.serial) == (11, 2, 3)
    assert [event.name for event in unpacked(2, block.events)] == [b"2", b"3"]
    assert following.node.seq == 12


@row((FOLLOWING, Block))
def test_it_applies_all_of_what_overlaps_and_makes_no_sense(following: Driver) -> None:
    following.block(9, 4, events=b"nonsense")
    assert following.the(Apply).block.events == b"nonsense"


@row((FOLLOWING, Block), (CATCHING_UP, Block))
def test_it_takes_its_own_for_an_acceptance_and_skips_it(in_step: Driver) -> None:
    in_step.publish(1, 2)
    in_step.block(11 if in_step.phase is FOLLOWING else 14, 2, node=ME, serial=1)
    assert in_step.the(Accepted).serial == 2
    assert not in_step.all(Apply)
    assert not in_step.node.owed.size


@row((FOLLOWING, Block))
def test_a_gap_ends_the_lease_and_is_asked_for(following: Driver) -> None:
    following.block(13)
    assert following.phase is CATCHING_UP
    assert following.effects == [Extend(EPOCH, -math.inf), Send(Replay(ME, EPOCH, 10))]
    assert (following.node.gaps, following.node.target) == (1, 13)


@row((FOLLOWING, Pong))
def test_a_pong_extends_the_lease_from_when_its_ping_was_sent(following: Driver) -> None:
    following(Time(), after=0.25)
    ping = following.the(Ping)
    assert (ping.epoch, ping.seq) == (EPOCH, 10)
    following(Pong(EPOCH, ping.nonce, 10), after=0.4)
    assert following.the(Extend) == Extend(EPOCH, 50.25 + D)


@row((FOLLOWING, Pong))
def test_pongs_that_do_not_answer_a_ping_of_this_epoch_extend_nothing(following: Driver) -> None:
    following(Time(), after=0.25)
    nonce = following.the(Ping).nonce
    following(Pong(EPOCH, nonce + 1, 10))
    assert following.effects == []
    following(Pong(NEXT_EPOCH, nonce, 10))
    assert following.effects == []
    following(Pong(EPOCH, nonce, 10))
    assert following.effects == []  # it had been answered, whoever did


@row((FOLLOWING, Pong))
def test_a_pong_extends_once(following: Driver) -> None:
    following(Time(), after=0.25)
    pong = Pong(EPOCH, following.the(Ping).nonce, 10)
    following(pong)
    assert following.all(Extend)
    following(pong)
    assert following.effects == []


@row((FOLLOWING, Pong))
def test_a_pong_that_knows_of_more_is_a_gap(following: Driver) -> None:
    following(Time(), after=0.25)
    following(Pong(EPOCH, following.the(Ping).nonce, 11))
    assert following.phase is CATCHING_UP
    assert following.the(Extend) == Extend(EPOCH, -math.inf)
    assert following.the(Replay).after == 10


@row((CATCHING_UP, Pong))
def test_a_lease_that_waits_for_missing_events_counts_from_the_newest_ping(
    behind: Driver,
) -> None:
    for after in (0.25, 0.25):
        behind(Time(), after=after)
        behind(Pong(EPOCH, behind.the(Ping).nonce, 13), after=0.01)
    behind.block(11, 3)
    assert behind.phase is FOLLOWING
    assert behind.the(Extend) == Extend(EPOCH, 50.51 + D)


@row((CATCHING_UP, Block))
def test_missing_events_bring_it_back_into_step(behind: Driver) -> None:
    behind.block(11)
    assert behind.phase is CATCHING_UP
    behind.block(12, 2)
    assert behind.phase is FOLLOWING
    assert behind.node.replays == 1
    assert behind.node.seq == 13


@row((CATCHING_UP, Block))
def test_it_does_not_ask_again_while_a_replay_comes_in(behind: Driver) -> None:
    behind.block(15, after=0.1)
    assert behind.effects == []
    behind.block(11, after=0.1)
    behind.block(15, after=0.1)
    assert not behind.all(Replay)
    behind.block(15, after=0.1)
    assert behind.the(Replay).after == 11


@row((CATCHING_UP, Pong))
def test_it_asks_for_the_next_part_of_a_replay_at_once(behind: Driver) -> None:
    behind.block(11)
    behind(Pong(EPOCH, 0, 13))
    assert behind.the(Replay).after == 11
    behind(Pong(EPOCH, 0, 13))
    assert behind.effects == []  # it brought nothing new
    behind.block(12, 2)
    behind(Pong(EPOCH, 0, 13))
    assert behind.phase is FOLLOWING


@row((FOLLOWING, Pong))
def test_the_end_of_an_old_replay_that_knows_of_more_is_a_gap(behind: Driver) -> None:
    behind.block(11, 3)
    assert behind.phase is FOLLOWING
    behind(Pong(EPOCH, 0, 15))
    assert behind.effects == [Extend(EPOCH, -math.inf), Send(Replay(ME, EPOCH, 13))]


@row(*in_both(Lost))
def test_what_is_lost_is_distrusted_and_what_of_its_own_was_accepted_asked_for(
    in_step: Driver,
) -> None:
    in_step.publish(1)
    in_step(Lost(EPOCH, 30))
    assert in_step.phase is JOINING
    assert [type(effect) for effect in in_step.effects] == [Extend, Distrust, Send]
    assert in_step.the(Extend).until == -math.inf
    hello = in_step.the(Hello)
    assert (hello.epoch, hello.seq, hello.serial) == (EPOCH, 30, 1)
    in_step(Welcome(hello.nonce, EPOCH, 30, 1))
    assert in_step.phase is FOLLOWING
    assert in_step.all(Accepted)
    assert not in_step.all(Distrust)


@row(*in_both(Lost))
def test_what_others_have_lost_is_not(in_step: Driver) -> None:
    phase = in_step.phase
    for lost in (Lost(NEXT_EPOCH, 30), Lost(EPOCH, 10)):
        in_step(lost)
        assert (in_step.phase, in_step.effects) == (phase, [])


@row(*in_both(Stranger))
def test_who_is_not_known_any_more_says_hello(in_step: Driver) -> None:
    in_step(Stranger(EPOCH))
    assert in_step.phase is JOINING
    assert in_step.the(Hello).seq == 10
    assert not in_step.all(Extend)


@row(*in_both(Leave))
def test_it_looks_for_another_when_its_broker_leaves(in_step: Driver) -> None:
    phase = in_step.phase
    in_step(Leave(NEXT_EPOCH))
    assert (in_step.phase, in_step.effects) == (phase, [])
    in_step(Leave(EPOCH))
    assert (in_step.phase, in_step.effects) == (DETACHED, [Seek()])


@row(*in_both(Gone))
def test_it_looks_for_another_when_the_way_is_gone(in_step: Driver) -> None:
    in_step(Gone())
    assert (in_step.phase, in_step.effects) == (DETACHED, [Seek()])


@row(*in_both(Found))
def test_it_says_hello_when_it_is_shown_another_way(in_step: Driver) -> None:
    in_step(Found())
    assert in_step.phase is JOINING
    assert in_step.all(Hello)


# -- Time ----------------------------------------------------------------------------


@row(*in_both(Time))
def test_it_pings_once_in_a_beat_and_gives_up_on_who_is_silent(in_step: Driver) -> None:
    pings = 0
    for _ in range(4):
        in_step(Time(), after=in_step.node.wakes)
        pings += len(in_step.all(Ping))
    assert pings == 2
    in_step(Time(), after=0.1)
    assert (in_step.phase, in_step.effects) == (DETACHED, [Seek()])


@row((CATCHING_UP, Time))
def test_it_asks_again_for_a_replay_that_does_not_come(behind: Driver) -> None:
    behind(Time(), after=0.1)
    assert not behind.all(Replay)
    behind(Time(), after=0.1)
    assert behind.the(Replay).after == 10


@row((FOLLOWING, Time))
def test_it_sends_again_what_is_not_accepted(following: Driver) -> None:
    following.publish(1, 2)
    assert following.the(Publish).first == 1
    following(Time(), after=0.1)
    following.publish(3)
    assert following.the(Publish).first == 3
    following(Time(), after=0.1)
    assert not following.all(Publish)
    following(Time(), after=0.1)
    publish = following.the(Publish)
    assert (publish.first, publish.size) == (1, 3)
    following.block(11, 3, node=ME)
    following(Time(), after=0.5)
    assert not following.all(Publish)


@row((DETACHED, Time), (JOINING, Time), *in_both(Time))
@pytest.mark.parametrize("phase", [DETACHED, JOINING, FOLLOWING, CATCHING_UP])
def test_it_warns_once_when_its_events_are_not_accepted_in_time(phase: Phase) -> None:
    driver = Driver()
    if phase is JOINING:
        driver(Found())
    elif phase is not DETACHED:
        driver.join()
        if phase is CATCHING_UP:
            driver.block(13)
    driver.publish(1)
    driver(Time(), after=0.49 * D)
    assert not driver.all(Overdue)
    driver.publish(2)
    driver(Time(), after=0.01 * D)
    assert driver.all(Overdue) == [Overdue()]
    driver(Time(), after=2 * D)
    assert not driver.all(Overdue)  # of the second one, that was said as well
    driver.publish(3)
    driver(Time(), after=D / 2)
    assert driver.all(Overdue)


def test_who_was_accepted_in_time_is_not_warned_of(following: Driver) -> None:
    following.publish(1)
    following.block(11, node=ME)
    following.publish(2)
    following(Time(), after=0.3)
    following.publish(3)
    following.block(12, node=ME, serial=2)
    following(Pong(EPOCH, 0, 12))
    following(Time(), after=0.3)
    assert following.all(Overdue)  # the third waits since 50 or 50.3, as far as is known


# -- Publishing ----------------------------------------------------------------------


def test_when_all_that_is_owed_is_replaced_the_new_serial_is_told(driver: Driver) -> None:
    driver = Driver(most_owed=3)
    driver.join()
    driver.publish(1, 3)
    driver.publish(4, 2)
    assert driver.phase is JOINING
    assert driver.the(Hello).serial == 5
    driver(Welcome(driver.the(Hello).nonce, EPOCH, 10, 4))
    publish = driver.the(Publish)
    assert (publish.first, publish.size, publish.events) == (5, 1, FLOOD)


def test_events_that_stand_for_others_replace_all(following: Driver) -> None:
    following.publish(1, urgent=True)
    following.publish(9)
    assert following.phase is JOINING
    following(Welcome(following.the(Hello).nonce, EPOCH, 10, 8))
    publish = following.the(Publish)
    assert (publish.first, publish.events, publish.urgent) == (9, FLOOD, True)


def test_it_goes_and_serves_nothing_any_more(following: Driver) -> None:
    effects = following.node.leave()
    assert list(effects) == [Extend(EPOCH, -math.inf), Send(Bye(ME, EPOCH))]
    assert following.phase is DETACHED


def test_who_never_followed_goes_without_a_word(driver: Driver) -> None:
    assert list(driver.node.leave()) == []


def test_only_so_many_pings_are_remembered(following: Driver) -> None:
    pings = []
    for _ in range(200):
        following(Time(), after=0.25)
        pings += following.all(Ping)
        following.block(following.node.seq + 1)
    assert len(pings) == 200
    following(Pong(EPOCH, pings[0].nonce, 10))
    assert following.effects == []
    following(Pong(EPOCH, pings[-1].nonce, 10))
    assert following.all(Extend)


# -- Settled -------------------------------------------------------------------------


@row(*in_both(Settled))
def test_settled_is_accepted_too_and_said_once(in_step: Driver) -> None:
    in_step.publish(1, 2, urgent=True)
    in_step(Settled(NEXT_EPOCH, 2))
    assert in_step.effects == []
    in_step(Settled(EPOCH, 2))
    assert in_step.effects == [Accepted(2), SettledUpTo(2)]
    in_step(Settled(EPOCH, 2))
    assert in_step.effects == []
    in_step(Settled(EPOCH, 1))
    assert in_step.effects == []


@row((FOLLOWING, Time))
def test_what_the_last_broker_accepted_is_settled_when_its_word_counts_no_more(
    following: Driver,
) -> None:
    following.publish(1, 2, urgent=True)
    following.block(11, 2, node=ME)
    following.publish(3, urgent=True)  # this one it did not accept, as far as is known
    following(Gone())
    following.join(NEXT_EPOCH, 0, serial=2)
    until = following.now + MARGIN * D
    settled = []
    while following.now < until + 0.2:
        following(Time(), after=0.1)
        settled += [(following.now >= until, one.serial) for one in following.all(SettledUpTo)]
        if following.all(Ping):
            following(Pong(NEXT_EPOCH, following.the(Ping).nonce, 0))
    assert settled == [(True, 2)]


# -- For others ----------------------------------------------------------------------


@row(*in_both(Granted), *in_both(Held))
def test_answers_to_claims(in_step: Driver) -> None:
    in_step(Granted(EPOCH, 5, 77))
    assert in_step.effects == [Answered(5, 77, 0.0)]
    in_step(Held(EPOCH, 5, 1500))
    assert in_step.effects == [Answered(5, 0, 1.5)]
    for late in (Granted(NEXT_EPOCH, 5, 77), Held(NEXT_EPOCH, 5, 1500)):
        in_step(late)
        assert in_step.effects == []


@row(*in_both(Told), *in_both(Report))
def test_messages_of_others_and_reports_are_passed_on(in_step: Driver) -> None:
    in_step(Told(EPOCH, OTHER, b"hello"))
    assert in_step.effects == [Passed(OTHER, b"hello")]
    report = Report(EPOCH, 1, 2, 3, 4, 5, ())
    in_step(report)
    assert in_step.effects == [Reported(report)]


# -- The table -----------------------------------------------------------------------


@pytest.mark.parametrize("phase", [DETACHED, JOINING, FOLLOWING, CATCHING_UP])
def test_what_has_no_row_is_counted_and_changes_nothing(phase: Phase) -> None:
    driver = Driver()
    driver.node.phase = phase
    unknown: list[Any] = [Hello(OTHER, 1, 0, 0, 1, ""), Bye(OTHER, EPOCH), "nonsense", None]
    if phase in (DETACHED, JOINING):
        unknown += [Pong(EPOCH, 0, 1), Settled(EPOCH, 1), Lost(EPOCH, 5)]
    for message in unknown:
        driver(message)
        assert (driver.phase, driver.effects) == (phase, [])
    assert driver.node.ignored == len(unknown)


def test_every_row_has_a_test() -> None:
    assert row.tested == row.all


def test_the_diagram_has_every_arrow() -> None:
    drawn = diagram(NODE_TABLE)
    for (phase, kind), step in NODE_TABLE.items():
        for target in step.leads_to:
            arrow = f"    {phase.value} --> {target.value} : ".replace("catching up", "catching_up")
            assert (arrow in drawn) is (target is not phase or arrow in drawn)
            if target is not phase:
                (line,) = [line for line in drawn.splitlines() if line.startswith(arrow)]
                assert f"{kind.__name__}: {step.meaning}" in line
