"""What the protocol keeps, against models: owed events, the journal, the pending claims."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tiered.coherence.journal import Journal
from tiered.coherence.messages import ALL_TOPICS, Block, Event, Kind, packed, unpacked
from tiered.coherence.owed import BLOCK_BYTES, BLOCK_EVENTS, Owed, OwedEvents
from tiered.coherence.pending import PendingClaim, PendingTable
from tiered.coherence.receipts import Progress

TOPIC = b"a topic."


def events(numbers: Sequence[int]) -> bytes:
    return packed([Event(Kind.DELETE, TOPIC, b"%d" % number) for number in numbers])


def numbers_in(size: int, data: bytes) -> list[int]:
    return [int(event.name) for event in unpacked(size, data)]


# -- What is owed --------------------------------------------------------------------


class OwedMachine(RuleBasedStateMachine):
    """Against a list of serials, the name of each event being its serial."""

    @initialize(most=st.integers(1, 40))
    def begin(self, most: int) -> None:
        self.most = most
        self.owed = Owed(most)
        self.serial = 0
        self.left: list[int] = []
        self.flood: int | None = None
        self.now = 0.0

    @rule(size=st.integers(1, 20), urgent=st.booleans())
    def add(self, size: int, urgent: bool) -> None:
        self.now += 1
        numbers = range(self.serial + 1, self.serial + size + 1)
        self.serial += size
        block = OwedEvents(numbers[0], size, events(numbers), urgent, self.now)
        fits = len(self.left) + size <= self.most
        assert self.owed.add(block) is fits
        self.left += numbers
        if not fits:
            self._flooded()

    @rule(gap=st.integers(1, 5))
    def add_what_stands_for_others(self, gap: int) -> None:
        self.serial += gap
        number = self.serial + 1
        self.serial += 1
        self.owed.add(OwedEvents(number, 1, events([number]), False, self.now))
        self.owed.collapse()
        self._flooded()

    def _flooded(self) -> None:
        self.flood = self.serial
        self.left = [self.serial]

    @rule(back=st.integers(-3, 30))
    def accepted(self, back: int) -> None:
        serial = self.serial - back
        left = [number for number in self.left if number > serial]
        assert self.owed.accepted(serial) is (left != self.left)
        self.left = left

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "owed"):
            return
        blocks = list(self.owed)
        assert self.owed.size == sum(block.size for block in blocks) == len(self.left)
        assert self.owed.size <= self.most
        assert self.owed.first == (self.left[0] if self.left else None)
        assert (self.owed.since == math.inf) is (not self.left)
        serials = [serial for block in blocks for serial in range(block.first, block.last + 1)]
        assert serials == self.left
        held = [event for block in blocks for event in unpacked(block.size, block.events)]
        for serial, event in zip(self.left, held, strict=True):
            if serial == self.flood:
                assert event == Event(Kind.DISTRUST, ALL_TOPICS, b"")
            else:
                assert int(event.name) == serial


TestOwed = OwedMachine.TestCase
TestOwed.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_owed_events_are_joined_up_to_a_bound() -> None:
    owed = Owed(100_000)
    size = 300
    for first in range(1, 3001, size):
        numbers = range(first, first + size)
        owed.add(OwedEvents(first, size, events(numbers), False, float(first)))
    assert [block.size for block in owed] == [900, 900, 900, 300]
    assert all(block.size <= BLOCK_EVENTS for block in owed)
    owed.add(OwedEvents(3001, 1, events([3001]), True, 5.0))
    assert [block.urgent for block in owed] == [False, False, False, False, True]
    assert owed.since == 1.0
    huge = b"x" * BLOCK_BYTES
    owed.add(OwedEvents(3002, 1, huge, True, 6.0))
    owed.add(OwedEvents(3003, 1, huge, True, 7.0))
    assert [block.size for block in owed][-3:] == [1, 1, 1]


def test_an_urgent_event_is_urgent_whatever_replaces_it() -> None:
    owed = Owed(2)
    owed.add(OwedEvents(1, 1, events([1]), True, 5.0))
    owed.add(OwedEvents(2, 2, events([2, 3]), False, 6.0))
    (block,) = owed
    assert (block.first, block.size, block.urgent, block.since) == (3, 1, True, 5.0)
    assert owed.collapsed == 1


# -- The journal ---------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((b"node   a", b"node   b")), st.integers(1, 5), st.booleans()),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 40),
    st.integers(1, 1000),
    st.integers(1, 300),
    st.data(),
)
def test_the_journal_gives_what_it_has(
    sizes: list[tuple[bytes, int, bool]],
    most_events: int,
    most_bytes: int,
    part: int,
    data: st.DataObject,
) -> None:
    journal = Journal(most_events, most_bytes)
    seq, ends = 0, [0]
    serials = {b"node   a": 1, b"node   b": 1}
    for node, size, urgent in sizes:
        numbers = range(seq + 1, seq + size + 1)
        journal.add(Block(7, seq + 1, node, serials[node], size, events(numbers), urgent))
        serials[node] += size
        seq += size
        ends.append(seq)
        assert len(journal) <= max(most_events, size)
    assert journal.oldest is not None
    assert journal.oldest - 1 in ends
    assert len(journal) == seq - journal.oldest + 1
    after = data.draw(st.sampled_from([end for end in ends if end >= journal.oldest - 1]))
    given_blocks = journal.after(after, part)
    assert bool(given_blocks) is (after < seq)
    at, bytes_given = after, 0
    for block in given_blocks:
        assert bytes_given < part
        bytes_given += len(block.events)
        assert block.first == at + 1
        assert numbers_in(block.size, block.events) == list(range(at + 1, at + block.size + 1))
        at += block.size
        assert at in ends
    assert at == seq or bytes_given >= part
    for block, following in itertools.pairwise(given_blocks):
        assert (block.node, block.urgent) != (following.node, following.urgent)


def test_an_empty_journal_has_nothing() -> None:
    journal = Journal(10, 10)
    assert (journal.oldest, len(journal), journal.after(0, 100)) == (None, 0, [])


# -- The pending claims --------------------------------------------------------------

NODES = (b"node   a", b"node   b", b"node   c")
KEYS = tuple(b"key %d" % number for number in range(8))
MOST, MOST_OF_ONE, LONGEST = 5, 3, 10.0


class PendingMachine(RuleBasedStateMachine):
    """Against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table = PendingTable(MOST, MOST_OF_ONE, LONGEST)
        self.held: dict[bytes, PendingClaim] = {}
        self.tokens: set[int] = set()
        self.now = 100.0

    def _expired(self) -> None:
        self.held = {key: claim for key, claim in self.held.items() if claim.ends > self.now}

    @rule(key=st.sampled_from(KEYS), node=st.sampled_from(NODES), ttl=st.floats(0.1, 20.0))
    def claim(self, key: bytes, node: bytes, ttl: float) -> None:
        self._expired()
        claim = self.table.claim(key, node, ttl, self.now)
        held = self.held.get(key)
        if held is not None and held.node != node:
            assert claim == held
            return
        assert claim.node == node
        assert claim.ends == self.now + min(ttl, LONGEST)
        assert claim.token
        assert claim.token not in self.tokens
        self.tokens.add(claim.token)
        self.held.pop(key, None)
        of_node = sum(one.node == node for one in self.held.values())
        if len(self.held) < MOST and of_node < MOST_OF_ONE:
            self.held[key] = claim

    @rule(key=st.sampled_from(KEYS), token=st.integers(0, 30))
    def release(self, key: bytes, token: int) -> None:
        held = self.held.get(key)
        ours = held is not None and held.token == token
        assert self.table.release(key, token) is ours
        if ours:
            del self.held[key]

    @rule(node=st.sampled_from(NODES))
    def leave(self, node: bytes) -> None:
        self.table.leave(node)
        self.held = {key: claim for key, claim in self.held.items() if claim.node != node}

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._expired()
        self.table.expire(self.now)

    @rule(key=st.sampled_from(KEYS), node=st.sampled_from(NODES))
    def renew_often(self, key: bytes, node: bytes) -> None:
        for _ in range(100):
            self.claim(key, node, 5.0)

    @invariant()
    def same(self) -> None:
        assert len(self.table) == len(self.held)
        # Whatever is claimed and released, only so much is kept of what is over.
        assert len(self.table._ends) <= 2 * MOST + 64 + 1
        assert set(self.table._of) == {claim.node for claim in self.held.values()}


TestPending = PendingMachine.TestCase
TestPending.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


# -- Waiting for what was published --------------------------------------------------


@pytest.mark.parametrize("timeout", [1e12, math.inf])
def test_who_waits_for_ever_is_woken(timeout: float) -> None:
    progress = Progress(threading.RLock())
    told = threading.Timer(0.05, lambda: progress.advance(accepted=1, settled=1))
    told.start()
    assert progress.await_settled(1, timeout)
    assert progress.await_accepted(1, timeout)
    told.join()


def test_a_label_is_text() -> None:
    pytest.importorskip("zmq")
    from tiered.coherence import ZmqBus

    with pytest.raises(TypeError, match=r"^label must be a str, not 7"):
        ZmqBus(["ipc://@never"], label=7)  # type: ignore[arg-type]
