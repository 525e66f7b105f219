"""mypy and pyright see what users are promised: see tests/typing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "typing"
ROOT = FOLDER.parent.parent


def mypy(path: Path) -> dict[int, str]:
    """The lines that mypy refuses, and why."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--no-incremental", "--hide-error-context", "--no-pretty", "--output", "json"),
            *("--config-file", "", str(path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        one["line"]: one["message"]
        for one in found
        if one["severity"] == "error" and Path(one["file"]).name == path.name
    }


def pyright(path: Path) -> dict[int, str]:
    """The lines that pyright refuses, and why."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pyright", "--outputjson"),
            *("--pythonpath", sys.executable, str(path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return {
        one["range"]["start"]["line"] + 1: one["message"]
        for one in json.loads(done.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_right_is_accepted(checker: object) -> None:
    assert callable(checker)
    assert checker(FOLDER / "must_pass.py") == {}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_wrong_is_refused(checker: object) -> None:
    assert callable(checker)
    path = FOLDER / "must_fail.py"
    marked = {
        number
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if line.endswith("# refused")
    }
    assert len(marked) > 30
    assert set(checker(path)) == marked
