"""The record in the shared tier: what a node concludes from it, and when it writes another."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.coherence.witness import Record, Verdict, Witness

D = 1.0
OURS, THEIRS, NEXT = 7, 8, 9
FRESH = 1000


class Driver:
    """A witness that follows ``OURS``, with a lease that lasts, and its clock."""

    def __init__(self, *, sole: bool = False, spread: float = 1.0) -> None:
        self.now = 50.0
        self._fresh = FRESH
        self.witness = Witness(detection=D, sole=sole, fresh=self._another, spread=lambda: spread)
        self.extend(OURS)

    def _another(self) -> int:
        self._fresh += 1
        return self._fresh

    def extend(self, epoch: int, until: float = math.inf) -> None:
        self.witness.extend(epoch, until, self.now)

    def look(self, record: Record | None, after: float = 0.0, takes: float = 0.0) -> Verdict:
        """A look that begins *after* seconds from now."""
        began = self.now + after
        self.now = began + takes
        return self.witness.looked(record, began, self.now)

    def follow(self) -> None:
        """See ours in force for so long that all is sure."""
        for _ in range(8):
            self.look(Record(OURS, 1), after=0.25)
        assert self.witness.sure == self.now


@pytest.fixture
def driver() -> Driver:
    return Driver()


# -- The record ----------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_records_come_back(epoch: int, doubt: int) -> None:
    assert Record.read(str(Record(epoch, doubt))) == Record(epoch, doubt)


@given(st.none() | st.integers() | st.text() | st.binary() | st.lists(st.text()))
def test_whatever_else_lies_there_names_no_epoch(value: Any) -> None:
    assert Record.read(value).epoch == 0


@pytest.mark.parametrize(
    "value", ["", ".", "7.", ".7", "7", "x.y", "7.8.9", "-7.8", "7.-8", "7_0.1"]
)
def test_nor_does_what_nearly_is_a_record(value: str) -> None:
    assert Record.read(value) == (0, 0)


# -- Until when ----------------------------------------------------------------------


def test_copies_are_served_while_both_leases_last(driver: Driver) -> None:
    assert driver.witness.until == -math.inf
    driver.look(Record(OURS, 1), takes=0.5)
    assert driver.witness.until == 50.0 + D
    driver.extend(OURS, 50.75)
    assert driver.witness.until == 50.75
    driver.extend(OURS, -math.inf)
    assert driver.witness.until == -math.inf


def test_another_epoch_in_force_ends_it(driver: Driver) -> None:
    driver.look(Record(OURS, 1))
    driver.look(Record(THEIRS, 2))
    assert driver.witness.until == -math.inf


def test_a_look_that_fails_leaves_what_the_last_one_gave(driver: Driver) -> None:
    driver.look(Record(OURS, 1))
    assert driver.look(None, after=0.25) == (False, None)
    assert driver.witness.until == 50.0 + D


def test_whoever_follows_the_epoch_in_force_may_serve_at_once(driver: Driver) -> None:
    driver.look(Record(THEIRS, 1))
    driver.extend(THEIRS)
    assert driver.witness.until == 50.0 + D


def test_nobody_serves_without_an_epoch() -> None:
    witness = Witness(detection=D, sole=False)
    assert witness.looked(Record(0, 1), 50.0, 50.0) == (True, None)
    assert witness.until == -math.inf
    assert witness.sure == -math.inf


def test_where_there_is_one_broker_only_its_word_counts() -> None:
    driver = Driver(sole=True)
    driver.extend(OURS, 60.0)
    assert driver.witness.until == 60.0
    assert driver.look(Record(THEIRS, 1)).distrust
    assert driver.look(None, after=5.0) == (False, None)
    # Its epoch is written for others to find, should there be any; the doubt stays what it is.
    assert driver.look(Record(THEIRS, 2)) == (True, Record(OURS, 2))
    assert driver.witness.until == 60.0
    assert driver.witness.sure == math.inf


# -- Distrust ------------------------------------------------------------------------


def test_every_other_record_is_distrusted(driver: Driver) -> None:
    for record in (Record(OURS, 1), Record(OURS, 2), Record(THEIRS, 2), Record(OURS, 1)):
        assert driver.look(record).distrust
        assert not driver.look(record).distrust
    driver.look(None)
    assert not driver.look(Record(OURS, 1)).distrust


def test_our_own_writing_is_distrusted_too(driver: Driver) -> None:
    """It may have replaced another one that we have not seen."""
    driver.look(Record(OURS, 1))
    driver.witness.overdue(driver.now)
    written = driver.look(Record(OURS, 1)).write
    assert driver.look(written).distrust


# -- Which epoch is in force ---------------------------------------------------------


def test_who_follows_another_epoch_writes_it_after_a_pause(driver: Driver) -> None:
    assert driver.look(Record(THEIRS, 1)).write is None
    assert driver.look(Record(THEIRS, 1), after=0.24).write is None
    assert driver.look(Record(THEIRS, 1), after=0.01).write == Record(OURS, FRESH + 1)
    assert driver.witness.due == -math.inf
    driver.look(Record(OURS, FRESH + 1))
    assert driver.witness.until == driver.now + D


def test_the_pauses_differ(driver: Driver) -> None:
    assert Driver(spread=0.0).look(Record(THEIRS, 1)).write


def test_who_has_no_broker_writes_no_epoch(driver: Driver) -> None:
    driver.extend(OURS, 51.0)
    assert driver.look(Record(THEIRS, 1), after=1.0).write is None


def test_a_writing_that_failed_is_repeated_but_not_in_a_tight_loop(driver: Driver) -> None:
    assert driver.look(Record(THEIRS, 1), after=0.25).write
    assert driver.look(Record(THEIRS, 1), after=0.01).write is None
    writings = 0
    while driver.now < 52.0:
        due = max(driver.now, driver.witness.due)
        writings += driver.look(Record(THEIRS, 1), after=due - driver.now + 0.001).write is not None
    assert 2 <= writings <= 8


def test_two_sides_do_not_fight_for_ever(driver: Driver) -> None:
    pauses, doubt = [], 1
    for _ in range(9):
        driver.look(Record(OURS, doubt))
        doubt += 1
        overwritten = driver.now
        written = driver.look(Record(THEIRS, doubt)).write
        while written is None:
            written = driver.look(Record(THEIRS, doubt), after=1 / 64).write
        pauses.append(driver.now - overwritten)
        doubt = written.doubt
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 16, 16, 16], abs=0.02)


def test_a_writing_that_nobody_saw_counts_as_overwritten(driver: Driver) -> None:
    assert driver.look(Record(THEIRS, 1), after=0.25).write
    driver.look(Record(THEIRS, 2))
    assert driver.look(Record(THEIRS, 2), after=0.45).write is None
    assert driver.look(Record(THEIRS, 2), after=0.05).write


def test_after_a_long_peace_the_pause_is_short_again(driver: Driver) -> None:
    for doubt in range(4):
        driver.look(Record(OURS, 2 * doubt))
        driver.look(Record(THEIRS, 2 * doubt + 1))
    driver.look(Record(OURS, 99))
    driver.look(Record(OURS, 99), after=16.0)
    driver.look(Record(THEIRS, 100))
    assert driver.look(Record(THEIRS, 100), after=0.5).write


# -- Doubt ---------------------------------------------------------------------------


def test_what_is_overdue_is_doubted_whatever_epoch_is_in_force(driver: Driver) -> None:
    for record in (Record(OURS, 1), Record(THEIRS, 1), Record(0, 1)):
        driver = Driver()
        driver.look(record)
        driver.witness.overdue(driver.now)
        assert driver.witness.due == -math.inf
        assert driver.look(record).write == Record(record.epoch, FRESH + 1)
        assert driver.look(Record(record.epoch, FRESH + 1), after=0.01).write is None


def test_a_look_that_began_before_is_not_what_is_replaced(driver: Driver) -> None:
    """What that look has found may have been replaced before the event."""
    driver.look(Record(OURS, 1))
    driver.witness.overdue(driver.now + 0.1)
    driver.now += 0.2
    assert driver.witness.looked(Record(OURS, 1), 50.0, driver.now).write is None
    assert driver.witness.due == -math.inf
    assert driver.look(Record(OURS, 1)).write


def test_a_doubt_that_failed_is_written_again(driver: Driver) -> None:
    driver.witness.overdue(driver.now)
    assert driver.look(Record(OURS, 1)).write
    assert driver.look(Record(OURS, 1), after=0.01).write is None
    assert driver.witness.due == pytest.approx(50.0 + D / 8)
    assert driver.look(None, after=0.15).write is None
    assert driver.look(Record(OURS, 1), after=0.15).write
    assert driver.look(Record(OURS, 2), after=0.01).write is None  # somebody else's will do
    assert driver.look(Record(OURS, 2), after=0.15).write is None


def test_what_became_overdue_since_is_another_doubt(driver: Driver) -> None:
    driver.witness.overdue(driver.now)
    written = driver.look(Record(OURS, 1)).write
    driver.witness.overdue(driver.now + 0.01)
    assert driver.look(written, after=0.02).write == Record(OURS, FRESH + 2)


def test_what_another_epoch_accepted_is_doubted(driver: Driver) -> None:
    driver = Driver()
    driver.extend(OURS, 50.0)  # so that it does not write its epoch
    driver.look(Record(THEIRS, 1))
    driver.witness.accepted(driver.now + 0.1)
    assert driver.look(Record(THEIRS, 1), after=0.05).write is None
    assert driver.look(Record(THEIRS, 1), after=0.06).write == Record(THEIRS, FRESH + 1)


def test_what_the_epoch_in_force_accepted_is_not_doubted(driver: Driver) -> None:
    driver.witness.accepted(driver.now)
    assert driver.look(Record(OURS, 1)).write is None
    assert driver.look(Record(THEIRS, 2), after=0.01).write is None
    driver.extend(NEXT)
    assert driver.look(Record(THEIRS, 2), after=0.01).write is None


def test_what_was_accepted_after_the_last_look_is_doubted_when_it_is_overwritten(
    driver: Driver,
) -> None:
    driver.look(Record(OURS, 1))
    driver.witness.accepted(driver.now + 0.01)
    assert driver.look(Record(THEIRS, 2), after=0.02).write == Record(THEIRS, FRESH + 1)


def test_what_was_accepted_during_the_last_look_is_doubted_when_it_is_overwritten(
    driver: Driver,
) -> None:
    driver.witness.accepted(driver.now + 0.1)
    driver.look(Record(OURS, 1), takes=0.2)
    assert driver.look(Record(THEIRS, 2)).write == Record(THEIRS, FRESH + 1)


def test_what_was_accepted_after_the_last_look_is_doubted_when_another_is_followed(
    driver: Driver,
) -> None:
    driver.look(Record(OURS, 1))
    driver.witness.accepted(driver.now)
    driver.extend(NEXT)
    assert driver.witness.due == -math.inf
    assert driver.look(Record(NEXT, 2), after=0.01).write == Record(NEXT, FRESH + 1)


# -- What is sure --------------------------------------------------------------------


def test_it_is_sure_when_the_record_was_the_same_for_longer_than_a_lease(driver: Driver) -> None:
    driver.look(Record(OURS, 1), takes=0.1)
    driver.look(Record(OURS, 1), after=1.24)
    assert driver.witness.sure == -math.inf
    driver.look(Record(OURS, 1), after=0.01, takes=0.3)
    assert driver.witness.sure == pytest.approx(51.35)  # when it began


def test_it_is_not_sure_once_the_record_is_another(driver: Driver) -> None:
    driver.follow()
    sure = driver.witness.sure
    driver.look(Record(OURS, 2), after=0.25)
    driver.look(None, after=1.0)
    driver.look(Record(OURS, 2), after=0.2)
    assert driver.witness.sure == sure
    driver.look(Record(OURS, 2), after=0.05)
    assert driver.witness.sure == driver.now


def test_it_is_not_sure_in_doubt(driver: Driver) -> None:
    driver.follow()
    sure = driver.witness.sure
    driver.witness.overdue(driver.now)
    for _ in range(10):
        driver.look(Record(OURS, 1), after=0.25)
    assert driver.witness.sure == sure


def test_it_is_not_sure_of_an_epoch_that_it_does_not_follow(driver: Driver) -> None:
    driver.follow()
    sure = driver.witness.sure
    driver.extend(NEXT, -math.inf)
    driver.look(Record(OURS, 1), after=0.25)
    assert driver.witness.sure == sure


# -- When to look --------------------------------------------------------------------


def test_it_looks_four_times_in_a_detection_time(driver: Driver) -> None:
    assert driver.witness.due == -math.inf
    driver.look(Record(OURS, 1), takes=0.01)
    assert driver.witness.due == pytest.approx(50.25)
    driver.look(None, after=0.25)
    assert driver.witness.due == pytest.approx(50.51)


def test_whoever_is_in_a_hurry_gets_a_look_that_begins_later(driver: Driver) -> None:
    driver.witness.hurry(driver.now)
    driver.now += 0.1
    driver.witness.looked(Record(OURS, 1), 49.9, driver.now)
    assert driver.witness.due == -math.inf
    driver.look(Record(OURS, 1))
    assert driver.witness.due == driver.now + 0.25


def test_what_it_proposes_is_its_epoch_with_a_new_doubt(driver: Driver) -> None:
    assert driver.witness.proposal() == Record(OURS, FRESH + 1)
    assert driver.witness.proposal() == Record(OURS, FRESH + 2)
