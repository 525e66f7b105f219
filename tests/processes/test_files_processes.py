"""Processes that share a directory, and are killed at it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import together
from tests.packed import on_disk
from tiered import FilesCacheClient, InprocCacheClient, TieredInclusiveClient, cached

PATIENCE = 30.0
CAPACITY = 3_000_000
PACKED = 20_000_000
KEYS = 60
PASSING = 8000
"""Keys that are written once in a while, so that packs fill and have to go."""
SPAWN = multiprocessing.get_context("spawn")
STARTS = int(os.environ.get("TIERED_STARTS", "12"))
ROUNDS = int(os.environ.get("TIERED_KILLS", "4"))


def make(path: Path, size: int = CAPACITY, **options: Any) -> FilesCacheClient:
    return FilesCacheClient(size, path, strict=True, **options)


def value_of(key: int, number: int, size: int) -> dict[str, Any]:
    """A value that tells whether it is whole."""
    data = random.Random(number).randbytes(size)
    return {"key": key, "data": bytearray(data), "digest": blake2b(data).digest()}


def is_whole(key: int, value: dict[str, Any]) -> bool:
    return bool(value["key"] == key and blake2b(value["data"]).digest() == value["digest"])


def write_on_and_on(pipe: Connection, path: Path, capacity: int, seed: int) -> None:
    chance = random.Random(seed)
    client = make(path, capacity)
    pipe.send("ready")
    while True:
        key = chance.randrange(KEYS)
        if capacity == PACKED:
            for _ in range(10):
                client.put(("passing", chance.randrange(PASSING)), bytes(12_000), 1000)
        match chance.randrange(12):
            case 0:
                client.delete(key)
            case 1:
                client.add(key, value_of(key, chance.randrange(1000), 3000), 1000)
            case 2:
                client.renew(key, 2000)
            case 3:
                client.expire(key)
            case 4:
                claim = client.claim(key, 10)
                if claim is not None:
                    claim.fill(value_of(key, chance.randrange(1000), 3000), 1000)
            case 5 | 6:
                found = client.get(key, None)
                if found is not None and not is_whole(key, found):
                    pipe.send(f"torn: {key}")
            case _:
                size = chance.choice([100, 5000, 20_000, 150_000])
                client.put(key, value_of(key, chance.randrange(1000), size), 1000)


class Processes:
    """Some of them, which are killed at the end."""

    def __init__(self) -> None:
        self.running: list[Any] = []

    def start(self, target: Any, *args: Any) -> tuple[Any, Connection]:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=target, args=(theirs, *args), daemon=True)
        process.start()
        theirs.close()
        self.running.append(process)
        assert ours.poll(PATIENCE)
        assert ours.recv() == "ready"
        return process, ours

    @contextmanager
    def paused(self) -> Iterator[None]:
        """They stand still, so that files that are looked at one by one are those of one moment."""
        for process in self.running:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + PATIENCE
            while any(_state(process.pid) != "T" for process in self.running):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            yield
        finally:
            for process in self.running:
                os.kill(process.pid, signal.SIGCONT)

    def kill(self) -> None:
        for process in self.running:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join(PATIENCE)
        self.running = []


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    try:
        yield started
    finally:
        started.kill()


@pytest.mark.parametrize("capacity", [CAPACITY, PACKED], ids=["apart", "packed"])
def test_writers_that_are_killed_leave_whole_values(
    tmp_path: Path, processes: Processes, capacity: int
) -> None:
    path = tmp_path / "cache"
    client = make(path, capacity)
    if capacity == PACKED:
        for number in range(2000):
            client.put(("filling", number), bytes(12_000), 1000)
        assert client.stats.evicted
    for round_ in range(ROUNDS):
        seeds = [round_ * 10 + n for n in range(4)]
        pipes = [processes.start(write_on_and_on, path, capacity, seed)[1] for seed in seeds]
        ends = time.monotonic() + random.uniform(0.2, 0.6)
        while time.monotonic() < ends:
            with processes.paused():
                held = on_disk(path)
            assert held <= capacity * 1.05
            assert client.usage <= capacity * 1.05
        processes.kill()
        for pipe in pipes:
            try:
                while pipe.poll():
                    pytest.fail(pipe.recv())
            except EOFError:
                pass
        for key in range(KEYS):
            found, _ = client.get_ttl(key, None)
            assert found is None or is_whole(key, found)
        assert client.stats.corrupt == 0
        client.verify()
        assert client.verify().clean
        assert client.usage == on_disk(path)
        assert not list(path.glob("??/new-*"))
        assert not list(path.glob("??/*.claim"))


def claim_and_stay(pipe: Connection, path: Path) -> None:
    client = make(path)
    claim = client.claim("k", 1000)
    assert claim is not None
    pipe.send("ready")
    pipe.recv()
    pipe.send(claim.fill("late", 100))


def test_a_claim_ends_with_its_holder(tmp_path: Path, processes: Processes) -> None:
    client = make(tmp_path / "cache")
    _, pipe = processes.start(claim_and_stay, tmp_path / "cache")
    assert client.claim("k", 10) is None
    processes.kill()
    pipe.close()  # not before: it would end when nobody holds the other end
    claim = client.claim("k", 10)
    assert claim is not None
    assert claim.fill("v", 10)


@pytest.mark.parametrize("end", ["delete", "expire", "put", "revoke", "clear"])
def test_a_claim_is_ended_from_another_process(
    tmp_path: Path, processes: Processes, end: str
) -> None:
    client = make(tmp_path / "cache")
    client.put("k", "before", 100)
    _, pipe = processes.start(claim_and_stay, tmp_path / "cache")
    if end == "put":
        client.put("k", "v", 100)
    elif end == "clear":
        client.clear()
    else:
        getattr(client, end)("k")
    pipe.send("fill")
    assert pipe.poll(PATIENCE)
    assert pipe.recv() is False
    assert client.get("k", None) != "late"


def ask(pipe: Connection, path: Path, ledger: Path) -> None:
    client = TieredInclusiveClient(InprocCacheClient(100), make(path))

    @cached(client, 60, namespace="stampede")
    def compute(x: int) -> tuple[int, int]:
        with ledger.open("a") as file:
            file.write(f"{x}\n")
        time.sleep(0.05)
        return x, os.getpid()

    pipe.send("ready")
    while True:
        pipe.send(together(partial(lambda x, _: compute(x), pipe.recv()), 4))


def test_one_computation_on_a_host(tmp_path: Path, processes: Processes) -> None:
    ledger = tmp_path / "ledger"
    pipes = [processes.start(ask, tmp_path / "cache", ledger)[1] for _ in range(4)]
    for x in range(5):
        for pipe in pipes:
            pipe.send(x)
        answers = set()
        for pipe in pipes:
            assert pipe.poll(PATIENCE)
            answers |= set(pipe.recv())
        assert len(answers) == 1
    assert ledger.read_text().split() == [str(x) for x in range(5)]


def test_a_forked_child_works_beside_its_parent(tmp_path: Path) -> None:
    client = make(tmp_path / "cache")
    client.put("k", "parent's", 100)
    claim = client.claim("claimed", 100)
    assert claim is not None
    child = os.fork()
    if child == 0:
        good = (
            client.get("k") == "parent's"
            and client.put("c", "child's", 100)
            and client.claim("claimed", 10) is None
            and not claim.fill("from the child", 100)
        )
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.get("c") == "child's"
    assert claim.fill("v", 100)
    assert client.get("claimed") == "v"
    assert client.verify().clean


def start_at_once(pipe: Connection, path: Path, capacity: int, number: int) -> None:
    pipe.send("ready")
    pipe.recv()
    client = make(path, capacity)
    client.put(number, number, 100)
    pipe.send(client.get(number))
    pipe.recv()


@pytest.mark.parametrize("capacity", [CAPACITY, PACKED], ids=["apart", "packed"])
def test_processes_that_start_at_once(tmp_path: Path, processes: Processes, capacity: int) -> None:
    pipes = [processes.start(start_at_once, tmp_path / "c", capacity, n)[1] for n in range(STARTS)]
    for pipe in pipes:
        pipe.send("go")
    for number, pipe in enumerate(pipes):
        assert pipe.poll(PATIENCE)
        assert pipe.recv() == number
    client = make(tmp_path / "c", capacity)
    assert client.get_multi(range(STARTS)) == {n: n for n in range(STARTS)}
    assert client.usage == on_disk(tmp_path / "c")
