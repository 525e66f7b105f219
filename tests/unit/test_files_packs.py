"""The parts of packs: records, files, lanes, and the store that they make together."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packed import on_disk, small_lanes
from tiered.clients.files.names import LANES, Place, index_name, pack_name
from tiered.clients.files.packs.check import check
from tiered.clients.files.packs.cleaning import evict, tidy
from tiered.clients.files.packs.lanes import Cell, Lanes, Shape
from tiered.clients.files.packs.records import Record, pack_record, record_size, unpack_record
from tiered.clients.files.packs.store import Packs
from tiered.clients.files.tree import Tree
from tiered.testing import ManualClock

SIZE = 16 << 20
PACK = 4096


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    small_lanes(monkeypatch, places=4, pack=PACK, slots=8)
    return opened(tmp_path / "c")


def opened(path: Path, size: int = SIZE) -> Tree:
    return Tree(str(path), size, private=True, clock=ManualClock())


def in_lane(lane: int, number: int) -> Place:
    """A place of our choice: the tag tells the number."""
    return Place.of(b"")._replace(shard=lane << 2, tag=number << 1 | 1)


def put(tree: Tree, place: Place, text: bytes, room: Callable[[], bool] = lambda: True) -> bool:
    record = pack_record(b"%d" % place.tag, text)
    return tree.packs.write(place, record, room=room, allows=lambda: True, now=0.0)


def get(tree: Tree, place: Place) -> bytes | None:
    found = tree.packs.find(place)
    if found is None:
        return None
    assert found.record is not None
    assert found.record.name == b"%d" % place.tag
    return found.record.envelope


def remove(tree: Tree, place: Place) -> bool:
    with tree.locks.key(place):
        return tree.packs.remove(place)


def checked(tree: Tree, *, repair: bool = True) -> Any:
    with tree.locks.everything():
        # Places are of our choice here, so that what is found by its key cannot be asked.
        return check(tree.packs, None, repair=repair)


# -- Records ------------------------------------------------------------------------------


@given(st.binary(max_size=40), st.binary(max_size=200))
def test_a_record_is_read_as_it_was_written(name: bytes, envelope: bytes) -> None:
    data = pack_record(name, envelope)
    assert len(data) == record_size(name, len(envelope))
    assert len(data) % 16 == 0
    assert unpack_record(data) == unpack_record(memoryview(data)) == Record(name, envelope)
    used = 16 + len(name) + len(envelope)
    assert all(unpack_record(data[:length]) is None for length in range(used))
    assert unpack_record(b"\0" * len(data)) is None


# -- Lanes --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 16 << 20, 10**8, 10**9, 10**12])
def test_a_shape_fits(size: int) -> None:
    shape = Shape(size)
    assert shape.slots & (shape.slots - 1) == 0
    if size < 16 << 20:
        assert shape.pack == 0
    else:
        # Twice what there is to hold, and a pack for each lane is a small part of it.
        assert shape.pack * shape.slots * LANES >= 2 * size
        assert shape.pack * LANES <= size / 10


def test_figures_of_packs(tree: Tree) -> None:
    lanes = tree.lanes
    for number, size in ((3, 1000), (4, 2000)):
        lanes.numbers[5, lanes.slot(number)] = number
        lanes.grown(5, number, size)
    lanes.set(5, Cell.ACTIVE, 4)
    lanes.set(5, Cell.TAIL, 2000)
    assert lanes.packs(5) == [3, 4]
    assert (lanes.used, lanes.planned) == (3000, 3000 + PACK - 2000)
    assert lanes.oldest(5) == 3
    assert not lanes.bury(5, 3, 400)
    assert lanes.spared() == (5, 3, 0.4)
    assert lanes.bury(5, 3, 600)
    assert not lanes.bury(5, 11, 600), "another pack has its slot"
    assert lanes.has(5, 3)
    assert not lanes.has(5, 11)


def test_files_are_not_forgotten_before_they_are_counted(tmp_path: Path) -> None:
    (tmp_path / "00").mkdir()
    root = os.open(tmp_path, os.O_RDONLY)
    lanes = Lanes(root, SIZE, 0o600)
    for _ in range(100):
        lanes.add(3, Cell.FILES, -1)
    assert lanes.get(3, Cell.FILES) > 0
    os.close(lanes.descriptor)
    os.close(root)


# -- The store ----------------------------------------------------------------------------


def test_what_is_put_is_found(tree: Tree, tmp_path: Path) -> None:
    places = [in_lane(lane, number) for lane in range(LANES) for number in range(30)]
    for place in places:
        assert put(tree, place, b"%d" % place.tag * 10)
    other = opened(tmp_path / "c")
    for place in places:
        assert get(tree, place) == get(other, place) == b"%d" % place.tag * 10
    assert remove(other, places[3])
    assert not remove(tree, places[3])
    assert get(tree, places[3]) is None
    assert tree.lanes.used == on_disk(tmp_path / "c")
    found = checked(tree)
    assert (found.values, found.size) == (len(places) - 1, on_disk(tmp_path / "c"))
    assert (found.unreadable, found.left, found.drift) == (0, 0, 0)


def test_numbers_of_packs_are_never_used_twice(tree: Tree, tmp_path: Path) -> None:
    """More packs than a lane has slots for: those of somebody with more room."""
    reader, seen = opened(tmp_path / "c"), set()
    for number in range(200):
        assert put(tree, in_lane(3, number), bytes(900))
        active = tree.lanes.get(3, Cell.ACTIVE)
        if tree.lanes.get(3, Cell.TAIL) <= 1000:
            assert active not in seen
            seen.add(active)
            assert tree.lanes.get(3, Cell.NEXT) >= max(seen)
        if number % 3 == 0:
            # A value that stays, so that the numbers that are left have gaps.
            assert put(tree, in_lane(3, 1000), b"%d" % number)
        assert get(reader, in_lane(3, 1000)) == b"%d" % (number - number % 3)
        assert get(reader, in_lane(3, number)) == bytes(900)
    assert len(seen) > 2 * tree.lanes.slots
    assert tree.lanes.used == on_disk(tmp_path / "c")
    assert checked(tree).drift == 0


def test_values_move_where_all_slots_are_taken(tree: Tree, tmp_path: Path) -> None:
    """The pack to be moved from goes to make a slot for the one that is moved to."""
    number = 0
    while len(tree.lanes.packs(2)) < tree.lanes.slots:
        put(tree, in_lane(2, number), bytes(900))
        number += 1
    oldest = tree.lanes.oldest(2)
    assert oldest is not None
    put(tree, in_lane(2, 500), bytes(900))  # so that the one that is filled has no room
    with tree.locks.lane(2):
        index = tree.packs.index(2)
        assert index is not None
        tree.packs.keep(2, oldest, index.lying_in(oldest)[:3])
    kept = [n for n in range(number) if get(tree, in_lane(2, n)) is not None]
    assert len(kept) >= number - 5
    assert tree.lanes.has(2, tree.lanes.get(2, Cell.ACTIVE))
    assert tree.lanes.used == on_disk(tmp_path / "c")
    assert put(tree, in_lane(2, 501), b"more")
    assert get(tree, in_lane(2, 501)) == b"more"


def test_who_is_killed_while_a_pack_is_opened_loses_none(tree: Tree) -> None:
    """The end of the pack that is full must not be taken for the new one's beginning."""
    put(tree, in_lane(1, 1), b"precious")
    seen: list[tuple[int, int]] = []
    real = Lanes.set

    def watched(self: Lanes, lane: int, cell: int, value: int) -> None:
        real(self, lane, cell, value)
        seen.append((self.get(lane, Cell.ACTIVE), self.get(lane, Cell.TAIL)))

    full = tree.lanes.get(1, Cell.ACTIVE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lanes, "set", watched)
        for number in range(2, 10):
            put(tree, in_lane(1, number), bytes(900))
    assert tree.lanes.get(1, Cell.ACTIVE) != full
    assert (full, 0) not in seen


def test_an_index_is_made_room_for(tree: Tree) -> None:
    """Its growth is planned as a pack is, or many small values would go past the capacity."""
    planned: list[int] = []

    def room(before: int) -> bool:
        planned.append(tree.planned - before)
        return True

    sizes = set()
    for number in range(200):
        put(tree, in_lane(7, number), b"", partial(room, tree.planned))
        index = tree.packs.index(7)
        assert index is not None
        sizes.add(index.size)
        assert not index.is_full or number < 200
    grown = [change - PACK for change in planned if change > PACK]
    assert set(grown) >= sizes
    assert not put(tree, in_lane(8, 1), b"", lambda: False)


@pytest.mark.parametrize("wrong", ["removed", "cut", "strange", "link", "directory"])
def test_an_index_that_is_lost_is_lost_to_all(tree: Tree, tmp_path: Path, wrong: str) -> None:
    """Who has it mapped must not go on with it, when another one cannot read it."""
    place = in_lane(4, 1)
    put(tree, place, b"old")
    assert get(tree, place) == b"old"
    file = tmp_path / "c" / "packs" / index_name(4, tree.lanes.get(4, Cell.INDEX))
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    data = file.read_bytes()
    file.unlink()
    if wrong == "cut":
        file.write_bytes(data[:-8])
    elif wrong == "strange":
        file.write_bytes(b"x" * len(data))
    elif wrong == "link":
        file.symlink_to(outside)
    elif wrong == "directory":
        file.mkdir()
    other = opened(tmp_path / "c")
    remove(other, place)
    assert get(other, place) is None
    assert get(tree, place) is None
    assert put(other, place, b"new")
    assert get(tree, place) == get(other, place) == b"new"
    assert outside.read_bytes() == b"precious"
    if wrong != "directory":
        assert tree.lanes.used == on_disk(tmp_path / "c")


def test_a_change_is_not_over_when_a_part_of_it_is(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is killed after the part is one who is killed in the change."""
    put(tree, in_lane(4, 1), b"v")
    (tmp_path / "c" / "packs" / index_name(4, tree.lanes.get(4, Cell.INDEX))).unlink()
    other, seen = opened(tmp_path / "c"), list[int]()
    real = Packs.clear

    def cleared(self: Packs, lane: int) -> int:
        count = real(self, lane)
        seen.append(self.lanes.get(lane, Cell.BUSY))
        return count

    monkeypatch.setattr(Packs, "clear", cleared)
    with other.locks.lane(4):
        other.packs.keep(4, 1, np.zeros(0, np.intp))
    assert seen == [1]
    assert other.lanes.get(4, Cell.BUSY) == 0


def test_a_change_that_failed_is_put_right_by_the_next(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tree, in_lane(4, 1), b"v")
    with monkeypatch.context() as patch, tree.locks.lane(4):
        patch.setattr(tree.packs, "_lose", fail_with(errno.EIO))
        tree.lanes.set(4, Cell.ACTIVE, 0)
        tree.lanes.add(4, Cell.BYTES, 1000)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            tree.packs.keep(4, tree.lanes.packs(4)[0], np.zeros(0, np.intp))
    assert tree.lanes.get(4, Cell.BUSY) == 1
    remove(tree, in_lane(4, 1))
    assert tree.lanes.get(4, Cell.BUSY) == 0
    assert tree.lanes.get(4, Cell.BYTES) == tree.packs.measured(4)


@pytest.mark.parametrize("wrong", ["removed", "strange"])
def test_a_check_finds_a_lost_index(tree: Tree, tmp_path: Path, wrong: str) -> None:
    put(tree, in_lane(4, 1), b"old")
    put(tree, in_lane(5, 1), b"good")
    file = tmp_path / "c" / "packs" / index_name(4, tree.lanes.get(4, Cell.INDEX))
    data = file.read_bytes()
    file.unlink()
    if wrong == "strange":
        file.write_bytes(b"x" * len(data))
        tree = opened(tmp_path / "c")
    told: list[int] = []
    with tree.locks.everything():
        assert check(tree.packs, None, repair=False, done=told.append).unreadable == 1
    assert told == list(range(1, LANES + 1))
    assert checked(tree).unreadable == 1
    found = checked(tree)
    assert found == (1, on_disk(tmp_path / "c"), 0, 0, 0)
    assert get(tree, in_lane(5, 1)) == b"good"


def test_evictions_end_where_an_index_is_gone(tree: Tree, tmp_path: Path) -> None:
    for number in range(30):
        put(tree, in_lane(4, number), bytes(900))
    tree.lanes.dead[4] = tree.lanes.sizes[4]
    tree.lanes.set(4, Cell.INDEX, 0)
    tidy(tree.packs, tree.locks)
    assert tree.lanes.spared() is None
    while evict(tree.packs, tree.locks) is not None:
        pass
    assert not any(tree.lanes.packs(lane) for lane in range(LANES))
    checked(tree)
    assert on_disk(tmp_path / "c") == tree.lanes.used == 0


def test_what_is_mostly_dead_is_tidied(tree: Tree, tmp_path: Path) -> None:
    for number in range(28):
        put(tree, in_lane(4, number), bytes(900))
    for number in range(28):
        if number % 4:
            remove(tree, in_lane(4, number))
    before = on_disk(tmp_path / "c")
    tidy(tree.packs, tree.locks)
    assert on_disk(tmp_path / "c") == tree.lanes.used < before / 2
    assert all(get(tree, in_lane(4, number)) == bytes(900) for number in range(0, 28, 4))
    assert checked(tree).drift == 0


def test_what_is_used_stays_when_packs_go(tree: Tree) -> None:
    for number in range(28):
        put(tree, in_lane(4, number), bytes(900))
        get(tree, in_lane(4, 0))
    for _ in range(4):
        assert evict(tree.packs, tree.locks) is not None
        get(tree, in_lane(4, 0))
    assert get(tree, in_lane(4, 0)) == bytes(900)
    assert get(tree, in_lane(4, 2)) is None


def test_a_pack_that_has_gone_meanwhile(tree: Tree) -> None:
    """Its number is 0 by the time that somebody looks at it; places without a value have that."""
    for number in range(20):
        put(tree, in_lane(4, number), b"v")
        remove(tree, in_lane(4, number))
    put(tree, in_lane(4, 30), b"v")
    with tree.locks.lane(4):
        index = tree.packs.index(4)
        assert index is not None
        assert not tree.lanes.has(4, 0)
        assert tree.packs.keep(4, 0, index.lying_in(0)) == 0
    assert tree.packs.count(4) == 1
    assert get(tree, in_lane(4, 30)) == b"v"


def test_packs_that_are_filled_go_last(tree: Tree) -> None:
    put(tree, in_lane(4, 1), b"v")
    assert evict(tree.packs, tree.locks) == 1
    assert evict(tree.packs, tree.locks) is None
    assert tree.lanes.planned == tree.packs.measured(4)
    assert put(tree, in_lane(4, 1), b"w")
    assert get(tree, in_lane(4, 1)) == b"w"


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_part_of_a_record_is_cut_off_again(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tree, in_lane(4, 1), b"old")
    monkeypatch.setattr(tree.packs, "fast", None)  # it tries, and leaves it to this
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: real(file, data[:100], at))
    with pytest.raises(OSError, match="no room") as caught:
        put(tree, in_lane(4, 1), bytes(500))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert tree.lanes.used == on_disk(tmp_path / "c")
    assert get(tree, in_lane(4, 1)) == b"old"
    assert put(tree, in_lane(4, 1), b"new")
    assert get(tree, in_lane(4, 1)) == b"new"


def test_a_pack_goes_where_there_is_no_room_to_move(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        put(tree, in_lane(4, number), bytes(900))
    for number in range(0, 40, 2):
        remove(tree, in_lane(4, number))
        remove(tree, in_lane(4, number + 1)) if number % 8 else None
    monkeypatch.setattr(os, "pwrite", fail_with(errno.ENOSPC))
    before = tree.lanes.used
    assert evict(tree.packs, tree.locks) is not None
    assert tree.lanes.used == on_disk(tmp_path / "c") < before


def test_a_pack_that_was_removed(tree: Tree, tmp_path: Path) -> None:
    put(tree, in_lane(4, 1), b"old")
    file = tmp_path / "c" / "packs" / pack_name(4, tree.lanes.get(4, Cell.ACTIVE))
    file.unlink()
    other = opened(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        put(other, in_lane(4, 2), b"v")
    assert put(other, in_lane(4, 2), b"v")
    assert get(tree, in_lane(4, 2)) == b"v"
    assert checked(other).drift == 0
    assert tree.lanes.used == on_disk(tmp_path / "c")


def test_files_that_belong_to_nothing_are_removed(tree: Tree, tmp_path: Path) -> None:
    put(tree, in_lane(4, 1), b"v")
    packs = tmp_path / "c" / "packs"
    (packs / pack_name(4, 99)).write_bytes(b"x")
    (packs / index_name(5, 98)).write_bytes(b"x")
    (packs / "notes.txt").write_text("precious")
    assert checked(tree, repair=False).left == 2
    assert checked(tree).left == 2
    assert checked(tree).left == 0
    assert (packs / "notes.txt").read_text() == "precious"
    assert get(tree, in_lane(4, 1)) == b"v"


def test_two_keys_with_one_tag_push_each_other_out(tree: Tree) -> None:
    place = in_lane(4, 1)
    put(tree, place, b"one")
    record = pack_record(b"another", b"two")
    tree.packs.write(place, record, room=lambda: True, allows=lambda: True, now=0.0)
    found = tree.packs.find(place)
    assert found is not None
    assert found.record == Record(b"another", b"two")


def test_who_has_too_little_room_packs_nothing(tmp_path: Path) -> None:
    large = opened(tmp_path / "c", 10**9)
    assert large.packs.limit > 0
    assert opened(tmp_path / "c", 20_000_000).packs.limit == 0
    assert opened(tmp_path / "c", 10**9).packs.limit == large.packs.limit
