"""Claims in files: marks that end with their holder, their time, and what changes the value."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tiered import FilesCacheClient, NamespaceWrapper
from tiered.clients.files.names import Place
from tiered.dogpile import ClaimMutex
from tiered.testing import ManualClock, MutexContract


def make(path: Path, clock: ManualClock | None = None) -> FilesCacheClient:
    return FilesCacheClient(10_000_000, path, clock=clock or ManualClock(), strict=True)


def mark_of(client: FilesCacheClient, key: str) -> Path:
    place = Place.of(client._name(key))
    return Path(client.path, place.path + ".claim")


def test_the_mark_is_gone_when_the_claim_is(tmp_path: Path) -> None:
    client = make(tmp_path / "c")
    for end in ("fill", "release"):
        claim = client.claim("k", 10)
        assert claim is not None
        assert mark_of(client, "k").exists()
        claim.fill("v", 10) if end == "fill" else claim.release()
        assert not mark_of(client, "k").exists()


def test_a_damaged_mark_is_none(tmp_path: Path) -> None:
    client, other = make(tmp_path / "c"), make(tmp_path / "c")
    claim = client.claim("k", 1000)
    assert claim is not None
    file = mark_of(client, "k")
    data = file.read_bytes()
    damaged = [b"", data[:-1], data + b"x", bytes(len(data))]
    damaged += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    for bad in damaged:
        file.write_bytes(bad)
        taken = other.claim("k", 1000)
        assert taken is not None
        taken.release()
    assert not claim.fill("v", 10)
    assert claim.lost


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.put("k", "w", 100),
        lambda client: client.add("k", "w", 100),
        lambda client: client.put_multi({"k": "w"}, 100),
        lambda client: client.delete("k"),
        lambda client: client.delete_multi(["k"]),
        lambda client: client.expire("k"),
        lambda client: client.revoke("k"),
        lambda client: client.clear(),
    ],
)
def test_what_changes_the_value_ends_the_claim(
    tmp_path: Path, change: Callable[[FilesCacheClient], object]
) -> None:
    client, other = make(tmp_path / "c"), make(tmp_path / "c")
    claim = client.claim("k", 100)
    assert claim is not None
    change(other)
    assert not claim.use(lambda: True)
    assert not claim.fill("v", 100)
    assert claim.lost
    assert client.get("k", None) != "v"


@pytest.mark.parametrize(
    "other",
    [
        lambda client: client.get("k", None),
        lambda client: client.renew("k", 1000),
        lambda client: client.purge(),
        lambda client: client.verify(),
        lambda client: client.put("l", "w", 100),
        lambda client: client.delete("l"),
        lambda client: client.claim("k", 100),
    ],
)
def test_what_does_not_change_it_does_not(
    tmp_path: Path, other: Callable[[FilesCacheClient], object]
) -> None:
    client, another = make(tmp_path / "c"), make(tmp_path / "c")
    client.put("k", "before", 100)
    claim = client.claim("k", 100)
    assert claim is not None
    other(another)
    assert claim.use(lambda: True)
    assert claim.fill("v", 100)
    assert client.get("k") == "v"


def test_a_claim_on_a_key_that_was_cleared_away(tmp_path: Path) -> None:
    client = NamespaceWrapper("ns", make(tmp_path / "c"))
    claim = client.claim("k", 100)
    assert claim is not None
    client.clear()
    assert not claim.fill("v", 100)
    assert client.get("k", None) is None


def test_a_claim_ends_with_the_client_that_gave_it(tmp_path: Path) -> None:
    client, other = make(tmp_path / "c"), make(tmp_path / "c")
    claim = client.claim("k", 100)
    assert claim is not None
    assert other.claim("k", 100) is None
    client.close()
    assert other.claim("k", 100) is not None
    assert not claim.fill("late", 100)
    assert not claim.release()


def test_a_late_holder_does_not_end_the_claim_of_the_next(tmp_path: Path) -> None:
    clock = ManualClock()
    client, other = make(tmp_path / "c", clock), make(tmp_path / "c", clock)
    late = client.claim("k", 10)
    clock.advance(11)
    second = other.claim("k", 10)
    assert late is not None
    assert second is not None
    assert not late.release()
    assert not late.fill("late", 10)
    assert client.claim("k", 10) is None
    assert second.fill("v", 10)


def test_a_link_in_place_of_a_mark_is_not_followed(tmp_path: Path) -> None:
    client = FilesCacheClient(10_000_000, tmp_path / "c", clock=ManualClock())
    client.put("k", "v", 10)
    os.symlink(tmp_path / "outside", mark_of(client, "k"))
    claim = client.claim("k", 10)
    assert claim is not None  # nobody can be told, so the work goes on
    assert not claim.fill("w", 10)
    assert not (tmp_path / "outside").exists()
    assert client.put("k", "x", 10)  # takes the link away
    assert client.claim("k", 10) is not None


class TestMutex(MutexContract):
    @pytest.fixture(autouse=True)
    def _client(self, tmp_path: Path) -> None:
        self.path = tmp_path / "c"

    def make_mutex(self) -> ClaimMutex:
        return ClaimMutex(FilesCacheClient(10**6, self.path), "a name", 30.0)
