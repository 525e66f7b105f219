"""Mutexes for many keys in one file, or in one mutex."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import together
from tiered.concurrency.filelock import ByteRangeLock
from tiered.dogpile import FileMutex, KeyReentrantMutex, ThreadMutex

Of = Callable[[str], KeyReentrantMutex]


# -- Places in a file ------------------------------------------------------------------


def test_keys_of_one_file_do_not_exclude_one_another(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    one, other, whole = FileMutex(path, "one"), FileMutex(path, "other"), FileMutex(path)
    assert one.acquire(False)
    assert other.acquire(False)
    assert whole.acquire(False)
    assert not FileMutex(path, "one").acquire(False)
    assert one.release()
    assert FileMutex(path, "one").acquire(False)
    assert other.locked()
    assert other.release()
    assert whole.release()


@pytest.mark.parametrize("key", ["", "k" * 10_000, "a\nb", "\udc80", "émoji 🎉"])
def test_any_text_is_a_key(tmp_path: Path, key: str) -> None:
    with FileMutex(tmp_path / "locks", key):
        assert not FileMutex(tmp_path / "locks", key).acquire(False)


def test_asking_makes_no_file_and_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    mutex = FileMutex(path, "k")
    assert not mutex.locked()
    assert not path.exists()
    assert FileMutex(path, "other").acquire(False)
    takes: list[int] = []
    mutex._file._take = lambda *_: takes.append(1)  # type: ignore[method-assign]
    assert not mutex.locked()
    assert not takes


def test_the_file_is_for_whom_the_mode_says(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    with FileMutex(path, "k", mode=0o600):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_copy_of_the_open_file_does_not_keep_a_key_locked(tmp_path: Path) -> None:
    mutex = FileMutex(tmp_path / "locks", "k")
    assert mutex.acquire()
    assert mutex._file._locked is not None
    copy = os.dup(mutex._file._locked)  # as a child has that was forked at the wrong moment
    try:
        assert mutex.release()
        assert FileMutex(tmp_path / "locks", "k").acquire(False)
    finally:
        os.close(copy)


def test_a_place_can_be_shared(tmp_path: Path) -> None:
    locks = [ByteRangeLock(tmp_path / "locks", 7) for _ in range(3)]
    assert locks[0].take(wait=False, shared=True)
    assert locks[1].take(wait=False, shared=True)
    assert not locks[2].take(wait=False)
    assert locks[0].drop()
    assert locks[1].drop()
    assert locks[2].take(wait=False)
    assert not locks[0].take(wait=False, shared=True)


def _hold(path: str, key: str, told: Any) -> None:
    mutex = FileMutex(path, key)  # dropped, it would be free
    mutex.acquire()
    told.send("held")
    told.recv()


def test_it_ends_with_the_process_of_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "locks")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(path, "k", theirs), daemon=True)
    holder.start()
    try:
        assert ours.poll(60)
        assert ours.recv() == "held"
        mutex = FileMutex(path, "k")
        assert mutex.locked()
        assert not mutex.acquire(False)
        assert FileMutex(path, "other").acquire(False)
        holder.kill()
        assert mutex.acquire()
    finally:
        holder.kill()
        holder.join(20)


# -- One mutex for all keys ------------------------------------------------------------


@pytest.fixture(params=["of threads", "of a file"])
def of(request: pytest.FixtureRequest, tmp_path: Path) -> Of:
    threads = request.param == "of threads"
    return KeyReentrantMutex.factory(ThreadMutex() if threads else FileMutex(tmp_path / "lock"))


def elsewhere(work: Callable[[], Any]) -> Any:
    """What *work* returns in another thread."""
    return together(lambda _: work(), 1)[0]


def test_its_holder_takes_more_keys(of: Of) -> None:
    one, other = of("one"), of("other")
    for _ in range(2):
        assert one.acquire()
        assert other.acquire()
        assert not other.acquire(False)
        assert not of("one").acquire(False)
        assert other.release()
        assert other.acquire(False)
        assert one.release()
        assert other.release()
        assert not one.release()


def test_other_threads_are_kept_out_until_the_last_key_is_released(of: Of) -> None:
    assert of("one").acquire()
    other = of("other")
    assert other.acquire()
    for key in ("one", "other", "third"):
        assert elsewhere(lambda key=key: of(key).acquire(False)) is False  # type: ignore[misc]
    assert other.release()
    assert elsewhere(lambda: of("other").acquire(False)) is False


def test_whoever_waits_gets_it_after_the_last_key(of: Of) -> None:
    one, other = of("one"), of("other")
    assert one.acquire()
    assert other.acquire()
    happened: list[str] = []
    begun = threading.Event()

    def wait() -> None:
        mutex = of("one")
        begun.set()
        assert mutex.acquire()
        happened.append("taken")
        mutex.release()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert begun.wait(20)
    assert one.release()
    happened.append("one released")
    assert other.release()
    thread.join(20)
    assert happened == ["one released", "taken"]


def test_it_tells_which_keys_are_held(of: Of) -> None:
    one, other = of("one"), of("other")
    with one:
        assert one.locked()
        assert of("one").locked()
        assert not other.locked()
        assert elsewhere(one.locked) is True
        assert elsewhere(other.locked) is False
        with other:
            assert other.locked()
    assert not one.locked()
    assert not other.locked()


def test_what_another_process_holds_is_held_for_all_keys(tmp_path: Path) -> None:
    with KeyReentrantMutex.factory(FileMutex(tmp_path / "lock"))("one"):
        elsewhere_of = KeyReentrantMutex.factory(FileMutex(tmp_path / "lock"))
        assert elsewhere_of("one").locked()
        assert elsewhere_of("other").locked()


def test_it_is_handed_to_another_thread_that_releases_it(of: Of) -> None:
    one, other = of("one"), of("other")
    assert one.acquire()
    assert elsewhere(one.release) is True
    assert elsewhere(lambda: of("one").acquire(False) and of("one").locked())
    assert not other.acquire(False)


def test_a_key_that_is_handed_over_keeps_the_mutex_when_others_are_released(of: Of) -> None:
    one, other = of("one"), of("other")
    assert one.acquire()
    assert other.acquire()
    assert elsewhere(one.release) is True
    assert elsewhere(lambda: of("third").acquire(False)) is False
    assert other.release()
    assert elsewhere(lambda: of("third").acquire(False)) is True


def test_a_thread_with_the_number_of_an_ended_one_is_another(of: Of) -> None:
    mine = of("one")
    numbers: list[int] = []

    def take() -> bool:
        numbers.append(threading.get_ident())
        return mine.acquire(False)

    def takes_more() -> bool:
        numbers.append(threading.get_ident())
        return of("other").acquire(False)

    assert elsewhere(take) is True  # and leaves it to us
    for _ in range(100):
        assert elsewhere(takes_more) is False
        if numbers[-1] == numbers[0]:
            break
    assert mine.release()


def test_a_lock_that_answers_nothing_is_taken() -> None:
    class Silent:
        def acquire(self, wait: bool = True) -> None:
            """As of a read-write mutex of dogpile's, with *wait*."""

        def release(self) -> None:
            pass

    mutex = KeyReentrantMutex.factory(Silent())("k")
    assert mutex.acquire()
    assert mutex.release()


def test_a_child_holds_nothing(of: Of) -> None:
    one = of("one")
    with one:
        one._holding.after_fork()
        assert not one.release()
