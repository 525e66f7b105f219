"""The small parts: sentinels, entries, errors, clocks, logs, histograms."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import random
import threading

import pytest

import tiered
from tests.fakes import together
from tiered import acceleration, testing
from tiered.clients.base import CacheClient
from tiered.clients.null import NullCacheClient
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.holdings import Holdings
from tiered.concurrency.rwlock import ReadWriteLock
from tiered.entry import Entry
from tiered.sentinels import FOREVER, MISSING
from tiered.stats.histogram import TimingHistogram
from tiered.stats.reports import Reports
from tiered.testing import ManualClock
from tiered.typing import Clock


def test_missing_is_itself_everywhere() -> None:
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert copy.deepcopy(MISSING) is MISSING
    assert repr(MISSING) == "MISSING"
    assert not MISSING
    assert math.isinf(FOREVER)


def test_an_entry_is_a_value_and_a_deadline() -> None:
    entry = Entry("v", 5.0)
    value, deadline = entry
    assert (value, deadline) == ("v", 5.0)
    assert entry == Entry("v", 5.0)
    assert entry != Entry("v", 6.0)
    assert entry != ("v", 5.0)
    assert repr(entry) == "Entry('v', deadline=5.0)"
    with pytest.raises(TypeError):
        hash(entry)


def test_public_names_are_there_and_no_others() -> None:
    for name in tiered.__all__:
        assert getattr(tiered, name) is not None
        assert name in dir(tiered)
    assert tiered.__version__
    assert tiered.accelerated is (acceleration.core is not None)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tiered.nothing
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testing.nothing


def test_clocks_are_clocks() -> None:
    for clock in (SYSTEM_CLOCK, ManualClock()):
        assert isinstance(clock, Clock)
        assert clock.monotonic() <= clock.monotonic()
        assert clock.wall() > 1e9
        clock.sleep(0)
        assert repr(clock)


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(monotonic=5.0, wall=100.0)
    clock.advance(2)
    clock.sleep(3)
    assert (clock.monotonic(), clock.wall()) == (10.0, 105.0)
    clock.step_wall(-50)
    assert (clock.monotonic(), clock.wall()) == (10.0, 55.0)
    with pytest.raises(ValueError, match="seconds must be"):
        clock.advance(-1)


def test_a_report_comes_once_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    reports = Reports("tiered.test", clock, interval=10)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            reports.warn("a", "trouble with %s", "a")
        reports.warn("b", "trouble with %s", "b")
        clock.advance(11)
        reports.warn("a", "trouble with %s", "a")
    # Others may be of threads that earlier tests have left.
    told = [record.getMessage() for record in caplog.records if record.name == "tiered.test"]
    assert told == [
        "trouble with a",
        "trouble with b",
        "trouble with a (and 4 more since the last such line)",
    ]


def test_reports_do_not_grow_without_bound() -> None:
    reports = Reports("tiered.test.quiet", ManualClock())
    logging.getLogger("tiered.test.quiet").setLevel(logging.CRITICAL)
    for number in range(3 * Reports.MAX_SUBJECTS):
        reports.warn(number, "trouble")
    assert len(reports._said) <= Reports.MAX_SUBJECTS


def test_percentiles_are_near_the_true_ones() -> None:
    chance = random.Random(3)
    samples = sorted(chance.lognormvariate(-8, 2) for _ in range(5000))
    histogram = TimingHistogram()
    for sample in samples:
        histogram.record(sample)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        true = samples[max(0, math.ceil(share * len(samples)) - 1)]
        assert true <= histogram.percentile(share) <= true * 1.07
    assert histogram.count == 5000
    assert histogram.total == pytest.approx(sum(samples))
    twice = TimingHistogram().add(histogram.counts(), histogram.total)
    twice.add(histogram.counts(), histogram.total)
    assert twice.count == 10_000
    assert twice.percentile(0.5) == histogram.percentile(0.5)
    assert TimingHistogram().percentile(0.5) == 0.0
    TimingHistogram().record(0.0)


def test_readers_share_and_writers_do_not() -> None:
    lock = ReadWriteLock()
    inside = threading.Barrier(3)

    def read(_: int) -> None:
        with lock.reading(), lock.reading():
            inside.wait(10)

    assert together(read, 3) == [None] * 3

    counter = 0

    def write(_: int) -> None:
        nonlocal counter
        for _ in range(200):
            with lock.writing(), lock.writing(), lock.reading():
                seen = counter
                counter = seen + 1

    together(write, 4)
    assert counter == 800


def test_a_waiting_writer_stops_new_readers() -> None:
    lock = ReadWriteLock()
    order: list[str] = []
    writing = threading.Thread(target=lambda: _with(lock.writing(), lambda: order.append("w")))
    reading = threading.Thread(target=lambda: _with(lock.reading(), lambda: order.append("r")))
    with lock.reading():
        writing.start()
        while not lock._writers_waiting:
            pass
        reading.start()
        with lock.reading():  # who reads already may go on
            pass
    writing.join(10)
    reading.join(10)
    assert order == ["w", "r"]


def _with(section: object, action: object) -> None:
    with section:  # type: ignore[attr-defined]
        action()  # type: ignore[operator]


def test_a_reader_cannot_become_a_writer() -> None:
    lock = ReadWriteLock()
    refused = pytest.raises(RuntimeError, match="cannot become a writer")
    with lock.reading(), refused, lock.writing():
        pass
    with lock.writing():  # and the refusal has left nothing behind
        pass


def test_holdings_are_held_by_one() -> None:
    holdings = Holdings()
    token = holdings.take("k", until=10.0, now=0.0)
    assert token is not None
    assert holdings.take("k", until=20.0, now=9.0) is None
    assert holdings.use("k", token, 9.0, lambda: True)
    assert not holdings.use("k", token, 10.0, lambda: True)
    assert not holdings.use("k", "other", 1.0, lambda: True)
    second = holdings.take("k", until=20.0, now=10.0)
    assert second is not None
    assert not holdings.release("k", token)
    assert holdings.release("k", second)
    held = holdings.take("k", until=30.0, now=0.0)
    assert held is not None
    holdings.revoke("k")
    holdings.revoke("k")
    assert not holdings.release("k", held)
    holdings.take("k", until=30.0, now=0.0)
    holdings.revoke_all()
    assert holdings.take("k", until=30.0, now=0.0) is not None


def test_the_null_client_holds_nothing() -> None:
    client: CacheClient = NullCacheClient()
    assert not client.put("k", 1, 10)
    assert client.put_multi({"k": 1}, 10) == {"k": False}
    assert client.get_multi(["k"], None) == {"k": None}
    assert not client.renew("k", 10)
    assert not client.expire("k")
    assert not client.delete("k")
    assert client.purge() == 0
    client.clear()
    assert client.capacity == client.usage == 0
    assert repr(client) == "<NullCacheClient>"
