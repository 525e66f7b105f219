"""The demo as people run it, and as it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.integration import demos
from tests.integration.demos import alive
from tiered.cli.demo.server import PrivateMemcached

COMMAND = [sys.executable, "-m", "tiered", "demo"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False
    )


def test_with_a_private_server_each_key_is_computed_once(memcached: PrivateMemcached) -> None:
    done = run("--workers", "3", "--seconds", "2", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["hits"]["L1"] > 0
    assert data["hits"]["L2"] > 0
    computations = data["computations"]
    assert computations["total"] == computations["distinct_keys"] == data["keys"]["asked"] > 0
    assert computations["repeated"] == 0
    assert data["requests"] == sum(one["count"] for one in data["answers"].values())
    assert data["answers"]["L1"]["p50"] <= data["answers"]["L1"]["p99"]
    assert data["time"]["saved"] > 0
    assert data["errors"] == 0
    assert "requests" in done.stderr  # progress, out of the data's way


def test_with_a_server_of_ones_own(memcached: PrivateMemcached) -> None:
    done = run("--workers", "1", "--seconds", "0.5", "--memcached", memcached.address)
    assert done.returncode == 0, done.stderr
    assert f"memcached at {memcached.address}" in done.stdout
    assert "computations" in done.stdout
    assert "one each" in done.stdout


def test_without_a_server_it_says_so_and_runs() -> None:
    done = run("--workers", "2", "--seconds", "0.5", "--no-memcached")
    assert done.returncode == 0, done.stderr
    assert "each worker has only its own cache" in done.stdout
    assert "made more than once" in done.stdout


def test_a_server_that_does_not_answer_is_an_error() -> None:
    done = run("--memcached", "127.0.0.1:1")
    assert done.returncode == 1
    assert "no memcached answers at 127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--workers", "0"],
        ["--workers", "many"],
        ["--seconds", "-1"],
        ["--seconds", "soon"],
        ["--memcached", "host:port"],
        ["--memcached", "localhost:1", "--no-memcached"],
        ["--files", "--no-memcached"],
        ["--no-such-option"],
    ],
)
def test_options_that_cannot_be_right_are_refused(options: list[str]) -> None:
    done = run(*options)
    assert done.returncode == 2
    assert options[0] in done.stderr


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


until = partial(demos.until, patience=15.0)


def tree(pid: int) -> list[int]:
    below = [pid]
    for one in below:
        below += children_of(one) if alive(one) else []
    return below[1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_it_ends_nothing_is_left(memcached: PrivateMemcached, number: int) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "--seconds", "60", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        # A server, two workers, and the helper of Python's spawn.
        assert until(lambda: len(tree(demo.pid)) >= 3)
        assert demo.stdout is not None
        for line in demo.stdout:
            if "requests" in line:
                break
        below = tree(demo.pid)
        os.kill(demo.pid, number)
        output, errors = demo.communicate(timeout=20)
    finally:
        demo.kill()
        demo.wait()
    assert until(lambda: not any(alive(pid) for pid in below)), below
    if number != signal.SIGKILL:
        assert demo.returncode == 130
        assert "interrupted" in output
        assert "computations" in output  # what was measured until then
        assert errors == ""


def test_the_version_and_the_help_are_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tiered", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("tiered 0.")
    help_ = run("--help")
    assert help_.returncode == 0
    for option in ("--workers", "--seconds", "--memcached", "--files", "--no-memcached", "--json"):
        assert option in help_.stdout
