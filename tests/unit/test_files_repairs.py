"""What a fault at one key, or at one moment, does to its neighbours, and to the counts."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiered import FilesCacheClient
from tiered.clients.files import locks
from tiered.clients.files.names import LANE_BITS, LANES, Place
from tiered.clients.files.packs.cleaning import evict
from tiered.clients.files.packs.lanes import Cell
from tiered.clients.files.tree import Tree
from tiered.testing import ManualClock

SIZE = 32_000_000
LANE = 3
SMALL, LARGE = "small", "large" * 10_000


@pytest.fixture
def client(tmp_path: Path, clock: ManualClock) -> FilesCacheClient:
    client = FilesCacheClient(SIZE, tmp_path / "c", clock=clock)
    client.put("some", SMALL, 100)
    return client


def tree_of(client: FilesCacheClient) -> Tree:
    return client._access.tree()


def place_of(client: FilesCacheClient, key: str) -> Place:
    return Place.of(client._name(key))


def neighbours(client: FilesCacheClient, count: int) -> list[str]:
    """Keys of one lane."""
    keys = (f"k{number}" for number in range(10_000))
    found = [key for key in keys if place_of(client, key).shard >> LANE_BITS == LANE]
    return found[:count]


@pytest.mark.parametrize("what", ["a link", "an empty file", "a text"])
@pytest.mark.parametrize("act", ["delete", "put"])
def test_what_others_put_at_the_place_of_a_key_hides_no_value(
    client: FilesCacheClient, act: str, what: str
) -> None:
    large, key, other = neighbours(client, 3)
    assert client.put(large, LARGE, 100)
    place = place_of(client, key)
    tree_of(client).shard_to_write(place.shard)
    planted = Path(client.path) / place.path
    if what == "a link":
        planted.symlink_to("/etc/passwd")
    else:
        planted.write_text("" if what == "an empty file" else "text")
    if act == "delete":
        client.delete(key)
    else:
        assert client.put(key, SMALL, 100)
    assert client.get(large) == LARGE
    assert client.delete(large)
    assert client.put(other, LARGE, 100)
    assert client.get(large, None) is None


def test_the_last_large_value_of_a_lane_that_goes_is_the_last(client: FilesCacheClient) -> None:
    first, second = neighbours(client, 2)
    lanes = tree_of(client).lanes
    for key in (first, second):
        client.put(key, LARGE, 100)
    client.delete(first)
    assert lanes.get(LANE, Cell.FILES) == 1
    client.delete(second)
    assert lanes.get(LANE, Cell.FILES) == 0


def test_a_value_that_stays_is_read_while_another_is_on_its_way(
    client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who moves it was killed, or stopped, and has the lock."""
    monkeypatch.setattr(locks, "_PATIENCE", 0.01)
    large, small, absent = neighbours(client, 3)
    client.put(large, LARGE, 100)
    client.put(small, SMALL, 100)
    other = FilesCacheClient(SIZE, client.path, clock=client.clock)
    other.get("some")
    tree = tree_of(other)
    with tree.locks.lane(LANE):
        tree.lanes.set(LANE, Cell.BUSY, 2)
        assert client.get(large) == LARGE
        assert client.get(small) == SMALL
        assert client.get(absent, None) is None
    other.close()


def test_a_lock_that_a_thread_has_is_not_waited_for_for_ever(
    client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.01)
    lane = tree_of(client).locks.lane(LANE)
    with lane, pytest.raises(TimeoutError, match="has held a lock"), lane:
        pass
    done = threading.Event()

    def take() -> None:
        with lane:
            done.set()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(20)
    assert done.is_set()


def test_a_move_that_has_failed_is_over(
    client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = neighbours(client, 1)
    client.put(key, SMALL, 100)

    def refuse(*_args: object, **_how: object) -> None:
        raise OSError(errno.ESTALE, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        assert not client.put(key, LARGE, 100)
    assert not tree_of(client).packs.is_moving(LANE)


class Interrupt(Exception):
    """As of a signal's handler."""


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "the answer was lost"), Interrupt()])
def test_a_rename_that_was_done_though_it_raises_is_counted(
    client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    keys = neighbours(client, 5)
    rename = os.rename

    def done_but_raising(*args: Any, **how: Any) -> None:
        rename(*args, **how)
        raise error

    before = client.usage
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", done_but_raising)
        for key in keys:
            try:
                client.put(key, LARGE, 100)
            except Interrupt:
                pass
    there = sum(client.get(key, None) is not None for key in keys)
    assert client.usage - before >= there * len(LARGE)
    assert tree_of(client).counts.doubtful
    client.verify()
    for key in keys:
        client.delete(key)
    assert client.usage == before


def test_a_file_that_goes_though_its_removal_raises_is_counted(
    client: FilesCacheClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = neighbours(client, 1)
    client.put(key, LARGE, 100)
    unlink = os.unlink

    def done_but_raising(*args: Any, **how: Any) -> None:
        unlink(*args, **how)
        raise Interrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", done_but_raising)
        with pytest.raises(Interrupt):
            client.delete(key)
    assert tree_of(client).counts.doubtful


def test_an_eviction_ends_though_a_pack_is_named_that_is_not_there(
    tmp_path: Path, clock: ManualClock
) -> None:
    client = FilesCacheClient(17_000_000, tmp_path / "c", clock=clock)
    for number in range(1_000):
        client.put(number, bytes(15_000), 100)
    tree = tree_of(client)
    lanes = tree.lanes
    lane = next(lane for lane in range(LANES) if len(lanes.packs(lane)) > 2)
    active = lanes.get(lane, Cell.ACTIVE)
    pack = next(pack for pack in lanes.packs(lane) if pack not in (1, active))
    slot = lanes.slot(pack)
    lanes.dead[lane, slot] = lanes.sizes[lane, slot]
    lanes.numbers[lane, slot] = pack ^ 1
    assert lanes.spared() == (lane, pack ^ 1, 1.0)
    for _ in range(1_000):
        if evict(tree.packs, tree.locks) is None:
            return
    pytest.fail("a pack is there for ever")


@pytest.mark.parametrize(
    "of", [Cell.FILES, Cell.CLAIMS], ids=["a large value", "a claim from before a delete"]
)
def test_counts_that_cannot_be_hide_nothing(client: FilesCacheClient, of: int) -> None:
    key, small, other = neighbours(client, 3)
    lanes = tree_of(client).lanes
    assert client.put(key, LARGE, 100)
    claim = client.claim(key, 100)
    assert claim is not None
    client.put(small, SMALL, 100)
    lanes.set(LANE, of, -4096)
    lanes.set(LANE, Cell.BUSY, 1)
    client.put(other, SMALL, 100)  # puts the lane right
    assert client.get(key) == LARGE
    assert client.delete(key)
    assert client.claim(small, 100) is not None
    assert not claim.fill("stale", 100)
    client.put(other, LARGE, 100)
    assert client.get(key, None) is None


def test_a_callback_is_not_called_with_a_lock_for_a_value_that_stays(
    client: FilesCacheClient,
) -> None:
    """Its own reads would wait for the lock that it has."""
    key, other = neighbours(client, 2)
    read: list[Callable[[], object]] = []
    Looking.read = read
    client.put(key, Looking(LARGE), 100)
    tree = tree_of(client)
    tree.lanes.set(LANE, Cell.BUSY, 2)
    read.append(lambda: client.put(other, SMALL, 100))
    assert isinstance(client.get(key), Looking)


class Looking:
    """Looks something up when it is read."""

    read: list[Callable[[], object]]

    def __init__(self, text: str) -> None:
        self.text = text

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for look in self.read:
            look()
