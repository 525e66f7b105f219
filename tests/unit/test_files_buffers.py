"""Values with large buffers in files: read without a copy, and never a wrong one."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET
from tiered import FilesCacheClient
from tiered.clients.files import buffers
from tiered.clients.files.buffers import Sheet, apart, joined, laid_out, pickled_part
from tiered.errors import CorruptValue, UnserializableValue
from tiered.testing import ManualClock

np = pytest.importorskip("numpy")
LARGE = 100_000


def make(path: Path, **options: Any) -> FilesCacheClient:
    return FilesCacheClient(10_000_000, path, clock=ManualClock(), strict=True, **options)


def files(path: Path) -> list[Path]:
    return [file for file in path.glob("??/*") if len(file.name) == 40]


@pytest.mark.parametrize("options", [{}, {"checksum_key": SECRET}])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(LARGE),
        np.arange(LARGE, dtype=np.float32).reshape(100, -1),
        np.asfortranarray(np.arange(LARGE).reshape(100, -1)),
        np.arange(2 * LARGE)[::2],  # not in one piece
        np.array(["text"] * LARGE),
        np.zeros((LARGE, 0)),
        np.arange(3),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back(tmp_path: Path, options: dict[str, Any], array: Any) -> None:
    client = make(tmp_path / "c", **options)
    client.put("k", {"one": array, "more": (array, [array])}, 100)
    found = client.get("k")
    for part in (found["one"], found["more"][0], found["more"][1][0]):
        assert part.dtype == array.dtype
        assert part.shape == array.shape
        assert (part == array).all()
    assert client.verify().clean


@pytest.mark.parametrize("length", [4000, *range(8050, 8200, 3), 9000, 100_000])
def test_keys_of_any_length(tmp_path: Path, length: int) -> None:
    client = make(tmp_path / "c")
    for value in (b"short", b"x" * 20_000, memoryview(b"y" * 20_000)):
        client.put("k" * length, value, 100)
        assert client.renew("k" * length, 200)
        assert client.get("k" * length) == value
        assert client.verify().clean


def test_large_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    client = make(tmp_path / "c")
    client.put("k", (np.arange(LARGE), np.arange(10)), 100)
    large, small = client.get("k")
    assert not large.flags.owndata
    assert not large.flags.writeable
    assert small.flags.writeable
    assert large.ctypes.data % 64 == 0
    with open("/proc/self/maps") as maps:
        assert files(tmp_path / "c")[0].name in maps.read()


@pytest.mark.parametrize("size", [0, 5, LARGE])
@pytest.mark.parametrize("form", ["B", "d", "c"])
def test_views_of_memory_come_back(tmp_path: Path, size: int, form: Any) -> None:
    client = make(tmp_path / "c")
    view = memoryview(os.urandom(size * 8)).cast(form)
    client.put("k", [view, view], 100)
    for found in client.get("k"):
        assert found.tobytes() == view.tobytes()
        assert (found.format, found.shape) == (view.format, view.shape)
    matrix = memoryview(bytes(range(6))).cast("B", (2, 3))
    client.put("k", matrix, 100)
    assert client.get("k").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_view_outlives_its_file(tmp_path: Path) -> None:
    client = make(tmp_path / "c")
    arrays = [np.full(LARGE, number) for number in range(3)]
    client.put("k", arrays[0], 100)
    first = client.get("k")
    client.put("k", arrays[1], 100)
    second = client.get("k")
    client.renew("k", 1000)
    client.expire("k")
    client.delete("k")
    client.put("k", arrays[2], 100)
    client.clear()
    client.close()
    assert (first == arrays[0]).all()
    assert (second == arrays[1]).all()


def test_other_lives_of_a_large_value(tmp_path: Path) -> None:
    client = make(tmp_path / "c")
    client.put("k", np.arange(LARGE), 100)
    assert client.renew("k", 500)
    assert client.get_ttl("k")[1] == pytest.approx(500, abs=0.01)
    assert client.expire("k")
    value, ttl = client.get_ttl("k")
    assert ttl < 0
    assert (value == np.arange(LARGE)).all()


@pytest.mark.parametrize("options", [{}, {"checksum_key": SECRET}])
def test_a_damaged_region_is_a_miss(tmp_path: Path, options: dict[str, Any]) -> None:
    client = make(tmp_path / "c", **options)
    client.put("k", [np.arange(LARGE), np.arange(LARGE)], 100)
    (file,) = files(tmp_path / "c")
    data = file.read_bytes()
    assert client.get("k")
    for at in (*range(300), len(data) // 2, len(data) - 1):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert client.get("k", None) is None, at
    for length in (100, 200, 300, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        assert client.get("k", None) is None, length
    file.write_bytes(data + b"x")
    assert client.get("k", None) is None
    assert client.verify().unreadable == 1


def test_a_file_is_verified_once_while_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(tmp_path / "c")
    client.put("k", np.arange(LARGE), 100)
    client.get("k")
    signer = client._codec.signer
    verified: list[int] = []
    real = signer.verify

    def verify(signature: bytes, *parts: Any, skip: int = 0) -> None:
        verified.append(sum(map(len, parts)))
        real(signature, *parts, skip=skip)

    monkeypatch.setattr(signer, "verify", verify)
    client.get("k")
    assert not any(size > LARGE for size in verified)
    client.put("k", np.arange(LARGE), 100)
    client.get("k")
    assert any(size > LARGE for size in verified)


@pytest.mark.parametrize("before", [False, True])
def test_a_pickle_that_is_changed_in_memory_is_not_unpickled(tmp_path: Path, before: bool) -> None:
    # Such a change need not show in the times of the file, once its page was written to.
    client = make(tmp_path / "c", checksum_key=SECRET)
    client.put("k", {"word": "harmless", "array": np.arange(LARGE)}, 100)
    (file,) = files(tmp_path / "c")
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as shared:
        at = shared.find(b"harmless")
        shared[at] = shared[at]
        if before:
            assert client.get("k")["word"] == "harmless"
        shared[at : at + 8] = b"harmful!"
        assert client.get("k", None) is None
        shared[at : at + 8] = b"harmless"
        assert client.get("k")["word"] == "harmless"


def test_regions_are_laid_out() -> None:
    stream, parts = apart([np.arange(LARGE), memoryview(b"y" * LARGE), b"in the stream"])
    assert [len(part) for part in parts] == [LARGE * 8, LARGE]
    region = memoryview(b"".join(laid_out(stream, parts)))
    sheet = Sheet(b"", 0, len(region), 3)
    head = pickled_part(sheet, region)
    assert head.endswith(stream)
    array, view, data = joined(sheet, head, region)
    assert (array == np.arange(LARGE)).all()
    assert view == b"y" * LARGE
    assert data == b"in the stream"
    for wrong in (0, 4, 10**6):
        with pytest.raises(CorruptValue):
            pickled_part(sheet._replace(parts=wrong), region)
        with pytest.raises(CorruptValue):
            joined(sheet._replace(parts=wrong), head, region)
    with pytest.raises(CorruptValue):
        pickled_part(sheet, region[:100])
    with pytest.raises(CorruptValue):
        joined(sheet, head, region[: len(region) // 2])


def test_a_sheet_is_no_value(tmp_path: Path) -> None:
    with pytest.raises(UnserializableValue):
        make(tmp_path / "c").put("k", Sheet(b"", 0, 0, 1), 100)


def test_views_that_cannot_be_written_are_told() -> None:
    with pytest.raises(UnserializableValue):
        apart(memoryview(bytes(10))[::2])
    with pytest.raises(UnserializableValue):
        apart(lambda: 1)


def test_a_buffer_from_which_on_it_lies_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_APART_FROM", 10)
    assert len(apart(memoryview(bytes(10)))[1]) == 1
    assert not apart(memoryview(bytes(9)))[1]
