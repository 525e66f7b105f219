"""Runs of the demo, as a program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Demo", "alive", "check", "demos", "until"]

PATIENCE = 60.0


def until(condition: Callable[[], object], patience: float = PATIENCE) -> bool:
    """Whether *condition* came to hold within *patience* seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


class Demo:
    """``python -m tiered demo`` in a session of its own, as a shell starts it."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tiered", "demo", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.said = b""

    def await_words(self, words: bytes) -> None:
        """Until *words* were said on standard error."""
        stream = self.process.stderr
        assert stream is not None
        while words not in self.said:
            assert wait([stream.fileno()], PATIENCE), self.said
            part = os.read(stream.fileno(), 65536)
            assert part, self.said
            self.said += part

    def server(self) -> str:
        """The address of its private memcached."""
        self.await_words(b"\n")
        words = self.said.splitlines()[0].decode()
        assert "a private memcached at " in words
        return words.rpartition(" ")[2]

    def folder(self) -> Path:
        """Of its files."""
        self.await_words(b"\n")
        words = self.said.splitlines()[0].decode()
        assert "shared tier: files in " in words
        return Path(words.split()[4])

    def end(self) -> tuple[int, bytes, bytes]:
        """Status, output and errors, once it has ended."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, self.said + errors

    def family(self) -> list[int]:
        """The processes that it has started, and theirs."""
        found = [self.process.pid]
        for pid in found:
            path = Path(f"/proc/{pid}/task/{pid}/children")
            found += [int(child) for child in path.read_text().split()] if path.exists() else []
        return found[1:]


@contextmanager
def demos(*options: str) -> Iterator[Callable[..., Demo]]:
    """Starts demos of two workers, with these options and more; none of them outlives it."""
    started: list[Demo] = []

    def start(*more: str) -> Demo:
        started.append(Demo("--workers", "2", "--json", *options, *more))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.process.kill()
            one.process.communicate()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check(data: dict[str, Any]) -> None:
    """What holds for every run of two workers."""
    answered, computations, spent = data["answers"], data["computations"], data["time"]
    assert data["workers"] == 2
    assert data["requests"] == sum(one["count"] for one in answered.values()) > 0
    assert sum(one["share"] for one in answered.values()) == pytest.approx(1)
    assert data["hits"] == {tier: answered[tier]["count"] for tier in ("L1", "L2")}
    assert answered["computed"]["count"] == computations["total"]
    assert computations["distinct_keys"] == data["keys"]["asked"] <= data["keys"]["known"]
    assert computations["repeated"] == computations["total"] - computations["distinct_keys"]
    assert all(0 < one["p50"] <= one["p99"] for one in answered.values() if one["count"])
    assert spent["without_cache"] == pytest.approx(spent["spent"] + spent["saved"])
    assert data["errors"] == 0
    assert data["coherence"]["stale"] == 0
    assert data["coherence"]["checked"] == data["requests"]
