"""Packs whose shared memory, or values, are not what was written there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packed import on_disk, small_lanes
from tiered import FilesCacheClient
from tiered.acceleration import core
from tiered.clients.files import layout, names
from tiered.clients.files.buffers import Sheet, SheetSerializer
from tiered.clients.files.names import LANES, Place
from tiered.clients.files.packs import files, index, lanes, records
from tiered.clients.files.packs.lanes import Cell
from tiered.clients.files.packs.records import pack_record
from tiered.clients.files.tree import Tree
from tiered.codec.pages import Manifest
from tiered.codec.values import Header
from tiered.testing import ManualClock

SIZE = 16 << 20
PACK = 4096
LANE = 4
VALUES = 12

compiled = pytest.mark.skipif(core is None, reason="the core is not built, or not wanted")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_lanes(monkeypatch, places=4, pack=PACK, slots=8)
    return tmp_path / "c"


@pytest.fixture
def tree(path: Path) -> Iterator[Tree]:
    """Three packs in a lane, and one in another."""
    tree = Tree(str(path), SIZE, private=True, clock=ManualClock())
    for number in range(VALUES):
        put(tree, place_of(number), bytes(900))
    put(tree, place_of(50), b"last")  # with room for more, in the pack and in the index
    put(tree, place_of(1, LANE + 1), b"other")
    assert len(tree.lanes.packs(LANE)) == 3
    yield tree
    tree.close()


def place_of(number: int, lane: int = LANE) -> Place:
    return Place.of(b"")._replace(shard=lane << names.LANE_BITS, tag=number << 1 | 1)


def put(tree: Tree, place: Place, text: bytes) -> None:
    record = pack_record(b"%d" % place.tag, text)
    assert tree.packs.write(place, record, room=lambda: True, allows=lambda: True, now=0.0)


def get(tree: Tree, place: Place) -> bytes | None:
    found = tree.packs.find(place)
    return None if found is None or found.record is None else found.record.envelope


def change_something(tree: Tree) -> None:
    """As who comes next does."""
    with tree.locks.lane(LANE):
        tree.packs.remove(place_of(0))


def require_sound(tree: Tree, path: Path, *, lost: Callable[[int], bool]) -> None:
    """All is as it should be, but for the values that are *lost*, and is in use again."""
    assert tree.lanes.is_sound(LANE)
    assert tree.lanes.get(LANE, Cell.BUSY) == 0
    assert tree.lanes.used == on_disk(path)
    for number in range(1, VALUES):
        assert get(tree, place_of(number)) == (None if lost(number) else bytes(900)), number
    assert get(tree, place_of(1, LANE + 1)) == b"other"
    highest = max(tree.lanes.packs(LANE), default=0)
    put(tree, place_of(99), b"small")
    assert tree.lanes.used == on_disk(path)
    for number in range(VALUES):
        put(tree, place_of(100 + number), b"new" * 300)
    assert max(tree.lanes.packs(LANE)) > highest
    assert all(get(tree, place_of(100 + n)) == b"new" * 300 for n in range(VALUES))
    assert tree.lanes.used == on_disk(path)


# -- Lanes that are damaged -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *((cell, value) for cell in (Cell.ACTIVE, Cell.NEXT) for value in (-1, 1 << 31, 1 << 62)),
        *((Cell.TAIL, value) for value in (-16, 8, PACK + 16, 1 << 62)),
    ],
)
def test_cells_that_cannot_be_are_mended(tree: Tree, path: Path, cell: int, value: int) -> None:
    tree.lanes.set(LANE, cell, value)
    assert not tree.lanes.is_sound(LANE)
    change_something(tree)
    require_sound(tree, path, lost=lambda number: False)


@pytest.mark.parametrize("value", [-1, 1 << 31, 1 << 62])
def test_a_lane_whose_index_cannot_be_is_emptied(tree: Tree, path: Path, value: int) -> None:
    tree.lanes.set(LANE, Cell.INDEX, value)
    change_something(tree)
    change_something(tree)
    require_sound(tree, path, lost=lambda number: True)


@pytest.mark.parametrize("cell", [Cell.BYTES, Cell.FILES, Cell.CLAIMS, Cell.TAIL])
@pytest.mark.parametrize("value", [-4096, 0, 160, PACK - 192, 1 << 40])
def test_what_was_told_wrong_is_counted_anew(tree: Tree, path: Path, cell: int, value: int) -> None:
    """By who comes after somebody who was killed."""
    tail = tree.lanes.get(LANE, Cell.TAIL)
    tree.lanes.set(LANE, cell, value)
    tree.lanes.set(LANE, Cell.BUSY, 1)
    change_something(tree)
    assert min(tree.lanes.get(LANE, cell) for cell in (Cell.FILES, Cell.CLAIMS)) >= 0
    # What was appended to a pack that is cut goes with it.
    cut = cell == Cell.TAIL and 0 <= value < tail
    active = VALUES - tail // 928
    require_sound(tree, path, lost=lambda number: cut and number >= active)


@pytest.mark.parametrize("value", [(1 << 63) - 1, -(1 << 63), 1 << 62])
def test_no_figure_is_too_large_to_be_changed(tree: Tree, path: Path, value: int) -> None:
    """And what nobody was killed at is found out none the less."""
    for cell in (Cell.BYTES, Cell.FILES, Cell.CLAIMS):
        tree.lanes.set(LANE, cell, value)
    for change in (1, -1):
        tree.lanes.add(LANE, Cell.FILES, change)
        tree.lanes.add(LANE, Cell.CLAIMS, change)
    tree.lanes.sizes[LANE] = value
    tree.lanes.dead[LANE] = -1 - value
    for pack in tree.lanes.packs(LANE):
        tree.lanes.bury(LANE, pack, value)
        tree.lanes.grown(LANE, pack, value)
    assert isinstance(tree.lanes.planned, int)
    change_something(tree)
    require_sound(tree, path, lost=lambda number: False)


@pytest.mark.parametrize("value", [-7, 1 << 31, 1 << 62, 2, 9999])
def test_a_pack_with_a_number_that_cannot_be_is_forgotten(
    tree: Tree, path: Path, value: int
) -> None:
    oldest = tree.lanes.packs(LANE)[0]
    tree.lanes.numbers[LANE, tree.lanes.slot(oldest)] = value
    tree.lanes.set(LANE, Cell.BUSY, 1)
    change_something(tree)
    assert len(tree.lanes.packs(LANE)) == 2
    require_sound(tree, path, lost=lambda number: number < 4)


def test_figures_of_packs_are_counted_anew(tree: Tree, path: Path) -> None:
    tree.lanes.sizes[LANE] = 12345
    tree.lanes.dead[LANE] = -5
    tree.lanes.set(LANE, Cell.BUSY, 1)
    change_something(tree)
    assert tree.lanes.dead[LANE].sum() == 928
    assert tree.lanes.sizes[LANE].sum() == VALUES * 928 + 32
    require_sound(tree, path, lost=lambda number: False)


# -- What the compiled core does not touch ---------------------------------------------------


APPENDS: dict[str, Callable[[Tree], object]] = {
    "busy": lambda tree: tree.lanes.set(LANE, Cell.BUSY, 1),
    "another index": lambda tree: tree.lanes.add(LANE, Cell.INDEX, 1),
    "no pack": lambda tree: named(tree, 0),
    "a pack below 0": lambda tree: named(tree, -1),
    "a pack of 32 bits": lambda tree: named(tree, 1 << 31),
    "a pack that is not open": lambda tree: tree.lanes.add(LANE, Cell.ACTIVE, 1),
    "a tail below 0": lambda tree: tree.lanes.set(LANE, Cell.TAIL, -16),
    "a tail between units": lambda tree: tree.lanes.set(LANE, Cell.TAIL, 8),
    "a tail at the end": lambda tree: tree.lanes.set(LANE, Cell.TAIL, PACK - 32),
    "a tail behind the end": lambda tree: tree.lanes.set(LANE, Cell.TAIL, PACK),
    "a full index": lambda tree: taken(tree, 1 << 62),
    "an index that is three quarters full": lambda tree: taken(tree, 24),
    "an index without a free place": lambda tree: fill_index(tree),
}


def named(tree: Tree, number: int) -> None:
    """As if there were an open pack with that number."""
    access = tree.packs.fast
    assert access is not None
    opened = access.files[LANE << files.PACK_BITS | tree.lanes.get(LANE, Cell.ACTIVE)]
    access.files[(LANE << files.PACK_BITS | number) % (1 << 64)] = opened
    tree.lanes.set(LANE, Cell.ACTIVE, number)


def taken(tree: Tree, places: int) -> None:
    packs = tree.packs.index(LANE)
    assert packs is not None
    assert packs.mask + 1 == 32
    packs.cells[2] = places


def fill_index(tree: Tree) -> None:
    packs = tree.packs.index(LANE)
    assert packs is not None
    packs._places[:, 0] = 1 << 50 | 1
    packs.cells[2] = 1


@compiled
@pytest.mark.parametrize("wrong", APPENDS)
def test_nothing_is_appended_where_something_is_wrong(tree: Tree, path: Path, wrong: str) -> None:
    access, record = tree.packs.fast, pack_record(b"name", b"v" * 20)
    assert access is not None
    assert len(record) == 48
    assert access.append(LANE, 201, record) == 0
    APPENDS[wrong](tree)
    before = state_of_files(path)
    assert access.append(LANE, 203, record) == -1
    assert state_of_files(path) == before


@compiled
@pytest.mark.parametrize("lane", [-1, LANES, 1 << 20, LANE + 2])
def test_nothing_is_appended_where_there_is_no_such_lane(tree: Tree, path: Path, lane: int) -> None:
    access, before = tree.packs.fast, state_of_files(path)
    assert access is not None
    assert access.append(lane, 203, pack_record(b"name", b"v")) == -1
    assert state_of_files(path) == before


@compiled
def test_a_pack_is_filled_to_its_last_byte(tree: Tree) -> None:
    access, record = tree.packs.fast, pack_record(b"name", b"v" * 20)
    assert access is not None
    tree.lanes.set(LANE, Cell.TAIL, PACK - len(record))
    assert access.append(LANE, 203, record) == 0
    assert tree.lanes.get(LANE, Cell.TAIL) == PACK
    assert access.append(LANE, 205, record) == -1


def state_of_files(path: Path) -> dict[str, bytes]:
    """Of lanes, indexes and packs; shared memory is what is in the files."""
    found = [path / names.LANES_FILE, *sorted((path / names.PACKS).iterdir())]
    return {file.name: file.read_bytes() for file in found}


@compiled
def test_the_core_knows_where_everything_lies() -> None:
    """Its numbers are told a second time, in a language without these modules."""
    source = Path(lanes.__file__).parents[3] / "compiled" / "packs.pxi"
    enum = source.read_text().partition("cdef enum:\n")[2].partition("\n\n")[0]
    told = {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)", enum)}
    assert told == {
        "LANES": LANES,
        "LANE_SHIFT": 8 - names.SHARD_BITS + names.LANE_BITS,
        "LANE_CELLS": lanes._CELLS,
        "INDEX_CELL": Cell.INDEX,
        "ACTIVE_CELL": Cell.ACTIVE,
        "TAIL_CELL": Cell.TAIL,
        "BYTES_CELL": Cell.BYTES,
        "BUSY_CELL": Cell.BUSY,
        "TABLES_FROM": lanes._PAGE // 8,
        "INDEX_TAKEN": index._TAKEN,
        "INDEX_HEAD": index._HEAD,
        "PLACE_CELLS": (index.index_size(2) - index.index_size(1)) // 8,
        "SPOT_LENGTH_BITS": index._LENGTH_BITS,
        "SPOT_BITS": index._LENGTH_BITS + index._START_BITS,
        "SPOT_UNIT": index._UNIT,
        "RECORD_HEAD": records.HEAD,
        "PACK_BITS": files.PACK_BITS,
        "SERIALIZER": layout._SERIALIZER_AT,
    }
    assert f"at[SERIALIZER] == {SheetSerializer.number}:" in source.read_text()
    assert {index._UNIT, lanes._UNIT, records._UNIT} == {index._UNIT}


# -- Values that are something else ----------------------------------------------------------


class Planted:
    """Is a sheet where it is unpickled, though none can be pickled."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = tuple(sheet)

    def __reduce__(self) -> Any:
        return Sheet, self._sheet


@pytest.mark.parametrize("fsync", [False, True])
@pytest.mark.parametrize("parts", [0, 1, 1 << 30])
def test_nothing_is_looked_for_where_a_pickled_sheet_says(
    tmp_path: Path, fsync: bool, parts: int
) -> None:
    """In a pack, and in a file of its own: what an envelope holds is told by the envelope."""
    client = FilesCacheClient(SIZE, tmp_path / "c", fsync=fsync, clock=ManualClock())
    sheet = Sheet(b"x" * 16, 0, 4096, parts)
    assert client.put("k", Planted(sheet), 100)
    assert client.get("k") == sheet
    assert client.stats.corrupt == 0
    assert client.verify().clean


@pytest.mark.parametrize("kind", ["sheet", "manifest"])
def test_an_envelope_of_something_else_is_no_value_in_a_pack(tmp_path: Path, kind: str) -> None:
    """It is signed, and was moved from where it belongs; the core leaves it to others."""
    client = FilesCacheClient(SIZE, tmp_path / "c", checksum_key="s", clock=ManualClock())
    client.put("k", np.arange(100_000), 100)
    tree, name = client._access.tree(), client._name("k")
    place = Place.of(name)
    if kind == "sheet":
        with open(tmp_path / "c" / place.path, "rb") as file:
            envelope = client._values._layout._sealed(name, file.fileno())
    else:
        manifest = Manifest(bytes(16), 2, 2000, 1100, bytes(16))
        header = Header(client._values.now(tree), 1e12, 0.0)
        envelope = client._codec.seal_manifest(name, manifest, header)
    client.delete("k")
    for _ in range(2):  # the second time all is open
        record = pack_record(name, envelope)
        tree.packs.write(place, record, room=lambda: True, allows=lambda: True, now=0.0)
        assert tree.packs.find(place) is not None
        assert client.get("k", None) is None
    assert client.stats.corrupt == 2
    assert client.verify().unreadable == 1
    assert client.verify().clean
