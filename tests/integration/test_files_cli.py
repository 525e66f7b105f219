"""``python -m tiered files`` as processes: once each, and how they end early."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tiered import FilesCacheClient

SIZE = 100_000_000
PATIENCE = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cache"
    with FilesCacheClient(SIZE, path) as client:
        for number in range(5000):
            client.put(f"user:{number}", number, 3600)
        client.put("stale", 0, -10)
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tiered", "files", *arguments]


def said(*arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, "TIERED_CHECKSUM_KEY": "", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_each_command_is_a_process(path: Path) -> None:
    where = str(path)
    status, out, err = said("usage", where, "--json")
    assert (status, err) == (0, "")
    assert (json.loads(out)["values"], json.loads(out)["size"]) == (5001, SIZE)
    assert said("get", where, "user:17") == (0, "17\n", "")
    assert said("get", where, "user:x")[0] == 1
    status, out, err = said("ls", where, "--prefix", "user:12", "--limit", "2")
    assert (status, err) == (0, "")
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["'user:12'", "'user:120'"]
    assert said("purge", where) == (0, "removed 1 value\n", "")
    status, out, err = said("verify", where, "--repair")
    assert (status, out.splitlines()[-1]) == (0, "all is sound")
    assert err == "tiered files verify: nobody can write until this is done\n"
    assert said("purge", where, "--all")[:2] == (0, "removed 5,000 values\n")
    status, out, err = said("ls", where + "/no")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_a_reader_who_has_seen_enough_is_no_error(path: Path) -> None:
    with subprocess.Popen(
        command("ls", str(path), "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 0


def test_ctrl_c_ends_it_and_leaves_nothing_locked(path: Path) -> None:
    # It asks, and waits for an answer; the locks of a scan are held by a test of its own.
    leader, follower = os.openpty()
    with subprocess.Popen(
        command("purge", str(path), "--all"), stdin=follower, stderr=subprocess.PIPE
    ) as process:
        os.close(follower)
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], PATIENCE)[0]
        assert b"remove all values in " in os.read(process.stderr.fileno(), 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == b""
    os.close(leader)
    with FilesCacheClient(SIZE, path, strict=True) as client:
        assert client.get("user:17") == 17
        assert client.put("user:17", 18, 10)
