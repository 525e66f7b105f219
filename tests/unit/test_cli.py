"""The command line: its arguments, the report's arithmetic, and how workers are followed."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import re
import signal
import sys
import sysconfig
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

import tiered
from tiered.cli.demo import arguments as demo
from tiered.cli.demo import command, server, shared, worker
from tiered.cli.demo.report import Report
from tiered.cli.demo.server import PrivateMemcached
from tiered.cli.demo.shared import Files, SharedTier
from tiered.cli.demo.worker import SOURCES, Job, Progress
from tiered.cli.demo.workload import find_modules, module_metrics, python_version, zipf_requests
from tiered.cli.main import main
from tiered.clients.base import CacheClient
from tiered.clients.files import FilesCacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.stats.histogram import TimingHistogram

# -- Arguments -------------------------------------------------------------------------


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_to(parser.add_subparsers())
    return parser.parse_args(["demo", *arguments])


def test_the_options_of_the_demo_have_defaults() -> None:
    options = parsed()
    assert (options.workers, options.seconds, options.memcached) == (4, 10.0, None)
    assert (options.no_memcached, options.files, options.json) == (False, False, False)
    assert options.run is demo.run


def test_the_options_of_the_demo_are_read() -> None:
    options = parsed("--workers", "256", "--seconds", "0.5", "--memcached", "[::1]", "--json")
    assert (options.workers, options.seconds, options.json) == (256, 0.5, True)
    assert options.memcached == "[::1]:11211"


COUNTS = "must be a whole number from 1 to 256, not {!r}"
SECONDS = "must be a positive number of seconds, not {!r}"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *(
            ("--workers", value, COUNTS)
            for value in ("0", "-1", "257", "1.5", "many", "", "²", "9" * 5000)
        ),
        *(
            ("--seconds", value, SECONDS)
            for value in ("0", "-1", "nan", "inf", "86400", "soon", "", "1e400")
        ),
        ("--memcached", "host:port", "address {!r} has the port 'port'; it must be a number"),
        ("--memcached", "host:0", "address {!r} has the port 0; it must be 1 to 65535"),
        ("--memcached", "two words", "address must be 'host', 'host:port', "),
        ("--memcached", "", "address must be 'host', 'host:port', "),
        ("--memcached", "::1", "address {!r} looks like IPv6; write it as '[::1]:port'"),
    ],
)
def test_an_argument_that_cannot_be_right_is_named_with_what_would_be(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", f"{option}={value}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"error: argument {option}: {message.format(value)}" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["demo", "--fast"], "unrecognized arguments: --fast"),
        (["demo", "--workers"], "argument --workers: expected one argument"),
        (["demo", "--memcached", "a:1", "--no-memcached"], "not allowed with argument"),
        (["demo", "--files", "--no-memcached"], "not allowed with argument"),
    ],
)
def test_what_the_command_line_does_not_know_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version"], f"tiered {tiered.__version__}\n"),
        (["--help"], "Tiered caching"),
        (["demo", "--help"], "the one at\n--memcached or 127.0.0.1:11211 if it answers"),
    ],
)
def test_help_and_version_are_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert re.sub(r"\s+", " ", said) in re.sub(r"\s+", " ", output)


# -- The server to use -----------------------------------------------------------------


@pytest.fixture
def nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "answers", lambda address: False)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_binary", lambda: None)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the demo that start no processes."""
    monkeypatch.setattr(command, "find_modules", lambda: ["a module"])
    monkeypatch.setattr(command, "_watch", lambda *_: 0)


@pytest.mark.usefixtures("nothing_answers", "nothing_installed", "no_workers")
@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (
            [],
            "removed at the end: no memcached answers at 127.0.0.1:11211 and none is installed",
        ),
        (["--files"], "removed at the end"),
    ],
)
def test_where_no_memcached_is_the_demo_runs_on_files(
    capsys: pytest.CaptureFixture[str], arguments: list[str], note: str
) -> None:
    assert main(["demo", "--json", *arguments]) == 0
    said = capsys.readouterr()
    tier = json.loads(said.out)["shared_tier"]
    path = re.fullmatch(rf"files in (/\S+) \({note}\)", tier)
    assert path is not None
    assert not Path(path[1]).exists()
    assert tier in said.err


@pytest.mark.usefixtures("nothing_installed")
def test_a_memcached_that_is_not_installed_does_not_start() -> None:
    with pytest.raises(FileNotFoundError, match="memcached is not installed"):
        PrivateMemcached().start()


@pytest.mark.usefixtures("nothing_answers", "no_workers")
def test_a_private_memcached_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "_binary", lambda: "/bin/false")
    assert main(["demo"]) == 1
    assert "tiered demo: memcached ended at once, with status 1\n" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_answers", "no_workers")
def test_an_address_where_nothing_answers_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--memcached", "127.0.0.1:9"]) == 1
    said = capsys.readouterr()
    assert said.err == "tiered demo: no memcached answers at 127.0.0.1:9\n"
    assert said.out == ""


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("arguments", "address", "files"),
    [
        ([], "127.0.0.1:11211", False),
        (["--memcached", "cache"], "cache:11211", False),
        (["--files"], None, True),
        (["--no-memcached"], None, False),
    ],
)
def test_workers_are_told_what_to_share(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], address: str | None, files: bool
) -> None:
    told: list[Job] = []

    def watch(jobs: list[Job], *_: object) -> int:
        told.extend(jobs)
        return 0

    monkeypatch.setattr(shared, "answers", lambda address: True)
    monkeypatch.setattr(command, "_watch", watch)
    assert main(["demo", "--workers", "3", "--seconds", "7", *arguments]) == 0
    assert [job.number for job in told] == [0, 1, 2]
    assert {(job.shared.memcached, job.seconds) for job in told} == {(address, 7.0)}
    assert len({job.shared for job in told}) == 1
    assert (told[0].shared.files is not None) is files
    assert len({job.secret for job in told}) == 1  # else they would not read each other's values
    assert len({job.coherence for job in told}) == 1


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_a_process_end_the_demo_as_ctrl_c_does(kind: signal.Signals) -> None:
    def harmless(*_: object) -> None:
        pass

    before = signal.signal(kind, harmless)
    try:
        with pytest.raises(KeyboardInterrupt), command._ending_on_signals():
            signal.raise_signal(kind)
        assert signal.getsignal(kind) is harmless
    finally:
        signal.signal(kind, before)


# -- Following the workers -------------------------------------------------------------


def progress(
    number: int, computed: list[str], /, *, errors: int = 0, **seconds: list[float]
) -> Progress:
    timings = {source: TimingHistogram() for source in SOURCES}
    for source, durations in seconds.items():
        for one in durations:
            timings[source].record(one)
    return Progress(
        number,
        saved=0.5,
        errors=errors,
        timings={source: (one.counts(), one.total) for source, one in timings.items()},
        computed=computed,
    )


class Screen(io.StringIO):
    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


def test_a_signal_whose_exception_is_dropped_ends_the_demo_all_the_same() -> None:
    before = signal.getsignal(signal.SIGINT)
    ours, theirs = Pipe()
    with ours, theirs, command._ending_on_signals() as look:
        look()  # nothing has come
        with contextlib.suppress(KeyboardInterrupt):  # as in a finaliser
            signal.raise_signal(signal.SIGINT)
        report = Report(1, 1, "")
        with pytest.raises(KeyboardInterrupt):
            command._follow([ours], report, 0.0, io.StringIO(), look=look)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with command._ending_on_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("tty", [False, True])
def test_progress_is_shown_on_one_line_of_a_screen_and_line_by_line_elsewhere(
    tty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(1060.0, 0.001)
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    report, screen = Report(2, 10, "none"), Screen(tty)
    pipes = []
    for number in range(2):
        ours, theirs = Pipe()
        theirs.send(progress(number, [f"module {number}"], L1=[1e-6] * 3))
        theirs.close()  # the worker is done
        pipes.append(ours)
    command._follow(pipes, report, 1000.0, screen)
    for pipe in pipes:
        pipe.close()
    assert report.data()["requests"] == 6
    assert report.data()["computations"]["total"] == 2
    lines = screen.getvalue().splitlines()
    assert screen.getvalue().startswith("\r 60." if tty else " 60.")
    assert screen.getvalue().endswith("\n")
    assert "requests  L1 100.0%" in lines[-1]


class Process:
    """Stands for a worker process."""

    def __init__(self, ends: bool) -> None:
        self.alive = True
        self.ends = ends
        self.done: list[str] = []

    def join(self, timeout: float | None = None) -> None:
        self.done.append("join" if timeout else "join for ever")
        self.alive = self.alive and not self.ends

    def is_alive(self) -> bool:
        return self.alive

    def kill(self) -> None:
        self.done.append("kill")
        self.alive = False


@pytest.fixture
def pipes() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_worker_that_is_gone_is_cleaned_up_after(pipes: tuple[Connection, Connection]) -> None:
    ours, theirs = pipes
    theirs.close()
    process = Process(ends=True)
    command._end(process, ours)
    assert process.done == ["join"]
    assert ours.closed


def test_a_worker_that_does_not_stop_is_killed(
    pipes: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_STOP_WITHIN", 0.0)
    ours, theirs = pipes
    process = Process(ends=False)
    command._end(process, ours)
    assert theirs.recv() == "stop"
    assert process.done == ["join", "kill", "join for ever"]


# -- The report ------------------------------------------------------------------------


def test_a_report_of_nothing_divides_by_nothing() -> None:
    report = Report(2, 10, "none")
    data = report.data()
    assert data["requests"] == data["errors"] == data["time"]["factor"] == 0
    assert data["hits"] == {"L1": 0, "L2": 0}
    assert data["keys"] == {"known": 10, "asked": 0}
    assert all(one["share"] == one["count"] == one["p99"] == 0 for one in data["answers"].values())
    assert report.line() == "  0.0 s          0 requests  "
    assert "time saved     0 ns of 0 ns" in report.table()


def test_the_report_takes_the_latest_of_each_worker_and_all_that_was_computed() -> None:
    report = Report(2, 10, "a server")
    report.seconds = 3.0
    report.take(progress(0, ["a", "b"], L1=[1e-6], computed=[0.25, 0.25]))
    report.take(progress(0, ["c"], L1=[1e-6] * 4, computed=[0.25] * 3))
    report.take(progress(1, ["a"], errors=2, L2=[0.5], waited=[0.5], computed=[1.0]))
    data = report.data()
    assert data["requests"] == 10
    assert data["hits"] == {"L1": 4, "L2": 1}
    assert data["keys"] == {"known": 10, "asked": 3}
    assert data["computations"] == {"total": 4, "distinct_keys": 3, "repeated": 1}
    assert data["errors"] == 2
    assert data["time"]["saved"] == 1.0
    assert data["time"]["spent"] == pytest.approx(2.75, abs=1e-4)
    assert data["time"]["without_cache"] == pytest.approx(3.75, abs=1e-4)
    assert data["time"]["factor"] == pytest.approx(3.75 / 2.75, abs=1e-4)
    assert sum(one["count"] for one in data["answers"].values()) == data["requests"]
    assert sum(one["share"] for one in data["answers"].values()) == pytest.approx(1)
    assert 0.5 <= data["answers"]["L2"]["p50"] <= 0.5 * 1.06
    assert data["python"] == python_version()
    assert json.loads(json.dumps(data)) == data
    assert report.line() == "  3.0 s         10 requests  L1 40.0%  L2 10.0%  waited 10.0%  " + (
        "computed 40.0%"
    )


def test_the_table_shows_what_there_was_in_units_for_people() -> None:
    report = Report(1, 10, "a server")
    report.seconds = 2.0
    report.take(progress(0, ["a", "b"], L1=[5e-7] * 9999, L2=[5e-5], computed=[0.002, 3.0]))
    rows = [line.split() for line in report.table().splitlines()]
    assert rows[0] == ["1", "workers", "for", "2.0", "s,", "shared", "tier:", "a", "server"]
    assert rows[2] == ["answered", "by", "requests", "share", "p50", "p99"]
    assert rows[3][:3] == ["L1", "9,999", "99.97%"]
    assert rows[3][4] == rows[3][6] == "ns"
    assert (rows[4][0], rows[4][4]) == ("L2", "µs")
    assert (rows[5][0], rows[5][4], rows[5][6]) == ("computed", "ms", "s")
    assert rows[6] == ["all", "10,002"]  # and no row for what did not happen
    table = report.table()
    assert "computations   2 for 2 different keys, one each" in table
    assert "cache errors" not in table
    report.take(progress(1, ["a"], errors=1234))
    table = report.table()
    assert "computations   3 for 2 different keys (1 made more than once)" in table
    assert "cache errors   1,234 (all answered nevertheless)" in table


# -- The work --------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the installed modules."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    for folder in ("stdlib", "purelib"):
        (tmp_path / folder).mkdir()
    return tmp_path / "stdlib"


def test_modules_are_found_in_one_order_and_bounded(library: Path) -> None:
    for number in range(20):
        (library / f"standard{number}.py").write_text("x = 1\n")
        (library.parent / "purelib" / f"installed{number}.py").write_text("x = 1\n")
    modules = find_modules(30)
    assert modules == find_modules(30)
    assert len(set(modules)) == len(modules) == 30
    assert modules == find_modules(40)[:30] != sorted(modules)


def test_only_modules_of_a_fair_size_are_taken_and_each_once(library: Path) -> None:
    (library / "good.py").write_text("x = 1\n")
    (library / "empty.py").write_text("")
    (library / "huge.py").write_text("x = 1\n" * 100_000)
    (library / "data.txt").write_text("x = 1\n")
    for folder in ("tests", "test", "site-packages"):
        (library / folder).mkdir()
        (library / folder / "other.py").write_text("x = 1\n")
    assert find_modules() == [str(library / "good.py")]


def test_a_link_that_leads_nowhere_is_passed_over(library: Path) -> None:
    (library / "good.py").write_text("x = 1\n")
    (library / "broken.py").symlink_to(library / "nothing.py")
    assert find_modules() == [str(library / "good.py")]


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("import a\nfrom b import c\nasync def f(): pass\n\nclass D:\n    x = 1\n", (6, 1, 1, 2)),
        ("def f(:\n", (1, 0, 0, 0)),
        ("x = '\0'\n", (1, 0, 0, 0)),
    ],
)
def test_the_metrics_are_those_of_the_file(
    tmp_path: Path, source: str, counts: tuple[int, ...]
) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    metrics = module_metrics(str(path))
    found = (metrics["lines"], metrics["functions"], metrics["classes"], metrics["imports"])
    assert found == counts
    assert metrics["path"] == str(path)
    assert metrics["seconds"] > 0


def test_popular_modules_are_asked_for_as_zipf_says() -> None:
    modules = [str(number) for number in range(10)]
    asked = list(itertools.islice(zipf_requests(modules, seed=3), 50_000))
    assert asked == list(itertools.islice(zipf_requests(modules, seed=3), 50_000))
    assert asked != list(itertools.islice(zipf_requests(modules, seed=4), 50_000))
    first = asked.count("0")
    for rank in range(1, 11):
        share = asked.count(modules[rank - 1]) / first
        assert share == pytest.approx(1 / rank**0.9, rel=0.15)


# -- A worker --------------------------------------------------------------------------


NOTHING = SharedTier("none")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    modules = []
    for number in range(8):
        path = tmp_path / f"module{number}.py"
        path.write_text("x = 1\n")
        modules.append(str(path))
    return Job(0, modules, NOTHING, "a secret", seconds=1000)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """A worker ignores Ctrl-C, and has threads take turns more often; the tests do not."""
    before, interval = signal.getsignal(signal.SIGINT), sys.getswitchinterval()
    yield
    signal.signal(signal.SIGINT, before)
    sys.setswitchinterval(interval)


def test_a_workers_client_has_the_tiers_that_there_are(job: Job) -> None:
    near, far = worker._clients(job)
    assert near.capacity == 2  # too small on purpose, or a second tier would have nothing to do
    assert far is None
    server = SharedTier("a server", memcached="localhost:1")
    assert type(worker._clients(Job(0, job.modules, server, "s", 1))[1]) is MemcachedClient
    files = SharedTier("files", files=Files("/there/is/none"))
    assert type(worker._clients(Job(0, job.modules, files, "s", 1))[1]) is FilesCacheClient
    assert worker._clients(Job(0, ["one"], NOTHING, "s", 1))[0].capacity == 1


def test_a_worker_serves_its_time_and_says_that_it_is_done(
    job: Job, pipes: tuple[Connection, Connection]
) -> None:
    ours, theirs = pipes
    worker.serve(Job(0, job.modules, NOTHING, "a secret", seconds=1e-9), theirs)
    said: Progress = ours.recv()
    assert said.done
    assert len(said.computed) == 1
    assert {source: sum(counts.values()) for source, (counts, _) in said.timings.items()} == {
        "L1": 0,
        "confirmed": 0,
        "L2": 0,
        "waited": 0,
        "computed": 1,
    }


@pytest.mark.parametrize("how", ["told", "gone"])
def test_a_worker_ends_when_it_is_told_and_when_nobody_listens(
    job: Job, pipes: tuple[Connection, Connection], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pipes
    closed: list[CacheClient] = []
    monkeypatch.setattr(InprocCacheClient, "close", lambda client: closed.append(client))
    monkeypatch.setattr(worker, "_REPORT_EVERY", 0.0)
    if how == "told":
        ours.send("stop")
    else:
        ours.close()
    worker.serve(job, theirs)
    assert len(closed) == 1
    if how == "told":
        said: Progress = ours.recv()
        assert not said.done
        assert len(said.computed) == 1
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
