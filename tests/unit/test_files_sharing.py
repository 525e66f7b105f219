"""Who may use what is made in a directory: who may use the directory, whatever the umask is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.conftest import SECRET
from tests.opened import Opened
from tiered import FilesCacheClient
from tiered.clients.files.sharing import make_file, replace_file, share_again
from tiered.testing import ManualClock


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    """Sets it, for the test."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o770, 0o777])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_for_whom_the_directory_is_for(
    tmp_path: Path, umask: Callable[[int], object], mode: int, mask: int
) -> None:
    path = tmp_path / "c"
    path.mkdir()
    path.chmod(mode)
    umask(mask)
    client = FilesCacheClient(20_000_000, path, checksum_key=SECRET, clock=ManualClock())
    assert client.put("small", "v", 100)
    assert client.put("large", numpy.ones(10_000), 100)
    assert client.claim("computed", 100) is not None
    kinds = {file.suffix or file.name for file in path.rglob("*") if file.is_file()}
    assert kinds >= {".claim", ".index", "counts", "lanes", "locks"}
    for file in path.rglob("*"):
        wanted = mode if file.is_dir() else mode & 0o666
        assert file.stat().st_mode & 0o777 == wanted, file.name


def test_a_file_is_made_once(directory: int, tmp_path: Path) -> None:
    os.close(make_file(directory, "f", 0o600, 10, b"head"))
    assert (tmp_path / "f").read_bytes() == b"head" + bytes(6)
    with pytest.raises(FileExistsError):
        make_file(directory, "f", 0o600)
    assert (tmp_path / "f").stat().st_size == 10
    os.close(make_file(directory, "empty", 0o600))
    assert (tmp_path / "empty").stat().st_size == 0


def test_a_file_takes_the_place_of_another(directory: int, tmp_path: Path) -> None:
    (tmp_path / "f.new").write_text("of somebody who was killed")
    (tmp_path / "f").write_text("old")
    with (tmp_path / "f").open() as old:
        os.close(replace_file(directory, "f", 0o600, 4, b"new"))
        assert old.read() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"new\0"


def test_what_is_made_for_a_group_is_of_the_group(
    tmp_path: Path, umask: Callable[[int], object]
) -> None:
    """Whatever the group is that the process makes files for otherwise."""
    path = tmp_path / "c"
    path.mkdir()
    path.chmod(0o2770)
    umask(0o077)
    client = FilesCacheClient(20_000_000, path, checksum_key=SECRET, clock=ManualClock())
    assert client.put("large", numpy.ones(10_000), 100)
    folders = [file for file in path.iterdir() if file.is_dir()]
    assert len(folders) == 2
    assert {folder.stat().st_mode & 0o7777 for folder in folders} == {0o2770}


@pytest.mark.parametrize("name", ["locks", "packs", "shards"])
@pytest.mark.parametrize("mode", [0o700, 0o750, 0o770])
def test_what_was_not_shared_yet_is_shared_by_its_owner(
    tmp_path: Path, mode: int, name: str
) -> None:
    """Who made it was killed in the middle of that, with a umask that shuts others out."""
    path = tmp_path / "c"
    path.mkdir()
    path.chmod(mode)
    first = FilesCacheClient(20_000_000, path, checksum_key=SECRET, clock=ManualClock())
    assert first.put("k", numpy.ones(10_000), 100)
    first.close()
    made = path / name if name != "shards" else next(path.glob("[0-3][0-9a-f]"))
    made.chmod(0o700 if made.is_dir() else 0o600)
    client = FilesCacheClient(20_000_000, path, checksum_key=SECRET, clock=ManualClock())
    assert client.get("k") is not None
    assert made.stat().st_mode & 0o777 == (mode if made.is_dir() else mode & 0o666)


@pytest.mark.parametrize("kind", ["full", "linked", "another's"])
def test_what_others_have_put_there_is_not_opened_to_them(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"secret" if kind == "full" else b"")
    file.chmod(0o600)
    if kind == "linked":
        os.link(file, tmp_path / "g")
    if kind == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with file.open() as opened:
        share_again(opened.fileno(), 0o660)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_does_not_take_the_place_of_another_goes(
    directory: int, tmp_path: Path
) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(directory, "f", 0o600, 4, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("make", [make_file, replace_file])
def test_what_cannot_be_made_is_not_there(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., int]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    opened = Opened(tmp_path)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        make(directory, "f", 0o600, 10, b"head")
    assert not list(tmp_path.iterdir())
    assert not opened.descriptors
