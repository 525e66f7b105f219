"""The command line's parts: the choice of a server, the report, the workload."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from tiered.cli.demo import server, shared, worker
from tiered.cli.demo.report import Report
from tiered.cli.demo.server import PrivateMemcached, answers
from tiered.cli.demo.shared import SharedTier, shared_tier
from tiered.cli.demo.worker import Job, Progress
from tiered.cli.demo.workload import find_modules, module_metrics, zipf_requests
from tiered.decorators import cached
from tiered.stats.histogram import TimingHistogram


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"no_memcached": False, "files": False, "memcached": None, **given})


def test_without_a_server_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "answers", lambda address: False)
    monkeypatch.setattr(PrivateMemcached, "installed", staticmethod(lambda: False))
    with contextlib.ExitStack() as cleanup:
        tier = shared_tier(options(), cleanup)
        assert tier.memcached is None
        assert tier.files is not None
        assert Path(tier.files.path).is_dir()
        assert tier.words.startswith(
            f"files in {tier.files.path} (removed at the end: no memcached"
        )
    assert not Path(tier.files.path).exists()


def test_a_server_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "answers", lambda address: True)
    with contextlib.ExitStack() as cleanup:
        assert shared_tier(options(), cleanup).memcached == "127.0.0.1:11211"
        given = options(memcached="10.0.0.1:5")
        told = SharedTier("memcached at 10.0.0.1:5", memcached="10.0.0.1:5")
        assert shared_tier(given, cleanup) == told
        nothing = shared_tier(options(no_memcached=True), cleanup)
        assert (nothing.memcached, nothing.files, nothing.client("s")) == (None, None, None)


def test_answers_asks(memcached: PrivateMemcached) -> None:
    assert answers(memcached.address)
    assert not answers("127.0.0.1:1")
    assert not answers("nonsense")


def test_a_server_that_cannot_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "_binary", lambda: None)
    assert not PrivateMemcached.installed()
    with pytest.raises(FileNotFoundError, match="not installed"):
        PrivateMemcached().start()
    monkeypatch.setattr(server, "_binary", lambda: "/bin/false")
    with pytest.raises(OSError, match="ended at once, with status 1"):
        PrivateMemcached().start()
    monkeypatch.setattr(server, "_binary", lambda: "/bin/cat")
    silent = PrivateMemcached()
    silent.stop()


def progress(number: int, keys: list[str], **seconds: list[float]) -> Progress:
    timings = {}
    for source in worker.SOURCES:
        histogram = TimingHistogram()
        for one in seconds.get(source, []):
            histogram.record(one)
        timings[source] = (histogram.counts(), histogram.total)
    return Progress(number, saved=1.0, timings=timings, computed=keys)


def test_the_report_adds_up() -> None:
    report = Report(2, 10, "a server")
    report.seconds = 2.0
    assert report.data()["requests"] == 0
    report.take(progress(0, ["a", "b"], L1=[1e-6] * 3, computed=[0.1, 0.1]))
    report.take(progress(0, [], L1=[1e-6] * 5, computed=[0.1, 0.1]))
    report.take(progress(1, ["b"], L2=[1e-4], waited=[0.05], computed=[0.1]))
    data = report.data()
    assert data["requests"] == 10
    assert data["hits"] == {"L1": 5, "L2": 1}
    assert data["computations"] == {"total": 3, "distinct_keys": 2, "repeated": 1}
    assert data["time"]["saved"] == 2.0
    assert data["time"]["without_cache"] == pytest.approx(data["time"]["spent"] + 2.0)
    assert data["answers"]["L2"]["share"] == 0.1
    table = report.table()
    assert "3 for 2 different keys (1 made more than once)" in table
    assert "L1                       5   50.00%" in table
    assert "10 requests" in report.line()
    one = progress(1, [], L2=[1e-9])
    one.errors = 3
    report.take(one)
    assert "cache errors   3" in report.table()


def test_the_workload_is_real(tmp_path: Path) -> None:
    modules = find_modules(20)
    assert len(modules) == len(set(modules)) == 20
    assert find_modules(20) == modules
    source = tmp_path / "module.py"
    source.write_text("import os\nfrom os import path\nclass A:\n    def f(self):\n        pass\n")
    metrics = module_metrics(str(source))
    assert metrics["seconds"] > 0
    counts = (metrics["lines"], metrics["functions"], metrics["classes"], metrics["imports"])
    assert counts == (5, 1, 1, 2)
    source.write_text("not python at all (")
    assert module_metrics(str(source))["functions"] == 0


def test_requests_are_zipf_distributed() -> None:
    modules = [str(number) for number in range(100)]
    asked = list(itertools.islice(zipf_requests(modules, seed=1), 20_000))
    counts = [asked.count(module) for module in modules]
    assert counts[0] > 5 * counts[20] > 0
    assert asked == list(itertools.islice(zipf_requests(modules, seed=1), 20_000))


def test_a_worker_reports_and_stops_when_told() -> None:
    ours, theirs = Pipe()
    job = Job(0, find_modules(5), SharedTier("none"), "secret", seconds=1000)
    ours.send("stop")
    worker._serve(job, cached(worker._clients(job)[0], 60)(module_metrics), None, theirs)
    said = ours.recv()
    assert not said.done
    assert sum(sum(counts.values()) for counts, _ in said.timings.values()) > 0
    assert set(said.computed) <= set(job.modules)
    assert said.computed


def test_a_worker_whose_parent_is_gone_ends(memcached: PrivateMemcached) -> None:
    ours, theirs = Pipe()
    ours.close()
    previous = signal.getsignal(signal.SIGINT)
    try:
        tier = SharedTier("a server", memcached=memcached.address)
        worker.serve(Job(0, find_modules(5), tier, "secret", 1000), theirs)
    finally:
        signal.signal(signal.SIGINT, previous)
