"""One process of a cluster, what is done to it from outside, and the orders that it is given."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from tests.integration.coherence.network import die_with_parent
from tests.integration.coherence.settings import State

__all__ = ["PATIENCE", "Orders", "Process", "Worker", "eventually"]

PATIENCE: Final = 20.0
"""Seconds after which a process hangs."""


class Process:
    """One of the processes of a cluster."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, host: list[str]) -> None:
        self.name = name
        self._said = folder / f"{name}.out"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*host, sys.executable, "-W", "error", *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        self.killed = False

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

    def status(self, timeout: float) -> int | None:
        """How it has ended, ``None`` if it has not within *timeout* seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        self._process.send_signal(signal.SIGUSR1)  # where its threads are
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        return None


class Orders:
    """The orders that a node is given over a connection."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection

    def begin(self, order: str, *given: Any) -> None:
        """Have it do something."""
        self._connection.send((order, given))

    def hear(self) -> Any:
        """What it answers."""
        assert self._connection.poll(PATIENCE), f"{self.name} hangs"
        return self._connection.recv()

    def ask(self, order: str, *given: Any) -> Any:
        """Both."""
        self.begin(order, *given)
        return self.hear()

    @property
    def state(self) -> State:
        """How it stands."""
        state = self.ask("state")
        assert isinstance(state, State)
        return state

    def close(self) -> None:
        """There are no more orders: it ends."""
        self._connection.close()


class Worker(Process, Orders):
    """A node in a process of its own."""

    def __init__(
        self, name: str, path: str, folder: Path, host: list[str], accept: Callable[[str], Any]
    ) -> None:
        command = ["-m", "tests.integration.coherence.node", path, name]
        Process.__init__(self, name, command, folder, host)
        try:
            Orders.__init__(self, name, accept(name))
        except BaseException:
            self.kill()
            raise


def eventually(holds: Callable[[], Any], timeout: float, words: Callable[[], str]) -> None:
    """Wait until *holds*; fail with *words* after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, words()
        time.sleep(0.05)
