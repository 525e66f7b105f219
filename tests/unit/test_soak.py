"""What the checker of the soak takes for a fault, and what for none."""

from __future__ import annotations

import time
from multiprocessing import get_context
from typing import Any

import pytest

from bench.soak_board import OPERATIONS, Board, Column
from bench.soak_process import Underway
from bench.soak_truth import Floor, Truth, Value, payload_of
from bench.soak_worker import WEIGHTS, Thread

KEY = 3


def truth(near_ttl: float = 0.0) -> Truth:
    """Five versions, of which the fourth delete met a failure and the fifth has not returned."""
    made = Truth(get_context("spawn"), 10, near_ttl)
    for version in (2, 3, 4):
        assert made.bump(KEY) == version
        made.acknowledge(KEY, version, clean=version < 4)
    made.bump(KEY)
    return made


def value(version: int, key: int = KEY, source: str = "computation", **other: Any) -> Value:
    return Value(key, version, source, "0.0", payload_of(key, version, 100))._replace(**other)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (value(5), None),
        (value(4), None),
        (value(3), "unsure"),
        (value(2), "stale"),
        (value(2, source="put"), "stale"),
        (value(3, source="put"), "late"),
        (value(6), "wrong"),
        (value(0), "wrong"),
        (value(4, key=4), "wrong"),
        (Value(4, 1, "computation", "0.0", payload_of(4, 1, 100)), "wrong"),
        (value(4, payload=payload_of(KEY, 3, 100)), "wrong"),
        (value(4, payload=payload_of(KEY, 4, 50) + bytes(50)), "wrong"),
        (None, "wrong"),
        (b"", "wrong"),
    ],
)
def test_an_answer_is_held_against_the_truth(answer: Any, kind: str | None) -> None:
    known = truth()
    known.put_failed(KEY, 3)
    fault = known.fault(KEY, answer, known.floor(KEY))
    assert (fault and fault.partition(":")[0]) == kind
    if fault and isinstance(answer, Value) and answer.key != KEY:
        assert "not of this key" in fault


def test_what_was_noted_before_the_read_counts() -> None:
    known = truth()
    before = known.floor(KEY)
    known.acknowledge(KEY, 5, clean=True)
    assert known.fault(KEY, value(4), before) is None
    assert known.fault(KEY, value(4), known.floor(KEY)) is not None


def test_a_near_tier_may_be_behind_for_its_ttl_and_no_longer() -> None:
    known = truth(near_ttl=1_000.0)
    floor = known.floor(KEY)
    assert known.fault(KEY, value(1), floor) is None
    later = floor._replace(noted=time.monotonic() + 1_001)
    assert known.fault(KEY, value(4), later) is None
    assert known.fault(KEY, value(1), later) is not None


def test_a_call_is_held_to_what_one_was_held_to_that_it_may_have_joined() -> None:
    known = truth()
    underway = Underway(known)
    with underway.calls([KEY]) as first:
        known.acknowledge(KEY, 5, clean=True)
        with underway.calls([KEY, 4]) as second:
            assert second[KEY] == first[KEY]
            assert second[4].returned == 0
    with underway.calls([KEY]) as third:
        assert third[KEY].returned == 5


def test_floors_are_lowered_one_by_one() -> None:
    assert Floor(5, 3, 2.0).lowered([Floor(4, 4, 3.0), Floor(6, 6, 1.0)]) == Floor(4, 3, 1.0)
    assert Floor(5, 3, 2.0).lowered([]) == Floor(5, 3, 2.0)


def test_every_operation_can_be_done_and_told() -> None:
    assert set(WEIGHTS) == set(OPERATIONS)
    assert all(callable(getattr(Thread, name)) for name in OPERATIONS)


def test_a_thread_is_seen_in_what_it_does() -> None:
    board = Board(get_context("spawn"), 2, 3)
    slot = board.slot(1, 2)
    assert slot.name == (1, 2)
    slot.begin(OPERATIONS.index("put"), 7)
    slot.count(Column.HITS, 5)
    assert [one.name for one in board.slots() if one[Column.BEGAN]] == [(1, 2)]
    slot.end()
    assert not any(one[Column.BEGAN] for one in board.slots())
    assert slot[Column.SLOWEST] > 0
    board.slot(0, 0).count(Column.HITS)
    assert board.total(Column.HITS) == 6
    assert board.total(Column.OPERATIONS) == 1
