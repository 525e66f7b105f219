"""What a node concludes from the record where only one broker is said to exist."""

from __future__ import annotations

import itertools

from tiered.coherence.witness import Record, Verdict, Witness

OURS, OTHER, OLD = 7, 8, 9


def witness(sole: bool = True) -> Witness:
    numbers = itertools.count(100)
    return Witness(detection=1.0, sole=sole, fresh=lambda: next(numbers), spread=lambda: 0.0)


def hear(of: Witness, at: float, epoch: int = OURS) -> None:
    """The broker answers at once what it is asked at *at*."""
    of.extend(epoch, at + 1.0, at)


def look(of: Witness, epoch: int, at: float, doubt: int = 1) -> Verdict:
    return of.looked(Record(epoch, doubt), at, at)


def in_step() -> Witness:
    one = witness()
    hear(one, 0.0)
    look(one, OURS, 0.1)
    return one


def usurped(one: Witness) -> None:
    """Another epoch is written over ours, twice."""
    look(one, OTHER, 0.2)
    look(one, OURS, 0.3)
    look(one, OTHER, 0.4)


def test_the_epoch_is_written_without_a_new_doubt() -> None:
    one = witness()
    hear(one, 0.0)
    assert look(one, OLD, 0.1) == (True, None)  # has our broker lived since?
    hear(one, 0.2)
    assert look(one, OLD, 0.3) == (False, Record(OURS, 1))
    assert look(one, OURS, 0.4) == (False, None)


def test_a_changed_epoch_is_no_reason_to_distrust_and_a_changed_doubt_is_one() -> None:
    one = in_step()
    assert not look(one, OTHER, 0.2).distrust
    assert look(one, OTHER, 0.3, doubt=2).distrust


def test_two_epochs_that_both_live_are_two_brokers() -> None:
    one = in_step()
    usurped(one)
    before = one.sole
    hear(one, 0.5)
    assert (before, one.sole) == (True, False)
    assert one.until == one.sure == -float("inf")
    verdict = look(one, OTHER, 0.6)
    assert verdict.write is not None
    assert verdict.write.doubt >= 100  # what ours has accepted, the others may have missed
    hear(one, 0.7, epoch=OLD)
    assert not one.sole


def test_an_answer_to_what_was_asked_before_the_look_proves_nothing() -> None:
    one = in_step()
    usurped(one)
    one.extend(OURS, 1.39, 0.5)
    assert one.sole


def test_a_takeover_is_not_taken_for_two_brokers() -> None:
    one = in_step()
    usurped(one)
    hear(one, 0.5, epoch=OTHER)
    hear(one, 0.6, epoch=OTHER)
    assert one.sole
    assert look(one, OTHER, 0.7) == (False, None)


def test_who_follows_a_broker_that_is_gone_does_not_write_its_epoch_back() -> None:
    one = in_step()
    for at in (0.2, 0.4, 0.6, 0.8, 0.99):
        assert look(one, OTHER, at).write is None  # the lease lasts still
    assert one.sole


def test_one_writing_that_comes_late_proves_nothing() -> None:
    one = in_step()
    look(one, OLD, 0.2)
    hear(one, 0.3)
    hear(one, 0.5)
    assert one.sole


def test_a_writing_that_fails_is_not_taken_for_one_that_was_written_over() -> None:
    one = witness()
    hear(one, 0.0)
    for number in range(1, 30):
        look(one, OLD, number / 2)
        hear(one, number / 2 + 0.1)
    assert one.sole


def test_a_record_that_names_no_epoch_is_nobodys() -> None:
    one = in_step()
    for at in (0.2, 0.4, 0.6):
        look(one, 0, at)
        look(one, OURS, at + 0.1)
        hear(one, at + 0.15)
    assert one.sole


def test_a_look_that_fails_ends_nothing() -> None:
    one = in_step()
    hear(one, 5.0)
    assert one.looked(None, 5.1, 5.2) == (False, None)
    assert one.until == 6.0


def test_a_doubt_that_was_overwritten_by_a_former_one_is_written_anew() -> None:
    one = in_step()
    look(one, OURS, 0.2, doubt=2)
    verdict = look(one, OURS, 0.3, doubt=1)
    assert verdict.distrust
    assert verdict.write is not None
    assert verdict.write.doubt >= 100


def test_an_epoch_written_over_a_doubt_does_not_replace_it() -> None:
    one = in_step()
    one.overdue(0.2)
    assert look(one, OURS, 0.3).write == Record(OURS, 100)
    # Somebody has written another epoch, with the doubt that was there before.
    verdict = look(one, OTHER, 0.5)
    assert verdict.write is not None
    assert verdict.write.doubt == 101
    assert look(one, OTHER, 0.6, doubt=101).write is None
