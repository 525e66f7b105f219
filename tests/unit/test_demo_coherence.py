"""What the demo says of the bus, and when its broker is killed."""

from __future__ import annotations

import json
import multiprocessing
import time
from typing import Any, cast

import pytest

pytest.importorskip("zmq")

from tiered.cli.demo.accident import Accident
from tiered.cli.demo.board import Board
from tiered.cli.demo.broker import BrokerProcess
from tiered.cli.demo.coherent import Figures
from tiered.cli.demo.figures import CoherenceReport
from tiered.cli.demo.report import Report
from tiered.cli.demo.units import duration
from tiered.cli.demo.worker import Progress


def test_a_board_is_empty_at_first() -> None:
    board = Board(multiprocessing.get_context("spawn"), 3)
    assert board.size == 3
    assert list(board.versions) == list(board.known) == list(board.changed_at) == [0, 0, 0]


def test_times_have_units() -> None:
    assert [duration(seconds) for seconds in (1234.5, 0.25, 2.5e-4, 3e-7, 0)] == [
        "1,234.5 s",
        "250.0 ms",
        "250.0 µs",
        "300 ns",
        "0 ns",
    ]


# -- The accident ----------------------------------------------------------------------


class Victim:
    killed = 0

    def kill(self) -> None:
        self.killed += 1


def test_the_broker_is_killed_once_when_there_is_enough_to_see_before_and_after() -> None:
    victim = Victim()
    accident = Accident(cast(BrokerProcess, victim), 10)
    accident.happen(3.9)
    assert (victim.killed, accident.happened_at) == (0, None)
    accident.happen(4.0)
    assert victim.killed == 1
    assert accident.happened_at == pytest.approx(time.monotonic(), abs=60)
    accident.happen(5.0)
    assert victim.killed == 1


@pytest.mark.parametrize("seconds", [0.2, 3.9])
def test_the_broker_of_a_short_run_lives(seconds: float) -> None:
    victim = Victim()
    accident = Accident(cast(BrokerProcess, victim), seconds)
    accident.happen(1000)
    assert (victim.killed, accident.happened_at) == (0, None)


# -- The report ------------------------------------------------------------------------


def test_a_report_of_nothing_divides_by_nothing() -> None:
    data = CoherenceReport().data()
    assert data == {
        "changes": 0,
        "unsettled": 0,
        "latency": {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0},
        "broker_killed": False,
        "takeover": None,
        "confirmed": 0,
        "checked": 0,
        "stale": 0,
    }
    assert [line.split()[0] for line in CoherenceReport().lines()] == ["unverified", "stale"]


def figures(**known: Any) -> Figures:
    return Figures(**known)


def test_the_report_takes_the_latest_counts_and_all_latencies() -> None:
    report = CoherenceReport()
    report.take(0, figures(changes=1, checked=10, latencies=[0.001] * 50))
    report.take(0, figures(changes=3, checked=20, latencies=[0.001] * 49, confirmed=5))
    report.take(1, figures(changes=2, checked=30, latencies=[0.5], unsettled=1, confirmed=2))
    data = report.data()
    assert data["latency"]["count"] == 100
    assert 0.001 <= data["latency"]["p50"] <= 0.00107
    assert 0.001 <= data["latency"]["p99"] <= 0.00107
    assert data["latency"]["max"] == 0.5
    assert (data["changes"], data["checked"], data["confirmed"]) == (5, 50, 7)
    assert (data["unsettled"], data["stale"]) == (1, 0)
    assert json.loads(json.dumps(data)) == data
    lines = list(report.lines())
    assert lines[0].startswith("invalidations  5, gone from the other workers after: p50 1.0 ms")
    assert lines[0].endswith("max 500.0 ms")
    assert lines[1:] == [
        "unverified     7 reads, confirmed or made anew",
        "stale reads    none of 50 that were checked",
    ]


def test_a_takeover_is_over_when_the_last_worker_believes() -> None:
    report = CoherenceReport()
    report.killed_at = 100.0
    report.take(0, figures(believed={1: 90.0, 2: 100.5, 3: 107.0}))
    assert report.takeover == 0.5
    report.take(1, figures(believed={1: 90.0, 2: 100.75}))
    assert report.takeover == 0.75
    assert "all in step again after 750.0 ms" in "\n".join(report.lines())
    report.take(2, figures(believed={1: 90.0}))
    assert report.data()["takeover"] is None
    assert "nobody had taken over at the end" in "\n".join(report.lines())


def test_stale_answers_are_told() -> None:
    report = Report(1, 10, "none")
    report.take(Progress(0, figures=figures(checked=10, stale=2)))
    assert report.coherence.stale == 2
    assert report.data()["coherence"]["stale"] == 2
    assert "stale reads    2 of 10 that were checked" in report.table()


# -- The broker ------------------------------------------------------------------------


def test_a_broker_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with (
        BrokerProcess("a secret") as broker,
        pytest.raises(OSError, match="the broker ended at once, with status 1"),
    ):
        broker.start(1.0).await_ready()


def test_a_broker_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiered.cli.demo.broker._START_TIMEOUT", 0.0)
    with (
        BrokerProcess("a secret") as broker,
        pytest.raises(OSError, match="the broker did not start within 0 s"),
    ):
        broker.start(1.0).await_ready()
