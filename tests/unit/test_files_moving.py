"""Values that become small, or large, while they are read: one of the two is found."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiered import FilesCacheClient
from tiered.clients.files import entries
from tiered.clients.files.entries import occupied, open_to_read
from tiered.clients.files.locks import Locks
from tiered.clients.files.names import LANE_BITS, Place
from tiered.coherence.names import name_of
from tiered.testing import ManualClock

SIZE = 20_000_000
SMALL, LARGE = "small", "large" * 10_000
Reader = Callable[[FilesCacheClient], object]
READERS: dict[str, Reader] = {
    "get": lambda client: client.get("k", None),
    "version": lambda client: client.version("k"),
    "versioned": lambda client: client.versioned("k").entry,
    "explain": lambda client: client.explain("k").found,
}


def make(path: Path, clock: ManualClock) -> FilesCacheClient:
    return FilesCacheClient(SIZE, path, clock=clock)


class Passerby:
    """Reads while something else goes on, in a thread: to its end, or until it has to wait."""

    def __init__(self, client: FilesCacheClient, read: Reader) -> None:
        self.found: list[object] = []
        self._began = False
        self._came_on = threading.Event()
        self._client = client
        self._thread = threading.Thread(target=self._run, args=(read,))

    def pass_by(self) -> None:
        """Until it has come as far as it can; once, though garbage may have files to remove too."""
        if self._began:
            return
        self._began = True
        self._thread.start()
        assert self._came_on.wait(60)

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._client.close()

    def has_to_wait(self) -> None:
        if threading.current_thread() is self._thread:
            self._came_on.set()

    def _run(self, read: Reader) -> None:
        try:
            self.found.append(read(self._client))
        finally:
            self._came_on.set()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("moment", ["it has left its pack", "it is renamed", "its file is gone"])
def test_who_reads_in_the_middle_finds_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, kind: str
) -> None:
    clock = ManualClock()
    before, after = (LARGE, SMALL) if moment == "its file is gone" else (SMALL, LARGE)
    writer, reader = make(tmp_path / "c", clock), make(tmp_path / "c", clock)
    assert writer.put("k", before, 100)
    assert reader.get("k") == before
    passerby = Passerby(reader, READERS[kind])
    take, rename, unlink = Locks._take, os.rename, os.unlink

    def take_late(self: Locks, *arguments: Any) -> bool:
        passerby.has_to_wait()
        return take(self, *arguments)

    def occupied_late(shard: int, file: str) -> int:
        passerby.pass_by()
        return occupied(shard, file)

    def rename_late(*arguments: Any, **options: Any) -> None:
        passerby.pass_by()
        rename(*arguments, **options)

    def unlink_early(*arguments: Any, **options: Any) -> None:
        unlink(*arguments, **options)
        passerby.pass_by()

    monkeypatch.setattr(Locks, "_take", take_late)
    if moment == "it has left its pack":
        monkeypatch.setattr(entries, "occupied", occupied_late)
    elif moment == "it is renamed":
        monkeypatch.setattr(os, "rename", rename_late)
    else:
        monkeypatch.setattr(os, "unlink", unlink_early)
    assert writer.put("k", after, 100)
    passerby.end()
    assert len(passerby.found) == 1
    assert passerby.found[0]
    if kind == "get":
        assert passerby.found[0] in (before, after)
    assert writer.get("k") == after
    assert writer.stats.errors == reader.stats.errors == 0


@pytest.mark.parametrize("moment", ["it is renamed", "its file is gone"])
def test_who_makes_it_stale_by_its_name_in_the_middle_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    clock = ManualClock()
    before, after = (LARGE, SMALL) if moment == "its file is gone" else (SMALL, LARGE)
    writer, other = make(tmp_path / "c", clock), make(tmp_path / "c", clock)
    assert writer.put("k", before, 100)
    assert other.get("k") == before
    passerby = Passerby(other, lambda client: client.by_name.outdate(name_of("k")))
    take, rename, unlink = Locks._take, os.rename, os.unlink

    def take_late(self: Locks, *arguments: Any) -> bool:
        passerby.has_to_wait()
        return take(self, *arguments)

    def rename_late(*arguments: Any, **options: Any) -> None:
        passerby.pass_by()
        rename(*arguments, **options)

    def unlink_early(*arguments: Any, **options: Any) -> None:
        unlink(*arguments, **options)
        passerby.pass_by()

    with monkeypatch.context() as patch:
        patch.setattr(Locks, "_take", take_late)
        if moment == "it is renamed":
            patch.setattr(os, "rename", rename_late)
        else:
            patch.setattr(os, "unlink", unlink_early)
        assert writer.put("k", after, 100)
        passerby.end()
    assert passerby.found == [True]
    entry = writer.entry("k")
    assert entry is not None
    assert (entry.value, entry.deadline) == (after, clock.monotonic())


@pytest.mark.parametrize(("before", "after"), [(SMALL, LARGE), (LARGE, SMALL)])
@pytest.mark.parametrize("when", ["after packs were looked into", "before files are"])
def test_who_is_overtaken_finds_what_was_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, when: str
) -> None:
    clock = ManualClock()
    writer, reader = make(tmp_path / "c", clock), make(tmp_path / "c", clock)
    assert writer.put("k", before, 100)
    tree = reader._access.tree()
    pending, find = [after], tree.packs.find

    def overtake() -> None:
        while pending:
            assert writer.put("k", pending.pop(), 100)

    def open_late(*arguments: Any) -> int:
        overtake()
        return open_to_read(*arguments)

    def find_early(place: Place) -> Any:
        found = find(place)
        overtake()
        return found

    if when == "before files are":
        monkeypatch.setattr(entries, "open_to_read", open_late)
    else:
        monkeypatch.setattr(tree.packs, "find", find_early)
        monkeypatch.setattr(tree.packs, "fast", None)
    assert reader.get("k") in (before, after)
    assert reader.get("k") == (before if pending else after)


def test_who_has_begun_to_look_waits_for_a_value_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    writer, reader = make(tmp_path / "c", clock), make(tmp_path / "c", clock)
    assert writer.put("k", LARGE, 100)
    assert reader.get("k") == LARGE
    gone, waited_for = threading.Event(), threading.Event()
    writing = threading.Thread(target=writer.put, args=("k", SMALL, 100))
    take, unlink = Locks._take, os.unlink

    def open_late(*arguments: Any) -> int:
        writing.start()
        assert gone.wait(60)
        return open_to_read(*arguments)

    def unlink_slowly(*arguments: Any, **options: Any) -> None:
        unlink(*arguments, **options)
        if threading.current_thread() is writing:
            gone.set()
            assert waited_for.wait(60)

    def take_late(self: Locks, *arguments: Any) -> bool:
        waited_for.set()
        return take(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(entries, "open_to_read", open_late)
        patch.setattr(os, "unlink", unlink_slowly)
        patch.setattr(Locks, "_take", take_late)
        try:
            assert reader.get("k", None) == SMALL
        finally:
            waited_for.set()
            writing.join(60)
    assert reader.get("k") == SMALL


def test_what_somebody_was_killed_at_is_a_miss_and_put_right(tmp_path: Path) -> None:
    client = make(tmp_path / "c", ManualClock())
    client.put("k", SMALL, 100)
    tree, lane = client._access.tree(), Place.called(name_of("k")).shard >> LANE_BITS
    moving = tree.packs.moving(lane)
    with tree.locks.lane(lane):
        moving.__enter__()
        tree.packs.clear(lane)
        tree.packs._changing.clear()  # who was killed is not there any more
    assert tree.packs.is_moving(lane)
    assert client.get("k", None) is None
    assert client.put("k", SMALL, 100)
    assert not tree.packs.is_moving(lane)
    assert client.get("k") == SMALL
    assert client.stats.errors == 0
    assert client.verify().clean
