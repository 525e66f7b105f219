"""Processes with a region each, which do what a test tells them to."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import SECRET
from tests.fakes import together
from tests.regions import entered
from tiered import InprocCacheClient, MemcachedClient
from tiered.region import NO_VALUE, CacheRegion, make_region

PATIENCE = 30.0
"""Seconds after which a process hangs."""

SPAWN = multiprocessing.get_context("spawn")


class Setup(NamedTuple):
    """What a region is made of, as another process can be told.

    Attributes:
        kind: the name of a backend, ``"client"`` or ``"tiers"``.
        options: arguments of the backend.
    """

    address: str
    prefix: str
    kind: str = "memcached"
    name: str = "a region"
    expiration_time: float | None = None
    options: dict[str, Any] | None = None

    def region(self) -> CacheRegion:
        """Makes it."""
        options = self.options or {}
        region = make_region(self.name)
        if self.kind in ("client", "tiers"):
            far = MemcachedClient([self.address], checksum_key=SECRET, prefix=self.prefix)
            backend = far if self.kind == "client" else [InprocCacheClient(100), far]
            return region.configure(backend, self.expiration_time, options)
        arguments = {"url": self.address, "checksum_key": SECRET, "prefix": self.prefix}
        return region.configure(self.kind, self.expiration_time, {**arguments, **options})


class Answer(NamedTuple):
    """What one caller got.

    Attributes:
        value: with whose number of calls it is, and who made it.
        begun, ended: when it was asked for, and there (monotonic; the same in all processes).
    """

    value: Any
    begun: float
    ended: float


class Worker:
    """What runs in such a process; each method is an order."""

    def __init__(self, setup: Setup, ledger: Path, barrier: Path) -> None:
        self.region = setup.region()
        self._ledger = ledger
        self._barrier = barrier
        self._everybody: threading.Event | None = None

    def _create(self, seconds: float) -> tuple[int, float]:
        """Who made it, and when."""
        if self._everybody is not None:
            assert self._everybody.wait(PATIENCE)
        with self._ledger.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        eventually(lambda: not self._barrier.exists())
        return (os.getpid(), time.monotonic())

    def _asked(self, key: str, seconds: float) -> Answer:
        begun = time.monotonic()
        value = self.region.get_or_create(key, lambda: self._create(seconds))
        return Answer(value, begun, time.monotonic())

    def threads(self, key: str, count: int, seconds: float = 0.0) -> list[Answer]:
        """So many threads ask for *key*."""
        return together(lambda _: self._asked(key, seconds), count)

    def crowd(self, key: str, count: int) -> list[Answer]:
        """So many threads, none of which comes after the value is made: all wait for it first."""
        self._everybody = entered(self.region, count)
        return self.threads(key, count)

    def tasks(self, key: str, count: int, seconds: float = 0.0) -> list[Answer]:
        """So many tasks."""

        async def ask() -> Answer:
            begun = time.monotonic()
            value = await self.region.aio.get_or_create(key, lambda: self._create(seconds))
            return Answer(value, begun, time.monotonic())

        async def main() -> list[Answer]:
            return list(await asyncio.gather(*(ask() for _ in range(count))))

        return asyncio.run(main())

    def both(self, key: str, count: int, seconds: float = 0.0) -> list[Answer]:
        """So many threads, and as many tasks."""
        answers: list[Answer] = []
        other = threading.Thread(target=lambda: answers.extend(self.tasks(key, count, seconds)))
        other.start()
        found = self.threads(key, count, seconds)
        other.join(PATIENCE)
        return found + answers

    def get(self, key: str) -> Any:
        """The value; ``None`` for none."""
        found = self.region.get(key)
        return None if found is NO_VALUE else found

    def set(self, key: str, value: Any) -> None:
        """Set it."""
        self.region.set(key, value)

    def make(self, key: str, value: Any) -> Any:
        """``get_or_create``, with *value* for the new one."""
        return self.region.get_or_create(key, lambda: value)

    def delete(self, key: str) -> None:
        """Delete it."""
        self.region.delete(key)

    def invalidate(self, hard: bool) -> None:
        """Invalidate all."""
        self.region.invalidate(hard)

    def errors(self) -> int:
        """How many were counted."""
        return self.region.stats.errors


def _run(pipe: Connection, *args: Any) -> None:
    worker = Worker(*args)
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        name, given = order
        pipe.send(getattr(worker, name)(*given))


class Process:
    """One of the cluster. Orders are sent by ``begin`` and answered by ``hear``."""

    def __init__(self, *args: Any) -> None:
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_run, args=(theirs, *args), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, order: str, *args: Any) -> None:
        """Let it do something."""
        self._pipe.send((order, args))

    def hear(self) -> Any:
        """What it answers."""
        assert self._pipe.poll(PATIENCE), "a process hangs"
        return self._pipe.recv()

    def waits(self, seconds: float) -> bool:
        """Whether it has not answered by then."""
        return not self._pipe.poll(seconds)

    def ask(self, order: str, *args: Any) -> Any:
        """Both."""
        self.begin(order, *args)
        return self.hear()

    def kill(self) -> None:
        """``SIGKILL``."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.join(PATIENCE)

    def end(self) -> None:
        """Away with it."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(1)
        self._process.kill()
        self._process.join(PATIENCE)


class Cluster:
    """Processes with the same setup, which leave files in *folder*; a context manager."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._barrier = folder / "barrier"
        self._processes: list[Process] = []

    def close(self) -> None:
        """Let creators wait, who have begun, until :meth:`open`."""
        # A file: the events of multiprocessing hang where one who waits is killed.
        self._barrier.touch()

    def open(self) -> None:
        """Let them go on."""
        self._barrier.unlink(missing_ok=True)

    def start(self, count: int, **changes: Any) -> list[Process]:
        """So many processes, whose setup has these *changes*."""
        setup = self.setup._replace(**changes)
        new = [Process(setup, self._ledger, self._barrier) for _ in range(count)]
        self._processes += new
        for one in new:
            assert one.hear() == "ready"
        return new

    def await_creators(self, count: int = 1) -> None:
        """Wait until so many have begun."""
        eventually(lambda: len(self.creators) >= count)

    @property
    def creators(self) -> list[int]:
        """Who has made a value, or begun to."""
        return [int(line) for line in self._ledger.read_text().split()]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        for one in self._processes:
            one.end()


def eventually(holds: Callable[[], Any]) -> Any:
    """What *holds* returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.002)
    return found


def crowds(processes: list[Process], order: str, *args: Any) -> Iterator[Answer]:
    """What all of *processes* answer to one order at a time."""
    for one in processes:
        one.begin(order, *args)
    for one in processes:
        yield from one.hear()
