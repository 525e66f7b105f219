"""Files of keys that are known by name only, as the coherence bus has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SECRET
from tiered import FilesCacheClient
from tiered.clients.files.names import Place
from tiered.coherence.names import name_of
from tiered.errors import StorageError
from tiered.testing import ManualClock
from tiered.typing import Key

KEYS: list[Key] = ["k", ("users@4f", 7), "x" * 1000, b"y" * 254, b"\0" * 300]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def files(tmp_path: Path, clock: ManualClock) -> FilesCacheClient:
    return FilesCacheClient(10_000_000, tmp_path / "cache", clock=clock)


def held(files: FilesCacheClient, key: Key) -> object:
    entry = files.entry(key)
    return None if entry is None else entry.value


def test_a_name_leads_to_the_file_of_its_key(files: FilesCacheClient) -> None:
    for key in KEYS:
        files.put(key, "value", 100)
        file = Place.called(name_of(key)).path
        assert (Path(files.path) / file).is_file()


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_discarded_by_its_name(files: FilesCacheClient, key: Key) -> None:
    files.put(key, "value", 100)
    files.put("other", "value", 100)
    assert files.by_name.discard(name_of(key))
    assert files.get(key, None) is None
    assert not files.by_name.discard(name_of(key))
    assert files.get("other") == "value"


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_made_stale_by_its_name(
    files: FilesCacheClient, clock: ManualClock, key: Key
) -> None:
    files.put(key, "value", 100)
    assert files.by_name.outdate(name_of(key))
    assert files.get(key, None) is None
    assert held(files, key) == "value"
    assert not files.by_name.outdate(name_of(key))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("how", ["discard", "outdate", "outdate_all"])
def test_the_claim_of_who_computes_it_is_over(
    files: FilesCacheClient, clock: ManualClock, key: Key, how: str
) -> None:
    claim = files.claim(key)
    assert claim is not None
    if how == "outdate_all":
        files.by_name.outdate_all()
    else:
        getattr(files.by_name, how)(name_of(key))
    assert not files.fill(key, "old", clock.monotonic() + 100, keep=0, claim=claim)
    assert files.get(key, None) is None


def test_all_is_made_stale(files: FilesCacheClient, clock: ManualClock) -> None:
    for key in KEYS:
        files.put(key, "value", 100)
    files.put("stale", "value", -1)
    clock.advance(1)
    assert files.by_name.outdate_all() == len(KEYS)
    for key in KEYS:
        assert files.get(key, None) is None
        assert held(files, key) == "value"
    assert files.by_name.outdate_all() == 0
    files.put("k", "new", 100)
    assert files.get("k") == "new"


def test_a_value_that_lies_at_anothers_place_goes(files: FilesCacheClient) -> None:
    for key in ("k", "other"):
        files.put(key, "value", 100)
    place, other = (Path(files.path) / Place.called(name_of(key)).path for key in ("k", "other"))
    other.write_bytes(place.read_bytes())
    assert not files.by_name.outdate(name_of("other"))
    assert not other.exists()
    assert files.get("k") == "value"


def test_who_has_not_the_secret_removes_what_he_cannot_make_stale(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "signed"
    signed = FilesCacheClient(10_000_000, path, checksum_key=SECRET, clock=clock)
    stranger = FilesCacheClient(10_000_000, path, serializer="raw", clock=clock)
    for key in ("one", "two", "three"):
        signed.put(key, "value", 100)
    assert not stranger.by_name.outdate(name_of("one"))
    assert signed.entry("one") is None
    assert stranger.by_name.discard(name_of("two"))
    assert stranger.by_name.outdate_all() == 0
    assert signed.usage == 0


def test_what_is_no_value_is_left_alone_or_goes(files: FilesCacheClient, tmp_path: Path) -> None:
    files.put("k", "value", 100)
    place = Path(files.path) / Place.called(name_of("k")).path
    place.write_bytes(b"no value")
    other = place.with_name("notes.txt")
    other.write_text("mine")
    assert files.by_name.outdate_all() == 0
    assert not place.exists()
    assert other.exists()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    place.symlink_to(outside)
    assert not files.by_name.outdate(name_of("k"))
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", [b"", b"#", b"#short", b"\xff", b"#" + b"x" * 100])
def test_a_name_of_no_key_leads_nowhere(files: FilesCacheClient, name: bytes) -> None:
    files.put("k", "value", 100)
    assert not files.by_name.discard(name)
    assert not files.by_name.outdate(name)
    assert files.get("k") == "value"


def test_a_directory_that_cannot_be_used_is_counted(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "file"
    path.write_text("no directory")
    files = FilesCacheClient(1_000_000, path, clock=clock)
    by_name = files.by_name
    for act in (
        lambda: by_name.discard(name_of("k")),
        lambda: by_name.outdate(name_of("k")),
        by_name.outdate_all,
    ):
        with pytest.raises(StorageError):  # who keeps it in step has to know
            act()
    assert files.stats.errors == 3
