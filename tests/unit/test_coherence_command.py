"""The arguments of ``python -m tiered coherence``, and how it judges what brokers report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("zmq")

from tiered.cli.arguments import byte_size, seconds, whole
from tiered.cli.coherence.health import Health, looked_at
from tiered.cli.main import main
from tiered.coherence.messages import Report, Row
from tiered.coherence.zeromq.inquiry import Inquiry, Reported


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERED_BUS_KEY", raising=False)
    monkeypatch.delenv("TIERED_CHECKSUM_KEY", raising=False)


# -- Arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["broker", "listen", "status", "keys"])
def test_the_help_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["coherence", command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python -m tiered coherence {command}" in said.partition("example")[2]
    assert "exit codes: 0" in said
    if command != "keys":
        assert "everybody on this machine sees it in the" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["broker"],
        ["listen"],
        ["status"],
        ["keys"],
        ["dance"],
        ["broker", "--bind", "ipc://@x", "--detection", "0"],
        ["broker", "--bind", "ipc://@x", "--journal-events", "0"],
        ["broker", "--bind", "ipc://@x", "--key", "a", "--key-file", "b"],
        ["listen", "--connect", "ipc://@x", "--count", "-1"],
        ["listen", "--connect", "ipc://@x", "--timeout", "soon"],
        ["listen", "--connect", "ipc://@x", "--size", "much"],
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["coherence", *arguments])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


BIND, CONNECT = ["--bind", "ipc://@x"], ["--connect", "ipc://@x"]
FILES = [*CONNECT, "--files", "/x"]


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("broker", ["--bind", "nonsense"], "address must be 'tcp://host:port'"),
        ("broker", ["--bind", "tcp://*:5555"], "can be reached by others"),
        ("broker", [*BIND, "--key-file", "/there/is/none"], "No such file"),
        ("broker", [*BIND, "--key-file", os.devnull], "holds no key"),
        ("broker", [*BIND, "--curve-file", os.devnull], "holds no pair of keys"),
        ("broker", [*BIND, "ipc://@x"], "twice"),
        ("listen", ["--connect", "nonsense"], "address must be"),
        ("listen", ["--connect", "tcp://*:5555", "--key", "k"], "names no machine to connect to"),
        ("listen", [*CONNECT, "--namespace", "\udcff"], "surrogates not allowed"),
        ("listen", FILES, "--files needs --namespace"),
        ("listen", [*FILES, "--namespace", "n", "--checksum-key-file", os.devnull], "no key"),
        ("status", ["--connect", "nonsense"], "address must be"),
    ],
)
def test_what_cannot_be_right_is_told_in_one_line(
    command: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coherence", command, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"tiered coherence {command}: ")
    assert words in said.err
    assert said.err.count("\n") == 1


def test_a_curve_file_of_other_contents_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bus.curve"
    file.write_text('public-key = "short"\nsecret-key = "of nobody"\n')
    for command in (["broker", *BIND], ["listen", *CONNECT], ["status", *CONNECT]):
        assert main(["coherence", *command, "--curve-file", str(file)]) == 2
        said = capsys.readouterr().err
        assert "must be a key of 40 characters" in said
        assert "of nobody" not in said
    file.write_bytes(b"\xff\xfe")
    assert main(["coherence", "broker", *BIND, "--curve-file", str(file)]) == 2
    assert "is no text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500k", 500_000), ("2M", 2_000_000), ("3GB", 3 * 10**9), ("1tb", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "1X", "G", "1 G", "\u0661", "9" * 40])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a number of bytes"):
        byte_size(text)


def test_seconds_and_whole_numbers() -> None:
    assert seconds("0.5") == 0.5
    assert whole(1, 10)("10") == 10
    for text in ("", "0", "-1", "nan", "inf", "1e9", "soon"):
        with pytest.raises(argparse.ArgumentTypeError, match="positive number of seconds"):
            seconds(text)
    for text in ("", "0", "11", "-1", "1.0", "\u0661", "9" * 40):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 to 10, not"):
            whole(1, 10)(text)


# -- Health ----------------------------------------------------------------------------


class Brokers:
    """What they answer, one after the other; the last answer stays."""

    def __init__(self, *answers: Sequence[Reported]) -> None:
        self._answers = list(answers)
        self.slept = 0.0
        self.asked = 0

    def ask(self) -> Sequence[Reported]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def look(self) -> tuple[int, set[str]]:
        """The exit code, and what is wrong with the nodes."""
        health = looked_at(cast(Inquiry, self), 1.0, self.sleep)
        rows = [row for broker in health.brokers for row in broker.report.rows]
        return health.exit_code, {health.trouble(row) for row in rows}


def reported(seq: int, *rows: tuple[int, float], epoch: int = 1) -> Reported:
    nodes = [
        Row(bytes([number]) * 8, "node", applied, round(silent * 1000))
        for number, (applied, silent) in enumerate(rows)
    ]
    return Reported("ipc://@x", Report(epoch, 0, seq, 1, 1000, 0, tuple(nodes)))


def test_all_who_are_in_step_are_well() -> None:
    brokers = Brokers([reported(5, (5, 0.2), (5, 0.1))])
    assert brokers.look() == (0, {""})
    assert brokers.asked == 1
    assert Brokers([reported(0)]).look() == (0, set())


def test_without_a_broker_nothing_is_well() -> None:
    assert Brokers([]).look() == (1, set())


def test_who_comes_along_in_time_is_well() -> None:
    # While events come, nobody has told yet that he has the newest.
    brokers = Brokers([reported(5, (3, 0.2))], [reported(9, (4, 0.1))], [reported(12, (5, 0.1))])
    assert brokers.look() == (0, {""})
    assert 0 < brokers.slept <= 1


def test_who_does_not_is_behind() -> None:
    brokers = Brokers([reported(5, (3, 0.2))], [reported(9, (4, 0.1), (9, 0.1))])
    assert brokers.look() == (3, {"behind", ""})
    assert brokers.slept == pytest.approx(1.0)


def test_who_says_nothing_is_silent() -> None:
    assert Brokers([reported(5, (5, 1.01), (5, 1.0))]).look() == (3, {"silent", ""})


def test_a_broker_that_is_another_one_has_events_of_its_own() -> None:
    brokers = Brokers([reported(5, (3, 0.2))], [reported(0, (0, 0.0), epoch=2)])
    assert brokers.look() == (0, {""})


def test_two_brokers_are_one_too_many() -> None:
    one, other = reported(5), reported(1, epoch=2)
    assert Brokers([one, other]).look() == (3, set())
    # At two addresses, one broker is one.
    assert Brokers([one, one]).look() == (0, set())


def test_the_status_needs_no_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As Python has it for a program that was started with a closed one.
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("tiered.cli.coherence.status.time.sleep", _interrupted)
    monkeypatch.setattr("tiered.cli.coherence.health.looked_at", lambda *_: Health([], *_NONE))
    assert main(["coherence", "status", *CONNECT, "--watch"]) == 1
    assert "no broker answers" in capsys.readouterr().err


_NONE: tuple[frozenset[bytes], frozenset[bytes]] = (frozenset(), frozenset())


def _interrupted(_seconds: float) -> None:
    raise KeyboardInterrupt
