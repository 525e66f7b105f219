"""The demo on files, as on machines without a memcached: the same figures, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.demos import Demo, alive, check, demos, until
from tiered.cli.demo import folder, server, shared
from tiered.cli.demo.folder import PrivateFolder
from tiered.cli.main import main


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    """Starts demos on files; none of them outlives the test."""
    with demos("--files") as start:
        yield start


def test_each_key_is_computed_once(demo: Callable[..., Demo]) -> None:
    running = demo("--seconds", "2")
    path = running.folder()
    status, output, errors = running.end()
    assert status == 0, errors
    data = json.loads(output)
    check(data)
    assert data["computations"]["repeated"] == 0
    assert data["hits"]["L1"] > 0
    assert data["hits"]["L2"] > 0
    assert data["shared_tier"] == f"files in {path} (removed at the end)"
    assert not path.exists()


def test_without_a_server_that_answers_and_a_program_to_start_it_runs_on_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared, "answers", lambda address: False)
    monkeypatch.setattr(server, "_binary", lambda: None)
    assert main(["demo", "--workers", "2", "--seconds", "0.5", "--json"]) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    check(data)
    assert data["shared_tier"].startswith("files in /")
    assert "no memcached answers at 127.0.0.1:11211 and none is installed" in data["shared_tier"]
    assert data["shared_tier"] in said.err


def test_workers_stay_in_step_when_the_broker_is_killed(demo: Callable[..., Demo]) -> None:
    status, output, errors = demo("--seconds", "6").end()
    assert status == 0, errors
    data = json.loads(output)
    check(data)
    coherence = data["coherence"]
    assert coherence["broker_killed"]
    assert coherence["takeover"] > 0
    assert coherence["changes"] > 0
    assert coherence["latency"]["count"] > 0
    assert coherence["confirmed"] > 0


@pytest.mark.parametrize("moment", ["before a worker runs", "while workers run"])
@pytest.mark.parametrize(
    ("kind", "whom"),
    [(signal.SIGINT, "group"), (signal.SIGTERM, "process"), (signal.SIGKILL, "process")],
)
def test_however_it_ends_nothing_is_left(
    demo: Callable[..., Demo], moment: str, kind: signal.Signals, whom: str
) -> None:
    running = demo("--seconds", "60")
    path = running.folder()
    assert path.is_dir()
    if moment == "while workers run":
        running.await_words(b"requests")
    family = running.family()
    pid = running.process.pid
    os.killpg(pid, kind) if whom == "group" else os.kill(pid, kind)
    status, _, errors = running.end()
    assert status == (-kind if kind == signal.SIGKILL else 130), errors
    assert until(lambda: not path.exists())
    assert until(lambda: not any(alive(one) for one in family))
    assert not path.exists()  # nor did somebody make it again


# -- The directory -----------------------------------------------------------------------


def test_a_folder_is_private_and_goes() -> None:
    with PrivateFolder() as own:
        path = Path(own.path)
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "below").mkdir()
        (path / "below" / "file").write_text("text")
    assert not path.exists()
    own.__exit__()


def test_a_folder_goes_also_when_somebody_holds_it_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folder, "_REMOVED_WITHIN", 0.01)
    with PrivateFolder() as own:
        held = os.dup(own.hold.fileno())
    assert not Path(own.path).exists()
    os.close(held)


def test_a_folder_stays_while_somebody_holds_it(tmp_path: Path) -> None:
    own = PrivateFolder().__enter__()
    held = os.dup(own.hold.fileno())
    remover = own._remover
    assert remover is not None
    own.hold.close()
    assert remover.poll() is None
    assert Path(own.path).is_dir()
    os.close(held)
    assert remover.wait(60) == 0
    assert not Path(own.path).exists()


def test_a_folder_that_nobody_can_remove_later_is_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(OSError, match="no more processes"):
        PrivateFolder().__enter__()
    assert not list(tmp_path.iterdir())
