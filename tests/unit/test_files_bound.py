"""What is in use by files: counted by many, bounded by eviction, mended by scans."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import together
from tiered import FilesCacheClient
from tiered.clients.files import counts as counts_module
from tiered.clients.files import locks as locks_module
from tiered.clients.files.counts import Counts
from tiered.clients.files.layout import allocated
from tiered.clients.files.names import SHARDS, Place, is_claim, is_value, new_name, owner_of
from tiered.clients.files.tree import Tree
from tiered.clock import SYSTEM_CLOCK
from tiered.errors import StorageError
from tiered.testing import ManualClock

CAPACITY = 2_000_000
BLOCK = 4096


def make(path: Path, size: int = CAPACITY, **options: Any) -> FilesCacheClient:
    return FilesCacheClient(size, path, clock=ManualClock(), strict=True, **options)


def tree_of(path: Path) -> Tree:
    return Tree(str(path), CAPACITY, private=True, clock=ManualClock())


def on_disk(path: Path) -> int:
    return sum(allocated(file.stat().st_size) for file in path.glob("??/*"))


# -- Names --------------------------------------------------------------------------------


def test_a_place_is_told_by_its_file() -> None:
    places = [Place.of(b"%d" % number) for number in range(1000)]
    assert {place.shard for place in places} == set(range(SHARDS))
    for place in places:
        assert Place.at(place.file) == Place.at(place.claim) == place
        assert is_value(place.file)
        assert is_claim(place.claim)
        assert not is_value(place.claim)
        assert not is_claim(place.file)
    assert owner_of(new_name(77, 3)) == 77
    assert owner_of("new-77-3") is None


@pytest.mark.parametrize("seed", range(5))
def test_every_change_is_counted(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    clients = [make(tmp_path / "c") for _ in range(2)]
    for _ in range(300):
        client, key = chance.choice(clients), chance.randrange(20)
        match chance.randrange(8):
            case 0:
                client.delete(key)
            case 1:
                client.add(key, b"x" * chance.randrange(9000), 100)
            case 2:
                client.expire(key)
            case 3:
                client.renew(key, 1000)
            case 4 if chance.random() < 0.1:
                client.clear()
            case 5:
                client.purge()
            case _:
                client.put(key, b"x" * chance.randrange(20_000), chance.choice([-1, 100]))
        assert clients[0].usage == clients[1].usage == on_disk(tmp_path / "c")
    assert clients[0].verify().clean


# -- Eviction -----------------------------------------------------------------------------


def test_it_stays_within_its_bound(tmp_path: Path) -> None:
    client = make(tmp_path / "c")
    for number in range(600):
        assert client.put(number, b"x" * (number * 37 % 40_000), 100)
        assert client.usage <= CAPACITY
        assert client.usage == on_disk(tmp_path / "c")
    assert client.usage > CAPACITY / 2
    assert client.stats.evicted
    assert client.verify().clean


def test_what_is_used_stays(tmp_path: Path) -> None:
    client = make(tmp_path / "c", 100 * BLOCK)
    client.put("hot", 1, 100)
    for number in range(1000):
        client.put(number, number, 100)
        assert client.get("hot") == 1
    last = [client.get(number, None) for number in range(990, 1000)]
    assert last == list(range(990, 1000))
    assert client.get(0, None) is None


def test_threads_stay_within_the_bound_together(tmp_path: Path) -> None:
    path = tmp_path / "c"
    clients = [make(path) for _ in range(4)]
    over = threading.Event()
    highest = [0.0]

    def watch() -> None:
        while not over.is_set():
            highest[0] = max(highest[0], clients[0].usage)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def work(number: int) -> None:
        for step in range(60):
            clients[number % 4].put((number, step), b"x" * 60_000, 100)

    assert together(work, 8) == [None] * 8
    over.set()
    watcher.join()
    assert highest[0] <= CAPACITY * 1.05
    assert clients[0].usage == on_disk(path) <= CAPACITY * 1.05
    assert clients[0].verify().clean


def test_a_value_as_large_as_the_cache(tmp_path: Path) -> None:
    client = make(tmp_path / "c")
    client.put("small", 1, 100)
    assert client.put("large", b"x" * (CAPACITY - 5000), 100)
    assert len(client.get("large")) == CAPACITY - 5000
    assert client.usage <= CAPACITY * 1.05


def test_writes_are_dropped_where_nothing_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiered.clients.files.eviction._PAUSE", 0.0)
    client, tree = make(tmp_path / "c"), tree_of(tmp_path / "c")
    tree.counts.begin(CAPACITY)  # by another, who is writing it
    assert not client.put("k", b"x" * 200_000, 100)
    tree.counts.end(CAPACITY, 0, 0.0)
    assert client.put("k", b"x" * 200_000, 100)
    assert client.verify().clean


def test_counts_that_are_too_high_evict_nothing(tmp_path: Path) -> None:
    client, tree = make(tmp_path / "c"), tree_of(tmp_path / "c")
    client.put("k", "v", 100)
    tree.counts.begin(0)
    tree.counts.end(0, CAPACITY, 0.0)
    tree.counts.doubt()
    client.put("l", "w", 100)
    assert client.get("k") == "v"
    assert client.usage == 2 * BLOCK


# -- Counts -------------------------------------------------------------------------------


def test_what_a_process_had_counted_stays_when_it_ends(tmp_path: Path) -> None:
    first = make(tmp_path / "c")
    first.put("k", "v", 100)
    first.close()
    second = make(tmp_path / "c")
    assert second.usage == BLOCK
    second.delete("k")
    assert second.usage == 0
    assert not second._access.tree().counts.doubtful or second.verify().clean


def test_a_process_that_ended_in_the_middle_of_a_write(tmp_path: Path) -> None:
    client, dying = make(tmp_path / "c"), tree_of(tmp_path / "c")
    client.put("k", "v", 100)
    client.verify()
    place, owner = Place.of(b"unfinished"), dying.counts.owner
    shard = dying.shard_to_write(place.shard)
    dying.counts.begin(3 * BLOCK)
    descriptor = os.open(new_name(owner, 1), os.O_CREAT | os.O_WRONLY, dir_fd=shard)
    os.close(descriptor)
    found = client.verify()
    assert found.clean  # it is at it still
    assert (tmp_path / "c" / f"{place.shard:02x}" / new_name(owner, 1)).exists()
    dying.close()
    found = client.verify(repair=False)
    assert found.unfinished == 1
    found = client.verify()
    assert (found.unfinished, found.drift, found.values) == (1, -3 * BLOCK, 1)
    assert client.verify().clean
    assert client.usage == BLOCK


@pytest.mark.parametrize("reserved", [1 << 40, -(1 << 40)])
def test_what_is_reserved_by_nobody_is_freed(tmp_path: Path, reserved: int) -> None:
    client, tree = make(tmp_path / "c"), tree_of(tmp_path / "c")
    rows = tree.counts._rows
    client.put("k", bytes(50_000), 100)
    taken = {tree.counts.slot, client._access.tree().counts.slot}
    row, free = counts_module._Row.RESERVED, min({0, 1, 2} - taken)
    rows[row, free] = reserved
    client.verify()
    assert rows[row, free] == 0
    rows[row, free] = reserved
    assert client.put("k", bytes(50_000), 100)
    assert rows[row].sum() == (0 if reserved > 0 else reserved)  # too little stops nobody


@pytest.mark.parametrize("value", [(1 << 63) - 1, -(1 << 63), 1 << 62])
def test_damaged_counts_are_put_right_by_a_scan(tmp_path: Path, value: int) -> None:
    client = make(tmp_path / "c")
    client.put("k", bytes(50_000), 100)
    used, counts = client.usage, client._access.tree().counts
    counts._rows[counts_module._Row.BYTES, :7] = value
    counts._cells[counts_module._Figure.DRIFT] = -1 - value
    client.verify()
    assert client.usage == counts.planned == used
    assert client.verify().clean


def test_a_slot_passes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "_SLOTS", 3)
    trees = [tree_of(tmp_path / "c") for _ in range(3)]
    assert {tree.counts.slot for tree in trees} == {0, 1, 2}
    assert len({tree.counts.owner for tree in trees}) == 3
    with pytest.raises(OSError, match="3 processes use the directory"):
        tree_of(tmp_path / "c")
    with pytest.raises(StorageError):
        make(tmp_path / "c").put("k", 1, 1)
    owner, slot = trees[1].counts.owner, trees[1].counts.slot
    assert trees[0].counts.is_alive(owner)
    assert trees[0].counts.is_alive(owner, slot)
    assert not trees[0].counts.is_alive(owner, trees[2].counts.slot)
    assert not trees[0].counts.is_alive(owner, 99)
    trees.pop(1).close()
    assert not trees[0].counts.is_alive(owner, slot)
    assert tree_of(tmp_path / "c").counts.slot == slot


def test_numbers_of_a_slot_are_added_up(tmp_path: Path) -> None:
    trees = [tree_of(tmp_path / "c") for _ in range(3)]

    def work(number: int) -> None:
        counts: Counts = trees[number % 3].counts
        for _ in range(200):
            counts.begin(10)
            counts.end(10, 3, 1.0)

    assert together(work, 6) == [None] * 6
    for tree in trees:
        assert tree.counts.used == tree.counts.planned == 6 * 200 * 3


# -- Locks --------------------------------------------------------------------------------


def test_who_does_not_get_a_lock_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "_PATIENCE", 0.0)
    client, tree = make(tmp_path / "c"), tree_of(tmp_path / "c")
    client.put("k", "v", 100)
    place = Place.of(client._name("k"))
    with tree.locks.key(place):
        with pytest.raises(StorageError, match="lock"):
            client.put("k", "w", 100)
        assert client.get("k") == "v"
        assert client.put("l", "w", 100)
    with tree.locks.everything(), pytest.raises(StorageError, match="lock"):
        client.put("l", "w", 100)
    with tree.locks.purging() as ours:
        assert ours
        with client._access.tree().locks.purging(wait=False) as theirs:
            assert not theirs
        with pytest.raises(StorageError, match="lock"):
            client.verify()
    assert client.put("k", "w", 100)


def test_threads_of_one_client_exclude_each_other(tmp_path: Path) -> None:
    tree, place = tree_of(tmp_path / "c"), Place.of(b"k")
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with tree.locks.key(place):
                inside.append(number)
                SYSTEM_CLOCK.sleep(0)  # whoever can get in, gets in now
                assert len(inside) == 1
                inside.pop()

    assert together(work, 8) == [None] * 8


def test_a_lock_is_dropped_after_an_error(tmp_path: Path) -> None:
    tree, place = tree_of(tmp_path / "c"), Place.of(b"k")
    for lock in (
        lambda: tree.locks.key(place),
        lambda: tree.locks.lane(0),
        tree.locks.everything,
        tree.locks.setup,
        tree.locks.purging,
    ):
        with pytest.raises(LookupError), lock():
            raise LookupError
        with lock():
            pass
