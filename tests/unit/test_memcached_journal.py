"""What is owed to a server: noted, told, bounded, and never lost between the two."""

from __future__ import annotations

import threading

from tests.fakes import Held, together
from tiered.clients.memcached.journal import Journal


def never() -> bool:
    return False


def always() -> bool:
    return True


def nothing() -> None:
    """No action."""


def test_what_is_noted_is_due_the_oldest_first() -> None:
    journal = Journal()
    assert journal.due() == {}
    for key in (b"a", b"b", b"c"):
        assert journal.note(key, never)
    assert list(journal.due()) == [b"a", b"b", b"c"]
    assert len(journal) == 3


def test_nothing_is_noted_for_who_can_be_told() -> None:
    journal = Journal()
    assert not journal.note(b"a", always)
    assert len(journal) == 0


def test_a_key_is_noted_once_however_often() -> None:
    journal = Journal()
    for _ in range(10):
        assert journal.note(b"a", never)
    assert len(journal) == 1


def test_what_was_told_is_no_longer_due() -> None:
    journal = Journal()
    journal.note(b"a", never)
    journal.note(b"b", never)
    due = journal.due()
    journal.note(b"c", never)
    journal.told(due)
    assert list(journal.due()) == [b"c"]
    journal.told(due)


def test_what_was_noted_again_while_it_was_told_is_due_again() -> None:
    journal = Journal()
    journal.note(b"a", never)
    due = journal.due()
    journal.note(b"a", never)
    journal.told(due)
    assert list(journal.due()) == [b"a"]


def test_past_its_limit_it_remembers_only_that_there_was_more() -> None:
    journal = Journal(2)
    for key in (b"a", b"b"):
        assert journal.note(key, never)
    assert not journal.overflowed
    assert journal.note(b"a", never)  # takes no more room
    assert not journal.overflowed
    assert journal.note(b"c", never)
    assert (journal.overflowed, list(journal.due())) == (True, [b"a", b"b"])


def test_it_settles_when_nothing_is_due_only() -> None:
    journal, done = Journal(1), []
    journal.note(b"a", never)
    journal.note(b"b", never)
    assert not journal.settle(lambda: done.append(1))
    journal.told(journal.due())
    assert journal.settle(lambda: done.append(journal.overflowed))
    # Whoever acts is to see that there was more.
    assert (done, journal.overflowed) == ([True], False)


def test_no_note_falls_between_the_last_look_and_the_action() -> None:
    for _ in range(200):
        journal = Journal()
        up: list[bool] = []

        def work(number: int, journal: Journal = journal, up: list[bool] = up) -> bool:
            if number:
                return journal.note(b"k", lambda: bool(up))
            return journal.settle(lambda: up.append(True))

        settled, noted = together(work, 2)
        # One or the other is first; never neither.
        assert settled is not noted


def test_who_notes_waits_while_it_concludes() -> None:
    journal, held = Journal(), Held()
    done: list[int] = []
    journal.note(b"a", never)
    told: list[bytes] = []

    def tell(due: dict[bytes, int]) -> None:
        held()
        told.extend(due)

    concluding = threading.Thread(target=lambda: journal.conclude(tell, lambda: done.append(1)))
    concluding.start()
    assert held.started.wait(10)
    noting = threading.Thread(target=lambda: done.append(journal.note(b"b", lambda: done == [1])))
    noting.start()
    held.go.set()
    for thread in (concluding, noting):
        thread.join(10)
        assert not thread.is_alive()
    assert (told, done, len(journal)) == ([b"a"], [1, False], 0)


def test_what_could_not_be_told_stays_due() -> None:
    journal = Journal()
    journal.note(b"a", never)

    def tell(_due: dict[bytes, int]) -> None:
        raise OSError

    for _ in range(2):
        try:
            journal.conclude(tell, nothing)
        except OSError:
            pass
        assert list(journal.due()) == [b"a"]
    journal.conclude(lambda due: None, nothing)
    assert len(journal) == 0


def test_a_child_has_what_its_parent_noted_and_a_lock_of_its_own() -> None:
    journal = Journal()
    journal.note(b"a", never)
    journal._lock.acquire()  # by a thread that is not in the child
    journal.after_fork()
    assert journal.note(b"b", never)
    assert list(journal.due()) == [b"a", b"b"]
