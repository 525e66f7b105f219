"""A watch: one find at first, then refreshes off the request path, on a clock moved by hand."""

from __future__ import annotations

import gc
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tiered.errors import DiscoveryError
from tiered.routing.addresses import parse_addresses
from tiered.routing.discovery import CallableDiscovery, Found, StaticDiscovery
from tiered.routing.watch import Watch
from tiered.sentinels import FOREVER
from tiered.testing import ManualClock

PATIENCE = 10.0
"""Seconds after which a test that waits for another thread has failed."""


def found(*names: str, ttl: float = 60.0, weights: tuple[int, ...] | None = None) -> Found:
    return Found(parse_addresses(list(names)), ttl, weights)


class Scripted:
    """A discovery that does what the test says next."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.finds = 0

    def find(self) -> Found:
        self.finds += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        answer: Found = self.answer() if callable(self.answer) else self.answer
        return answer

    def __repr__(self) -> str:
        return "Scripted"


class Gate:
    """A discovery that waits inside until the test lets it go."""

    def __init__(self, answer: Found) -> None:
        self.answer = answer
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.finds = 0
        self.finders: list[threading.Thread] = []

    def find(self) -> Found:
        self.finds += 1
        self.finders.append(threading.current_thread())
        self.entered.release()
        assert self.leave.wait(PATIENCE)
        return self.answer

    def free(self) -> None:
        """Open it in a forked child: a thread of the parent may hold the locks of the old one."""
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.leave.set()


class Queue:
    """A way to start refreshes: they wait until the test runs them."""

    def __init__(self) -> None:
        self.works: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.works.append(work)

    def run(self) -> None:
        """Run the one that waits."""
        (work,) = self.works
        self.works.clear()
        work()


@pytest.fixture(autouse=True)
def chance(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """``share`` is where in its range each jitter falls: 1 is the high end."""
    told = {"share": 1.0}
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) * told["share"])
    return told


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def discovery() -> Scripted:
    return Scripted(found("a", "b"))


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def watch(discovery: Scripted, clock: ManualClock, queue: Queue, reports: list[str]) -> Watch:
    return Watch(discovery, clock, start=queue, report=reports.append)


def refreshed(watch: Watch, queue: Queue) -> Found:
    """What is known after the refresh that is due."""
    watch.current()
    queue.run()
    return watch.current()


def pause(watch: Watch, queue: Queue, clock: ManualClock, step: float = 0.25) -> float:
    """Seconds until the next refresh is started; it is left in the queue."""
    began = clock.monotonic()
    while True:
        watch.current()
        if queue.works:
            return clock.monotonic() - began
        clock.advance(step)
        assert clock.monotonic() - began < 10_000


# -- What is known ---------------------------------------------------------------------


def test_nothing_is_done_before_the_first_use(watch: Watch, discovery: Scripted) -> None:
    assert discovery.finds == 0
    assert repr(watch) == "<Watch of Scripted: nothing found, 0 failures>"


def test_the_first_call_finds_and_later_ones_return_what_is_known(
    watch: Watch, discovery: Scripted, queue: Queue
) -> None:
    first = watch.current()
    assert first == found("a", "b")
    assert all(watch.current() is first for _ in range(10))
    assert discovery.finds == 1
    assert not queue.works
    assert repr(watch) == "<Watch of Scripted: 2 servers, 0 failures>"


def test_a_refresh_is_started_when_the_ttl_has_passed_and_nobody_waits_for_it(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock
) -> None:
    first = watch.current()
    clock.advance(59.9)
    watch.current()
    assert not queue.works
    clock.advance(0.1)
    discovery.answer = found("a", "c")
    assert watch.current() is first
    assert discovery.finds == 1
    queue.run()
    assert watch.current() == found("a", "c")
    assert discovery.finds == 2


def test_there_is_one_refresh_at_a_time(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock
) -> None:
    watch.current()
    clock.advance(1000)
    for _ in range(10):
        watch.current()
    queue.run()
    for _ in range(10):
        watch.current()
    assert discovery.finds == 2
    clock.advance(60)
    watch.current()
    queue.run()
    assert discovery.finds == 3


def test_a_refresh_that_ended_meanwhile_is_not_repeated(
    watch: Watch,
    discovery: Scripted,
    queue: Queue,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch.current()
    clock.advance(60)
    watch.current()

    class Late(float):
        """A time; the refresh ends while it is compared with when one is due."""

        def __ge__(self, due: float) -> bool:
            monkeypatch.setattr(clock, "monotonic", lambda: float(self))
            queue.run()
            return float(self) >= due

    now = Late(clock.monotonic())
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    watch.current()
    assert discovery.finds == 2
    assert not queue.works


def test_an_answer_for_ever_is_never_refreshed(clock: ManualClock, queue: Queue) -> None:
    watch = Watch(StaticDiscovery(["a"]), clock, start=queue)
    watch.current()
    clock.advance(1e9)
    watch.current()
    assert not queue.works


@pytest.mark.parametrize(
    "same",
    [
        found("a", "b"),
        found("b", "a"),
        found("b", "a", ttl=300),
        found("b", "a", weights=(1, 1)),
    ],
    ids=["equal", "another order", "another ttl", "weights that say nothing"],
)
def test_the_same_servers_stay_the_same_object(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock, same: Found
) -> None:
    first = watch.current()
    clock.advance(60)
    discovery.answer = same
    assert refreshed(watch, queue) is first
    assert pause(watch, queue, clock) == same.ttl


@pytest.mark.parametrize(
    "other",
    [
        found("a"),
        found("a", "c"),
        found("a", "b", "c"),
        found("a", "b:1"),
        found("a", "b", weights=(1, 2)),
    ],
    ids=["one less", "another", "one more", "another port", "another weight"],
)
def test_other_servers_are_another_object(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock, other: Found
) -> None:
    watch.current()
    clock.advance(60)
    discovery.answer = other
    assert refreshed(watch, queue) is other


def test_weights_belong_to_their_servers(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock
) -> None:
    discovery.answer = found("a", "b", weights=(1, 2))
    first = watch.current()
    clock.advance(60)
    discovery.answer = found("b", "a", weights=(2, 1))
    assert refreshed(watch, queue) is first
    clock.advance(60)
    discovery.answer = found("a", "b", weights=(2, 1))
    assert refreshed(watch, queue) is discovery.answer


# -- When ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "share", "expected"),
    [
        (60, 1.0, 60),
        (60, 0.0, 48),
        (60, 0.5, 54),
        (5, 0.0, 5),
        (6, 0.0, 5),
        (6, 1.0, 6),
        (1, 0.0, 5),
        (1, 1.0, 6),
        (0, 0.5, 5.5),
        (-3, 1.0, 6),
        (float("nan"), 1.0, 6),
    ],
)
def test_answers_are_good_for_their_ttl_or_a_fifth_less_but_for_the_floor(
    watch: Watch,
    discovery: Scripted,
    queue: Queue,
    clock: ManualClock,
    chance: dict[str, float],
    ttl: float,
    share: float,
    expected: float,
) -> None:
    chance["share"] = share
    discovery.answer = found("a", ttl=ttl)
    watch.current()
    assert pause(watch, queue, clock) == expected


def test_failed_refreshes_keep_the_answer_and_are_repeated_ever_more_rarely(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock, chance: dict[str, float]
) -> None:
    first = watch.current()
    clock.advance(60)
    discovery.answer = DiscoveryError("no name server")
    chance["share"] = 0.0
    pauses = []
    for _ in range(50):
        assert refreshed(watch, queue) is first
        pauses.append(pause(watch, queue, clock))
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0] + [300.0] * 44
    assert watch.failures == 50
    discovery.answer = found("c")
    queue.run()
    assert watch.current() == found("c")
    clock.advance(60)
    discovery.answer = DiscoveryError("no name server")
    refreshed(watch, queue)
    assert pause(watch, queue, clock) == 5.0  # from the beginning


def test_pauses_after_failures_are_jittered_but_within_the_bounds(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock
) -> None:
    watch.current()
    clock.advance(60)
    discovery.answer = DiscoveryError("no name server")
    pauses = []
    for _ in range(8):
        refreshed(watch, queue)
        pauses.append(pause(watch, queue, clock))
    assert pauses == [6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 300.0, 300.0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"floor": 0}, ValueError),
        ({"floor": "5"}, TypeError),
        ({"floor": 5, "longest": 4}, ValueError),
        ({"longest": float("nan")}, ValueError),
    ],
)
def test_times_that_cannot_be_right_are_refused(
    clock: ManualClock, options: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"floor|longest"):
        Watch(StaticDiscovery(["a"]), clock, **options)


# -- Failures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (DiscoveryError("no name server"), "no name server"),
        (Found((), 60), "Scripted found no servers"),
        (OSError("a bug"), "Scripted failed: OSError: a bug"),
        (None, "Scripted failed: AttributeError"),
        (found("a", "b", weights=(1,)), "Scripted failed: ValueError"),
        (Found(parse_addresses(["a"]), "60"), "Scripted failed: TypeError: ttl must be"),  # type: ignore[arg-type]
    ],
)
def test_whatever_is_no_answer_is_a_failure(
    watch: Watch,
    discovery: Scripted,
    queue: Queue,
    clock: ManualClock,
    reports: list[str],
    answer: Any,
    message: str,
) -> None:
    good = discovery.answer
    discovery.answer = answer
    with pytest.raises(DiscoveryError, match=message):
        watch.current()
    clock.advance(5)
    discovery.answer = good
    first = watch.current()
    clock.advance(60)
    discovery.answer = answer
    assert refreshed(watch, queue) is first
    assert watch.failures == 2
    assert len(reports) == 2
    assert all(message in report for report in reports)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_what_ends_a_thread_does_not_end_the_refreshes(
    watch: Watch, discovery: Scripted, queue: Queue, clock: ManualClock, error: BaseException
) -> None:
    watch.current()
    clock.advance(60)
    discovery.answer = error
    refreshed(watch, queue)
    assert watch.failures == 1
    assert not queue.works  # not at once
    discovery.answer = found("c")
    clock.advance(6)
    assert refreshed(watch, queue) == found("c")


def test_a_first_find_that_fails_is_repeated_after_the_floor_and_remembered_till_then(
    watch: Watch, discovery: Scripted, clock: ManualClock
) -> None:
    discovery.answer = DiscoveryError("no name server")
    for attempt in range(1, 5):
        for _ in range(3):
            with pytest.raises(DiscoveryError, match="no name server"):
                watch.current()
        assert discovery.finds == watch.failures == attempt
        clock.advance(4.9)
        with pytest.raises(DiscoveryError, match="no name server"):
            watch.current()
        assert discovery.finds == attempt
        clock.advance(0.1)
    discovery.answer = found("a")
    assert watch.current() is discovery.answer


def test_a_remembered_error_holds_nobodys_frames(watch: Watch, discovery: Scripted) -> None:
    discovery.answer = DiscoveryError("no name server")
    errors = []
    for _ in range(3):
        with pytest.raises(DiscoveryError) as caught:
            watch.current()
        errors.append(caught.value)
    assert errors[1] is not errors[2]
    assert errors[1].__context__ is None


def test_an_interrupt_of_the_first_find_is_no_failure(watch: Watch, discovery: Scripted) -> None:
    good, discovery.answer = discovery.answer, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        watch.current()
    discovery.answer = good
    assert watch.current() is good
    assert not watch.failures


def test_a_refresh_that_cannot_be_started_is_a_failure(
    discovery: Scripted, clock: ManualClock, reports: list[str]
) -> None:
    error: BaseException = RuntimeError("can't start new thread")

    def start(work: Callable[[], None]) -> None:
        raise error

    watch = Watch(discovery, clock, start=start, report=reports.append)
    first = watch.current()
    clock.advance(60)
    assert watch.current() is first
    assert reports == ["no refresh can be started: can't start new thread"]
    clock.advance(5.9)
    watch.current()
    assert watch.failures == 1
    clock.advance(0.2)
    watch.current()
    assert watch.failures == 2
    error = KeyboardInterrupt()
    clock.advance(20)
    for _ in range(2):  # the interrupt reaches its thread, and leaves nothing claimed
        with pytest.raises(KeyboardInterrupt):
            watch.current()


def test_a_discovery_that_needs_its_own_answer_is_told_so(clock: ManualClock) -> None:
    own: Watch = Watch(CallableDiscovery(lambda: own.current().addresses), clock)
    with pytest.raises(DiscoveryError, match="needs the servers that it is to find"):
        own.current()


# -- Threads ---------------------------------------------------------------------------


class Crowd:
    """Threads that all call ``current()``."""

    def __init__(self, watch: Watch, count: int) -> None:
        self.results: list[Found | DiscoveryError] = []
        self._watch = watch
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        try:
            result: Found | DiscoveryError = self._watch.current()
        except DiscoveryError as error:
            result = error
        self.results.append(result)

    def join(self) -> list[Found | DiscoveryError]:
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)
        return self.results


def test_one_thread_finds_and_the_others_wait_for_it(clock: ManualClock) -> None:
    gate = Gate(found("a"))
    crowd = Crowd(Watch(gate, clock), 8)
    assert gate.entered.acquire(timeout=PATIENCE)
    assert not crowd.results
    gate.leave.set()
    assert crowd.join() == [gate.answer] * 8
    assert gate.finds == 1


def test_a_first_find_that_fails_is_the_failure_of_all_who_waited(clock: ManualClock) -> None:
    gate = Gate(Found((), 60))
    crowd = Crowd(Watch(gate, clock), 8)
    assert gate.entered.acquire(timeout=PATIENCE)
    gate.leave.set()
    assert {type(result) for result in crowd.join()} == {DiscoveryError}
    assert gate.finds == 1


def test_after_a_failure_nobody_waits_for_the_one_who_tries_again(clock: ManualClock) -> None:
    gate = Gate(Found((), 60))
    gate.leave.set()
    watch = Watch(gate, clock)
    with pytest.raises(DiscoveryError):
        watch.current()
    assert gate.entered.acquire(timeout=PATIENCE)
    gate.leave.clear()
    gate.answer = found("a")
    clock.advance(5)
    crowd = Crowd(watch, 1)
    assert gate.entered.acquire(timeout=PATIENCE)
    with pytest.raises(DiscoveryError, match="found no servers"):
        watch.current()
    gate.leave.set()
    assert crowd.join() == [gate.answer]
    assert watch.current() is gate.answer


@pytest.fixture
def refreshing(clock: ManualClock) -> Iterator[tuple[Watch, Gate]]:
    """A watch with a refresh under way in a thread of its own."""
    gate = Gate(found("a"))
    gate.leave.set()
    watch = Watch(gate, clock)
    watch.current()
    assert gate.entered.acquire(timeout=PATIENCE)
    assert gate.finders == [threading.current_thread()]
    gate.leave.clear()
    gate.answer = found("b")
    clock.advance(60)
    watch.current()
    assert gate.entered.acquire(timeout=PATIENCE)
    yield watch, gate
    gate.leave.set()
    gate.finders[1].join(PATIENCE)


def test_a_refresh_has_a_daemon_thread_that_ends_with_it(refreshing: tuple[Watch, Gate]) -> None:
    watch, gate = refreshing
    _, thread = gate.finders
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert [watch.current() for _ in range(10)] == [found("a")] * 10
    assert gate.finds == 2
    gate.leave.set()
    thread.join(PATIENCE)
    assert watch.current() == found("b")
    assert not thread.is_alive()
    assert len(gate.finders) == 2


def test_a_watch_that_is_dropped_does_not_stay_for_its_refresh(
    refreshing: tuple[Watch, Gate], clock: ManualClock
) -> None:
    gate = Gate(found("a"))
    gate.leave.set()
    watch = Watch(gate, clock)
    watch.current()
    gate.leave.clear()
    clock.advance(60)
    watch.current()
    assert gate.entered.acquire(timeout=PATIENCE)
    assert gate.entered.acquire(timeout=PATIENCE)
    dropped = weakref.ref(watch)
    del watch
    gc.collect()
    assert dropped() is None
    gate.leave.set()


# -- Close -----------------------------------------------------------------------------


def test_a_closed_watch_knows_but_does_not_refresh(
    watch: Watch, queue: Queue, clock: ManualClock
) -> None:
    first = watch.current()
    assert watch.close()
    assert watch.close()
    clock.advance(1000)
    assert watch.current() is first
    assert not queue.works


def test_a_closed_watch_that_knows_nothing_says_so(watch: Watch, discovery: Scripted) -> None:
    watch.close()
    with pytest.raises(DiscoveryError, match="is closed"):
        watch.current()
    assert not discovery.finds


def test_closing_waits_for_a_refresh_but_not_for_ever(refreshing: tuple[Watch, Gate]) -> None:
    watch, gate = refreshing
    assert not watch.close(timeout=0.01)
    gate.leave.set()
    assert watch.close(timeout=PATIENCE)
    assert watch.current() == found("a")  # what comes too late is not taken over
    assert not watch.failures


# -- Fork ------------------------------------------------------------------------------


def in_a_child(check: Callable[[], bool]) -> bool:
    """Whether *check* is true in a forked child."""
    pid = os.fork()
    if not pid:
        good = False
        try:
            good = check()
        finally:
            os._exit(0 if good else 1)
    _, status = os.waitpid(pid, 0)
    return status == 0


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_a_child_refreshes_by_itself_whatever_the_parent_was_at(
    refreshing: tuple[Watch, Gate], clock: ManualClock
) -> None:
    watch, gate = refreshing

    def child() -> bool:
        watch.after_fork()
        gate.free()
        gate.answer = found("child")
        done = threading.Event()
        watch._start = lambda work: (work(), done.set())[1]  # type: ignore[func-returns-value]
        watch.current()
        return done.is_set() and watch.current() == found("child")

    assert in_a_child(child)
    gate.leave.set()
    assert watch.close(PATIENCE)


def test_a_child_finds_by_itself_while_a_thread_of_the_parent_does(clock: ManualClock) -> None:
    gate = Gate(found("a"))
    watch = Watch(gate, clock)
    crowd = Crowd(watch, 1)
    assert gate.entered.acquire(timeout=PATIENCE)

    def child() -> bool:
        watch.after_fork()
        gate.free()
        return watch.current() is gate.answer

    assert in_a_child(child)
    gate.leave.set()
    assert crowd.join() == [gate.answer]


def test_children_of_one_parent_do_not_refresh_in_one_wave(
    watch: Watch, queue: Queue, clock: ManualClock, discovery: Scripted
) -> None:
    watch.current()
    clock.advance(10)  # 50 are left
    watch.after_fork()
    assert pause(watch, queue, clock) == 40  # a fifth earlier
    queue.run()
    discovery.answer = found("a", ttl=FOREVER)
    clock.advance(60)
    refreshed(watch, queue)
    watch.after_fork()
    clock.advance(1e12)
    watch.current()
    assert not queue.works
