"""Looking at a directory of values without taking part in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.conftest import SECRET
from tests.opened import Opened
from tiered import FilesCacheClient
from tiered.clients.files.counts import Counts
from tiered.clients.files.inspection import Held, Inspection
from tiered.clients.files.names import Place
from tiered.errors import CorruptValue, StorageError
from tiered.keys.wire import key_names
from tiered.testing import ManualClock

SIZE = 20_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def client(path: Path, clock: ManualClock) -> Iterator[FilesCacheClient]:
    with FilesCacheClient(SIZE, path, clock=clock) as client:
        client.put("small", {"a": 1}, 100)
        client.put("large", numpy.arange(10_000), 200)
        yield client


@pytest.fixture
def look(path: Path, client: FilesCacheClient, clock: ManualClock) -> Iterator[Inspection]:
    with Inspection(path, clock=clock) as inspection:
        yield inspection


def found(inspection: Inspection, key: Any) -> Held:
    held = inspection.find(key)
    assert held is not None
    return held


def test_it_tells_what_the_client_counts(look: Inspection, client: FilesCacheClient) -> None:
    assert look.used == client.usage
    assert look.capacity == SIZE
    assert look.packs.packs == 1
    assert look.is_private
    assert not look.keyed


def test_values_and_when_they_were_made(look: Inspection, clock: ManualClock) -> None:
    clock.advance(30)
    small, large = sorted(look.values(), key=lambda held: held.size)
    assert small == found(look, "small") == look.find_at(small.digest)
    assert large == found(look, "large") == look.find_at(large.digest)
    assert small.packed
    assert not large.packed
    for held, ttl in ((small, 100), (large, 200)):
        assert held.header is not None
        assert look.now - held.header.created == pytest.approx(30)
        assert held.header.expires - look.now == pytest.approx(ttl - 30)
    assert look.value(small) == {"a": 1}
    assert look.value(large).sum() == sum(range(10_000))
    assert look.find("nobody") is None


@pytest.mark.parametrize("step", [-10_000, 10_000])
def test_the_time_is_that_of_the_directory_and_not_of_a_clock_that_was_set(
    path: Path, client: FilesCacheClient, clock: ManualClock, step: float
) -> None:
    clock.step_wall(step)
    with Inspection(path, clock=clock) as inspection:
        held = found(inspection, "small")
        assert held.header is not None
        assert held.header.expires - inspection.now == pytest.approx(100)


def test_what_was_used_last_is_known(
    path: Path, client: FilesCacheClient, clock: ManualClock
) -> None:
    for order in (("small", "large"), ("large", "small")):
        for key in order:
            client.get(key)
        with Inspection(path, clock=clock) as inspection:
            first, last = (found(inspection, key).used for key in order)
        assert first < last


def test_nothing_is_opened_to_be_written_or_locked(
    path: Path, client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open
    names: list[Any] = []

    def watched(name: Any, flags: int, *arguments: Any, **options: Any) -> int:
        assert flags & os.O_ACCMODE == os.O_RDONLY
        assert not flags & (os.O_CREAT | os.O_TRUNC)
        names.append(name)
        return opened(name, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", watched)
    with Inspection(path) as inspection:
        for held in list(inspection.values()):
            inspection.value(held)
    assert "locks" not in names
    assert {"counts", "lanes", "packs"} <= set(names)


def test_nothing_stays_open(path: Path, client: FilesCacheClient) -> None:
    opened = Opened(path)
    with Inspection(path) as inspection:
        list(inspection.values())
    assert not opened.descriptors
    (path / "lanes").write_bytes(b"")
    with pytest.raises(StorageError, match="'lanes' is of another format"), Inspection(path):
        pass
    with pytest.raises(FileNotFoundError), Inspection(path / "no"):
        pass
    assert not opened.descriptors
    assert Inspection.capacity_of(path) == SIZE


def test_a_directory_of_large_values_only(tmp_path: Path, clock: ManualClock) -> None:
    with FilesCacheClient(1_000_000, tmp_path / "c", clock=clock) as client:
        client.put("k", "v", 10)
        with Inspection(tmp_path / "c", clock=clock) as inspection:
            [held] = inspection.values()
            assert (held.packed, inspection.value(held)) == (False, "v")
            assert inspection.used == client.usage == 4096


def test_links_and_strangers_are_passed_over(
    path: Path, client: FilesCacheClient, look: Inspection, tmp_path: Path
) -> None:
    [file] = path.glob("[0-9a-f][0-9a-f]/*")
    other = Place.of(b"\0another")
    stranger = path / other.path
    stranger.parent.mkdir(exist_ok=True)
    stranger.symlink_to(file)
    (file.parent / "a-file-of-somebody").touch()
    assert {held.name for held in look.values()} == {
        held.name for held in (found(look, "small"), found(look, "large"))
    }
    stranger.unlink()
    stranger.write_bytes(file.read_bytes())  # swapped: it tells another's name
    [strange] = [held for held in look.values() if held.name is None]
    assert strange.digest == other.file
    assert not look.is_signed_as_told(strange)
    with pytest.raises(CorruptValue):
        look.value(strange)


def test_what_is_gone_is_told(look: Inspection, client: FilesCacheClient) -> None:
    held = [found(look, key) for key in ("small", "large")]
    client.clear()
    for one in held:
        with pytest.raises(FileNotFoundError):
            look.value(one)


def test_signatures_are_judged_by_the_secret(path: Path, clock: ManualClock) -> None:
    with FilesCacheClient(SIZE, path, checksum_key=SECRET, clock=clock) as client:
        client.put("small", 1, 10)
        client.put("large", numpy.ones(10_000), 10)
    for secret, fits in ((None, False), ("wrong", False), (SECRET, True), (["new", SECRET], True)):
        with Inspection(path, checksum_key=secret, clock=clock) as inspection:
            assert inspection.keyed == (secret is not None)
            for key in ("small", "large"):
                held = found(inspection, key)
                assert inspection.is_signed_as_told(held) is fits
                if not fits:
                    with pytest.raises(CorruptValue):
                        inspection.value(held)


def test_progress_comes_to_its_end(look: Inspection, client: FilesCacheClient) -> None:
    for run in (
        lambda told: list(look.values(told)),
        lambda told: client.verify(progress=told),
    ):
        seen: list[tuple[int, int]] = []
        run(lambda done, every, seen=seen: seen.append((done, every)))
        assert seen == [(number, len(seen)) for number in range(1, len(seen) + 1)]


def test_verifying_without_the_contents(client: FilesCacheClient, path: Path) -> None:
    [file] = path.glob("[0-9a-f][0-9a-f]/*")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert client.verify(contents=False).clean
    assert file.exists()
    assert client.verify(repair=False).unreadable == 1


def test_it_looks_while_others_write(path: Path) -> None:
    names = key_names(b"")
    known = {names(f"k{number}").signed[1:] for number in range(500)}
    ended = threading.Event()

    def write() -> None:
        with FilesCacheClient(SIZE, path, strict=True) as client:
            number = 0
            while not ended.is_set():
                key = f"k{number % 500}"
                client.put(key, (key, b"x" * (number % 3000)), 100)
                if number % 7 == 0:
                    client.delete(f"k{(number + 250) % 500}")
                number += 1

    with FilesCacheClient(SIZE, path) as client:
        client.put("k0", ("k0", b""), 100)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        with Inspection(path) as inspection:
            for _ in range(30):
                for held in inspection.values():
                    assert held.name in known
                    assert held.header is not None
                    try:
                        key, _ = inspection.value(held)
                    except FileNotFoundError:
                        continue
                    assert names(key).signed[1:] == held.name
    finally:
        ended.set()
        writer.join()


def test_the_capacity_is_noted_by_who_makes_room(
    path: Path, client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []
    monkeypatch.setattr(Counts, "bound", lambda _, capacity: noted.append(capacity))
    client.get("small")
    client.put("another large one", numpy.ones(10_000), 10)
    assert noted == [SIZE]
