"""Faults of a directory in use: misses and counted errors, never a wrong value or an exception."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.packed import on_disk
from tiered import FilesCacheClient, cached
from tiered.testing import ManualClock

PACKED, APART = 16 << 20, 10 << 20
KEYS: Final = 40
LARGE: Final = range(3)

Fault = Callable[[Path], Any]


def files(path: Path, pattern: str) -> list[Path]:
    return sorted(file for file in path.glob(pattern) if file.is_file())


def each(pattern: str, change: Callable[[Path], Any]) -> Fault:
    """A fault that all files of a pattern have."""

    def fault(path: Path) -> None:
        for file in files(path, pattern):
            change(file)

    return fault


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for at in range(7, len(data), 31):
        data[at] ^= 4
    # Not in place: an index is mapped, and must only ever be seen to change by its lanes' lock.
    overwrite(file, bytes(data))


def overwrite(file: Path, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.write(data)


def replace(file: Path, data: bytes) -> None:
    file.unlink()
    file.write_bytes(data)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parents[2] / "outside")


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def swap(path: Path) -> None:
    """Each file takes the place of another one."""
    for pattern in ("packs/*[0-9a-f]", "??/*"):
        found = [file for file in files(path, pattern) if file.suffix != ".index"]
        for one, other in zip(found[::2], found[1::2], strict=False):
            aside = one.with_name("aside")
            one.rename(aside)
            other.rename(one)
            aside.rename(other)


def moved_away(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir(mode=0o700)


def remove_all(pattern: str) -> Fault:
    def fault(path: Path) -> None:
        for found in path.glob(pattern):
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()

    return fault


PACKS = "packs/*[0-9a-f]"
INDEXES = "packs/*.index"
FAULTS: Final[dict[str, Fault]] = {
    "nothing": lambda path: None,
    "the directory is removed": shutil.rmtree,
    "the directory is made anew": moved_away,
    "packs are removed": remove_all("packs"),
    "all shards are removed": remove_all("??"),
    "lanes are removed": remove_all("lanes"),
    "counts are removed": remove_all("counts"),
    "locks are removed": remove_all("locks"),
    "each pack is removed": remove_all(PACKS),
    "each index is removed": remove_all(INDEXES),
    "each value is removed": remove_all("??/*"),
    "packs are flipped": each(PACKS, flip),
    "values are flipped": each("??/*", flip),
    "packs are cut": each(PACKS, cut),
    "values are cut": each("??/*", cut),
    "packs are empty": each(PACKS, lambda file: os.truncate(file, 0)),
    "packs are something else": each(PACKS, lambda file: replace(file, b"else" * 999)),
    "indexes are something else": each(INDEXES, lambda file: replace(file, b"else" * 999)),
    "indexes are cut ones": each(INDEXES, lambda file: replace(file, file.read_bytes()[:99])),
    "lanes are something else": each("lanes", lambda file: replace(file, b"else" * 999)),
    "lanes are empty": each("lanes", lambda file: replace(file, b"")),
    "counts are something else": each("counts", lambda file: replace(file, b"else" * 999)),
    "packs are links": each(PACKS, link),
    "indexes are links": each(INDEXES, link),
    "values are links": each("??/*", link),
    "packs are directories": each(PACKS, directory),
    "indexes are directories": each(INDEXES, directory),
    "files are swapped": swap,
}


def make(size: int, path: Path, clock: ManualClock) -> FilesCacheClient:
    return FilesCacheClient(size, path, clock=clock)


def old(key: object) -> bytes:
    return f"old {key}".encode() * 40


def new(key: object) -> bytes:
    return f"new {key}".encode() * 50


def fill(client: FilesCacheClient) -> None:
    for key in range(KEYS):
        assert client.put(key, old(key), 1000)
    for key in LARGE:
        assert client.put(("large", key), old(key) * 200, 1000)


def use(clients: list[FilesCacheClient]) -> None:
    """All that there is to do, and whatever is found is what was put last."""
    one, other = clients[0], clients[-1]
    for key in range(KEYS):
        for client in clients:
            assert client.get(key, None) in (None, old(key)), key
    for key in LARGE:
        for client in clients:
            assert client.get(("large", key), None) in (None, old(key) * 200), key
    for key in range(0, KEYS, 4):
        if one.put(key, new(key), 1000):
            assert other.get(key, None) in (None, new(key))
        assert one.get(key, None) in (None, new(key))
    for key in range(1, KEYS, 4):
        other.delete(key)
        assert one.get(key, None) is None
        assert other.get(key, None) is None
    for key in range(2, KEYS, 4):
        one.expire(key)
        assert other.get(key, None) is None
        assert one.renew(key + 1, 2000) in (True, False)
    other.purge()
    claim = one.claim("claimed", 10)
    assert claim is None or claim.fill("v", 10) in (True, False)
    for client in clients:
        for key in range(KEYS):
            right = [(None, new(key)), (None,), (None,), (None, old(key))][key % 4]
            assert client.get(key, None) in right, key


@pytest.mark.parametrize("size", [PACKED, APART])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_misses(tmp_path: Path, name: str, size: int) -> None:
    path, clock = tmp_path / "c", ManualClock()
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    clients = [make(size, path, clock) for _ in range(2)]
    fill(clients[0])
    assert clients[1].get(1) == old(1)
    FAULTS[name](path)
    use([*clients, make(size, path, clock)])
    if "directories" not in name:
        # What it takes to mend it is told, and then there is nothing to mend.
        clients[0].verify()
        found = clients[1].verify()
        assert found.clean, found
        assert clients[0].usage == make(size, path, clock).usage == on_disk(path)
        fill(clients[0])
        for client in (*clients, make(size, path, clock)):
            assert all(client.get(key) == old(key) for key in range(KEYS))
    clients[0].clear()
    assert all(client.get(key, None) is None for client in clients for key in range(KEYS))
    assert outside.read_bytes() == b"precious"


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("size", [PACKED, APART])
@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES],
)
@pytest.mark.parametrize(
    "call", ["open", "pwrite", "writev", "pread", "posix_fallocate", "rename", "unlink", "fstat"]
)
def test_calls_that_fail_are_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, size: int
) -> None:
    path, clock = tmp_path / "c", ManualClock()
    clients = [make(size, path, clock) for _ in range(2)]
    fill(clients[0])
    assert clients[1].get(1) == old(1)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(number))
        third = make(size, path, clock)
        one, other = clients
        for key in range(KEYS):
            for client in (*clients, third):
                assert client.get(key, None) in (None, old(key))
        kept = [key for key in range(0, KEYS, 2) if not one.put(key, new(key), 1000)]
        gone = [key for key in range(1, KEYS, 2) if other.delete(key)]
        third.purge()
        third.put("k", "v", 10)
        one.put(("large", 0), new(0) * 200, 1000)

        @cached(third, 60)
        def double(x: int) -> int:
            return 2 * x

        assert [double(x) for x in (2, 2, 3)] == [4, 4, 6]
    for client in (*clients, make(size, path, clock)):
        for key in range(0, KEYS, 2):
            # What was to be put and could not be has pushed the old one out, if that could be.
            right = (None, old(key)) if key in kept else (None, new(key))
            assert client.get(key, None) in right
        assert all(client.get(key, None) is None for key in gone)
        assert client.get(("large", 0), None) in (None, old(0) * 200, new(0) * 200)
    clients[0].verify()
    found = clients[0].verify()
    assert found.clean, found
    assert clients[0].usage == clients[1].usage == on_disk(path)
    fill(clients[1])
    assert all(clients[0].get(key) == old(key) for key in range(KEYS))


@pytest.mark.parametrize("size", [PACKED, APART])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_do_not_come_through_functions(tmp_path: Path, name: str, size: int) -> None:
    path, clock = tmp_path / "c", ManualClock()
    client = make(size, path, clock)

    @cached(client, 60)
    def double(x: int) -> tuple[int, bytes]:
        return 2 * x, bytes(20_000 if x == 1 else 10)

    for round_ in range(2):
        for x in range(10):
            assert double(x) == (2 * x, bytes(20_000 if x == 1 else 10))
        if not round_:
            FAULTS[name](path)
    double.invalidate(3)
    assert double(3) == (6, bytes(10))


@pytest.mark.parametrize("what", ["the directory is made anew", "lanes are removed"])
def test_a_reader_does_not_go_on_with_what_was_removed(tmp_path: Path, what: str) -> None:
    """It has all open and mapped, and finds what it looks for: that must not be for ever."""
    path, clock = tmp_path / "c", ManualClock()
    reader = make(PACKED, path, clock)
    assert reader.put("k", "old", 100)
    assert reader.get("k") == "old"
    FAULTS[what](path)
    assert make(PACKED, path, clock).put("k", "new", 100)
    assert reader.get("k") == "new"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_what_cannot_be_opened_just_now_is_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    client = FilesCacheClient(PACKED, tmp_path / "c", clock=ManualClock())
    assert client.put("k", bytes(50_000), 100)
    usual = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if len(str(path)) == 40:
            raise OSError(code, os.strerror(code))
        return usual(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        assert not client.add("k", "other", 100)
        assert not client.renew("k", 1000)
        assert client.stats.errors == 2
    assert client.get("k") == bytes(50_000)
    monkeypatch.setattr(os, "open", refusing)
    assert not client.expire("k")
    monkeypatch.undo()
    assert client.get("k", None) is None  # it could not be made stale, and had to go


@pytest.mark.parametrize("empty", [False, True])
def test_a_directory_where_a_value_should_be_stands_in_nobodys_way(
    tmp_path: Path, empty: bool
) -> None:
    path = tmp_path / "c"
    client = FilesCacheClient(PACKED, path, clock=ManualClock())
    assert client.put("k", bytes(50_000), 100)
    (file,) = path.glob("??/" + "?" * 40)
    directory(file)
    if not empty:
        (file / "inside").touch()
    assert not client.delete("k")
    assert client.put("k", "small", 100)
    assert client.get("k") == "small"
    assert client.stats.errors == 0
    client.verify()
    assert client.verify().clean
    assert client.verify().values == 1
    assert file.exists() is not empty
    client.clear()
    assert client.get("k", None) is None
    assert client.stats.errors == 0
