"""The processes of a cluster, and what is done to them from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.integration.coherence.network import die_with_parent
from tests.integration.coherence.reception import Orders

__all__ = ["Child", "Process", "Worker", "eventually"]


class Process:
    """One that was started from here.

    Attributes:
        killed: whether it was, by a test.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, host: list[str]) -> None:
        self.name = name
        self.killed = False
        self._said = folder / f"{name}.out"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*host, sys.executable, "-W", "error", *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._said.read_text()

    @property
    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def freeze(self) -> None:
        """It stops, wherever it is."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """``SIGKILL``."""
        self.killed = True
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """``SIGTERM``."""
        self._process.terminate()

    def status(self, deadline: float) -> int | None:
        """How it has ended, ``None`` if it has not by *deadline*; then it says why."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(0.1, deadline - time.monotonic()))
        self.excuse()
        return None

    def excuse(self) -> str:
        """What it says of where its threads are, after all that it has said before."""
        self._process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        return self.said


class Worker(Process, Orders):
    """A node in a process of its own, which reports at *path*."""

    def __init__(self, name: str, path: str, folder: Path, host: list[str]) -> None:
        Orders.__init__(self, name)
        command = ["-m", "tests.integration.coherence.node", path, name]
        Process.__init__(self, name, command, folder, host)


class Child(Orders):
    """A node that was forked from another."""

    def __init__(self, name: str, parent: Worker) -> None:
        super().__init__(name)
        self._parent = parent
        self.pid = 0

    def terminate(self) -> None:
        """It is given no more orders."""
        self.close()

    def status(self, deadline: float) -> int | None:
        """As of a process; 0 also if its parent is gone, whom it would tell."""
        while time.monotonic() < deadline:
            if self._parent.killed:
                status = None if running(self.pid) else 0
            else:
                status = self._parent.ask("reap", self.pid)
            if status is not None:
                return int(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        return None


def running(pid: int) -> bool:
    """Whether the process has not ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(holds: Callable[[], Any], timeout: float, words: Callable[[], str]) -> None:
    """Wait until *holds*; fail with *words* after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, words()
        time.sleep(0.05)
