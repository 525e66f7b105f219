"""What every mutex promises, as tests to inherit.

::

    class TestMyMutex(MutexContract):
        def make_mutex(self):
            return MyMutex("a name")

A mutex is what :class:`tiered.dogpile.Lock` locks with: ``acquire(wait=True)`` tells whether it
was taken, ``release()`` whether it was still held.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import pytest

from tiered.clock import SYSTEM_CLOCK

__all__ = ["MutexContract"]

_PATIENCE: Final = 20.0
"""Seconds after which something hangs."""

_TURNS: Final = 50
"""How often a thread lets others go on (it does not sleep: a good mutex is tested quickly)."""


class MutexContract:
    """Inherit, implement :meth:`make_mutex`, and run with pytest.

    Attributes:
        threads: how many compete.
        rounds: how often each of them takes the mutex.
    """

    threads: ClassVar[int] = 8
    rounds: ClassVar[int] = 5

    def make_mutex(self) -> Any:
        """A mutex for the same thing at each call of one test: the same object, or another."""
        raise NotImplementedError

    def test_one_at_a_time(self) -> None:
        everybody = threading.Barrier(self.threads)
        inside: list[int] = []
        clashes: list[int] = []
        counts = {"entered": 0}

        def compete() -> None:
            mutex = self.make_mutex()
            everybody.wait(_PATIENCE)
            for _ in range(self.rounds):
                assert mutex.acquire()
                inside.append(1)
                entered = counts["entered"]
                for _ in range(_TURNS):  # whoever can get in, gets in now
                    SYSTEM_CLOCK.sleep(0)
                if len(inside) > 1:
                    clashes.append(1)
                counts["entered"] = entered + 1
                inside.pop()
                assert mutex.release()

        with _eager_switching():
            _in_threads(compete, self.threads)
        assert not clashes
        assert counts["entered"] == self.threads * self.rounds

    def test_it_is_refused_without_waiting_while_somebody_has_it(self) -> None:
        one, other = self.make_mutex(), self.make_mutex()
        assert one.acquire(False)
        assert not other.acquire(False)
        assert not one.acquire(False)
        assert one.release()
        assert other.acquire(False)
        assert not one.acquire(False)
        assert other.release()

    def test_it_is_refused_to_other_threads(self) -> None:
        mutex = self.make_mutex()
        assert mutex.acquire()
        answers: list[bool] = []
        _in_threads(lambda: answers.append(self.make_mutex().acquire(False)), 2)
        _in_threads(lambda: answers.append(mutex.acquire(False)), 2)
        assert answers == [False] * 4
        assert mutex.release()

    def test_who_waits_gets_it_when_it_is_free(self) -> None:
        one = self.make_mutex()
        assert one.acquire()
        happened: list[object] = []
        about_to_wait = threading.Event()

        def wait() -> None:
            other = self.make_mutex()
            about_to_wait.set()
            happened.append(other.acquire(True))
            other.release()

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        assert about_to_wait.wait(_PATIENCE)
        for _ in range(_TURNS):  # it gets to where it waits
            SYSTEM_CLOCK.sleep(0)
        assert one.locked()
        happened.append("released")
        assert one.release()
        waiter.join(_PATIENCE)
        assert happened == ["released", True]
        assert not one.locked()

    def test_releasing_what_one_does_not_have_harms_nobody(self) -> None:
        one, other = self.make_mutex(), self.make_mutex()
        assert not one.release()
        assert one.acquire()
        if other is not one:
            assert not other.release()
        assert not self.make_mutex().acquire(False)
        assert one.release()
        assert not one.release()
        assert other.acquire(False)
        assert other.release()

    def test_it_tells_whether_anybody_has_it(self) -> None:
        one, other = self.make_mutex(), self.make_mutex()
        assert not one.locked()
        assert one.acquire()
        assert one.locked()
        assert other.locked()
        assert one.release()
        assert not one.locked()
        assert not other.locked()
        assert other.acquire(False)  # asking has taken nothing
        assert other.release()

    def test_a_block_holds_it_and_always_gives_it_back(self) -> None:
        mutex = self.make_mutex()
        with mutex:
            assert mutex.locked()
        with pytest.raises(KeyboardInterrupt), mutex:
            raise KeyboardInterrupt
        assert not mutex.locked()

    def test_it_can_be_handed_to_another_thread(self) -> None:
        mutex = self.make_mutex()
        assert mutex.acquire()
        answers: list[bool] = []
        _in_threads(lambda: answers.append(mutex.release()), 1)
        assert answers == [True]
        assert self.make_mutex().acquire(False)


@contextmanager
def _eager_switching() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _in_threads(work: Callable[[], Any], count: int) -> None:
    """Run *work* in so many threads; raises what one of them raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
