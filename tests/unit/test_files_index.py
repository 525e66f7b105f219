"""The index of small values: a hash table in a mapped file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiered.clients.files.packs.index import (
    DamagedIndex,
    Index,
    Spot,
    ends_of,
    index_size,
    lengths_of,
    packs_of,
    spot_of,
)

PLACES = 16
FITS = PLACES * 3 // 4

TAGS = st.one_of(
    # Some at the very end of the table, and some that all want the same place.
    st.sampled_from([(PLACES - 1) * 2 + 1 + (n << 8) for n in range(6)]),
    st.sampled_from([3 + (n << 8) for n in range(6)]),
    st.integers(0, 2**63 - 1).map(lambda number: number << 1 | 1),
)
SPOTS = st.builds(
    Spot,
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**20 - 1).map(lambda units: units * 16),
    st.integers(1, 2**12 - 1).map(lambda units: units * 16),
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def make(directory: int, places: int = PLACES) -> Index:
    name = f"index {len(os.listdir(directory))}"
    descriptor = Index.make(directory, name, 0o600, places=places)
    try:
        return Index(descriptor, 1)
    finally:
        os.close(descriptor)


def held(index: Index) -> dict[int, int]:
    """The spots by their tags, as the table has them."""
    table = zip(*(index._places[:, column].tolist() for column in (0, 1)), strict=True)
    return {tag: spot for tag, spot in table if spot}


def found(index: Index, tag: int) -> int:
    at = index.find(tag)
    return 0 if at < 0 else index.cells[at + 1]


@given(SPOTS)
def test_a_spot_is_one_number(spot: Spot) -> None:
    assert spot_of(spot.packed) == spot
    assert 0 < spot.packed < 2**64
    spots = np.array([spot.packed], np.uint64)
    assert ends_of(spots).tolist() == [spot.start + spot.length]


def test_spots_are_taken_apart_by_the_thousand(directory: int) -> None:
    index = make(directory)
    spots = [Spot(7, 160, 4096 - 16), Spot(2**32 - 1, 2**24 - 16, 65520)]
    index.spots[:2] = [spot.packed for spot in spots]
    assert packs_of(index.spots[:2]).tolist() == [7, 2**32 - 1]
    assert lengths_of(index.spots[:2]).tolist() == [4080, 65520]
    assert index.lying_in(7).tolist() == [0]
    assert index.living().tolist() == [0, 1]


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(TAGS, SPOTS, st.sampled_from(["point", "remove", "grow"]))),
)
def test_it_holds_what_a_dict_holds(directory: int, steps: list[tuple[int, Spot, str]]) -> None:
    index, ever = make(directory), set[int]()
    model: dict[int, int] = {}
    for number, (tag, spot, step) in enumerate(steps, start=1):
        if step == "remove":
            at = index.find(tag)
            assert (at >= 0) == (tag in ever)
            if at >= 0:
                index.cells[at + 1] = 0
            model.pop(tag, None)
        elif step == "grow" or index.is_full:
            larger = make(directory, max(PLACES, index.places_wanted()))
            index.copy_to(larger)
            index, ever = larger, set(model)
            assert not index.is_full
        else:
            assert index.point(tag, spot.packed, number) == model.get(tag, 0)
            model[tag] = spot.packed
            ever.add(tag)
        assert held(index) == model
        assert {one: found(index, one) for one in model} == model
        assert index.cells[2] == len(ever)
    for name in os.listdir(directory):
        os.unlink(name, dir_fd=directory)


def test_it_is_full_in_time(directory: int) -> None:
    index = make(directory)
    for number in range(FITS):
        assert not index.is_full
        index.point(number << 1 | 1, 1, 1)
    assert index.is_full
    assert index.find(2**63 | 1) == -1


def test_a_full_one_that_does_not_say_so(directory: int) -> None:
    index = make(directory)
    for number in range(PLACES):
        index.point(number << 1 | 1, 1, 1)
    index.cells[2] = 0
    assert index.find(2**63 | 1) == -1
    with pytest.raises(OSError, match="full"):
        index.point(2**63 | 1, 1, 1)
    index.mend()
    assert index.is_full


def test_what_was_not_finished_hides_nothing(directory: int) -> None:
    """Somebody was killed between the spot and the tag of a key."""
    index, larger = make(directory), make(directory)
    tags = [3 + (number << 8) for number in range(3)]
    index.point(tags[0], 5, 1)
    at = index.find(tags[0])
    index.cells[at + 4] = 99
    index.copy_to(larger)
    for number, tag in enumerate(tags):
        larger.point(tag, number + 1, 1)
    assert held(larger) == dict(zip(tags, [1, 2, 3], strict=True))
    index.mend()
    assert held(index) == {tags[0]: 5}
    assert index.cells[2] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"tieredI1",
        b"x" * index_size(PLACES),
        b"tieredI1" + (PLACES + 1).to_bytes(8, "little") + bytes(index_size(PLACES + 1) - 16),
        b"tieredI1" + PLACES.to_bytes(8, "little") + bytes(index_size(PLACES) - 17),
        b"tieredI1" + bytes(8) + bytes(64 - 16),
        b"tieredI1" + (1 << 62).to_bytes(8, "little") + bytes(100),
    ],
)
def test_a_file_that_is_no_index(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index").write_bytes(data)
    descriptor = os.open(tmp_path / "index", os.O_RDWR)
    with pytest.raises(DamagedIndex):
        Index(descriptor, 1)
    os.close(descriptor)


def test_nothing_is_left_where_there_is_no_room(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="no room"):
        make(directory)
    assert os.listdir(directory) == []
