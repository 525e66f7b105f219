"""Several clients of one directory beside a model, with values on both sides of the limit."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import together
from tests.packed import on_disk, small_lanes
from tiered import FilesCacheClient
from tiered.clients.files.names import Place
from tiered.clients.files.packs.index import Index
from tiered.testing import ManualClock

SIZE = 16 << 20
SEEDS = range(int(os.environ.get("TIERED_SEEDS", "4")))
STEPS = 600
SIZES = [10, 300, 900, 970, 1000, 1030, 9000, 16_000, 30_000]


class Model:
    """What may be found: the last value that was acknowledged, or nothing."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._held: dict[int, tuple[bytes, float]] = {}

    def put(self, key: int, value: bytes, ttl: float) -> None:
        self._held[key] = value, self._clock.monotonic() + ttl

    def end(self, key: int) -> None:
        self._held.pop(key, None)

    def expire(self, key: int) -> None:
        if key in self._held:
            value, ends = self._held[key]
            self._held[key] = value, min(ends, self._clock.monotonic())

    def renew(self, key: int, ttl: float) -> None:
        self._held[key] = self._held[key][0], self._clock.monotonic() + ttl

    def clear(self) -> None:
        self._held.clear()

    def get(self, key: int) -> bytes | None:
        value, ends = self._held.get(key, (None, 0.0))
        return value if ends > self._clock.monotonic() else None


def value_of(chance: random.Random) -> bytes:
    return chance.randbytes(8) + bytes(chance.choice(SIZES))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("packed", ["packed", "apart"])
def test_nothing_old_is_ever_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, packed: str
) -> None:
    small_lanes(monkeypatch, places=4, pack=4096)
    chance, clock = random.Random(seed), ManualClock()
    size = SIZE if packed == "packed" else SIZE - 1
    clients = [FilesCacheClient(size, tmp_path / "c", strict=True, clock=clock) for _ in range(3)]
    model, lost = Model(clock), 0
    for _ in range(STEPS):
        client, key = chance.choice(clients), chance.randrange(60)
        match chance.randrange(20):
            case 0 | 1:
                client.delete(key)
                model.end(key)
            case 2:
                client.expire(key)
                model.expire(key)
            case 3 | 4 if client.renew(key, ttl := chance.choice([50, 500])):
                model.renew(key, ttl)
            case 5:
                clock.advance(chance.choice([1, 30]))
                client.purge()
            case 6 if chance.random() < 0.1:
                client.clear()
                model.clear()
            case 7 if chance.random() < 0.3:
                found = client.verify()
                assert found.clean, found
                assert found.size == client.usage
            case 8:
                tree = client._access.tree()
                client._evictor._evict_some(tree, 0.0, 0)
            case 9 if model.get(key) is None and client.add(key, value := value_of(chance), 60):
                model.put(key, value, 60)
            case 10:
                claim, value, ttl = client.claim(key, 10), value_of(chance), chance.choice([20, 99])
                if claim is not None and claim.fill(value, ttl):
                    model.put(key, value, ttl)
            case _:
                value, ttl = value_of(chance), chance.choice([20, 100])
                assert client.put(key, value, ttl)
                assert chance.choice(clients).get(key) == value
                model.put(key, value, ttl)
        for key in chance.sample(range(60), 12):
            seen = chance.choice(clients).get(key, None)
            assert seen in (None, model.get(key))
            lost += seen is None and model.get(key) is not None
        assert {client.usage for client in clients} == {on_disk(tmp_path / "c")}
    assert clients[0].verify().clean
    assert clients[0].stats.corrupt == clients[0].stats.errors == 0
    assert lost < STEPS * 6, "most has to be there"


def test_usage_stays_within_the_bound(tmp_path: Path) -> None:
    """The smallest values, whose indexes take about as much as they do; then larger ones."""
    client = FilesCacheClient(SIZE, tmp_path / "c", strict=True, clock=ManualClock())
    highest, chance = 0.0, random.Random(1)
    for number in range(110_000):
        assert client.put(number, number, 1000)
        if number % 50 == 0:
            highest = max(highest, client.usage)
    assert client.stats.evicted > 3_000  # by whole packs: how the names fall decides how many
    for number in range(3000):
        assert client.put(number, bytes(chance.randrange(40_000)), 1000)
        highest = max(highest, client.usage)
    assert SIZE * 0.8 < highest <= SIZE * 1.05
    assert client.usage == on_disk(tmp_path / "c")
    assert client.verify().clean


def test_clients_with_different_bounds(tmp_path: Path) -> None:
    """The one with little room goes on in a directory that was laid out for more."""
    clock = ManualClock()
    large = FilesCacheClient(10**9, tmp_path / "c", strict=True, clock=clock)
    little = FilesCacheClient(2_000_000, tmp_path / "c", strict=True, clock=clock)
    for number in range(300):
        assert large.put(number, bytes(5000), 1000)
        assert little.put(("little", number), bytes(5000), 1000)
        assert large.get(("little", number)) == bytes(5000)
        assert little.usage <= 10**9
    assert little.usage == on_disk(tmp_path / "c")
    assert little.verify().clean


def test_one_with_more_room_than_the_directory_was_laid_out_for(tmp_path: Path) -> None:
    clock = ManualClock()
    FilesCacheClient(SIZE, tmp_path / "c", strict=True, clock=clock).put("k", "v", 1000)
    large = FilesCacheClient(10**9, tmp_path / "c", strict=True, clock=clock)
    late = FilesCacheClient(10**9, tmp_path / "c", strict=True, clock=clock)
    for number in range(6000):
        assert large.put(number, number.to_bytes(4, "big") * 2000, 1000)
        if number % 20 == 0:
            back = max(number - 300, 0)
            assert late.get(back) == back.to_bytes(4, "big") * 2000
    assert large.usage == on_disk(tmp_path / "c") > SIZE
    assert large.verify().clean
    assert late.stats.errors == 0


def test_readers_beside_all_that_moves_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock they meet packs that go, indexes that grow, places that change."""
    small_lanes(monkeypatch, places=4, pack=4096)
    clients = [FilesCacheClient(SIZE, tmp_path / "c", strict=True) for _ in range(3)]
    latest = [0] * 20
    over = threading.Event()

    def work(number: int) -> Any:
        client, chance = clients[number % 3], random.Random(number)
        if number < 2:
            for step in range(1, 800):
                key = chance.randrange(10) * 2 + number
                client.put(key, (step, bytes(chance.choice(SIZES))), 1000)
                latest[key] = step
                if step % 10 == 0:
                    client._evictor._evict_pack(client._access.tree())
            over.set()
            return None
        while not over.is_set():
            key = chance.randrange(20)
            before = latest[key]
            found = client.get(key, None)
            assert found is None or found[0] >= before, "an old one"
        return None

    assert together(work, 5) == [None] * 5
    assert clients[0].usage == on_disk(tmp_path / "c")
    assert clients[0].verify().clean
    assert sum(client.stats.errors for client in clients) == 0


@pytest.mark.parametrize("tag", [1, 2**64 - 1])
def test_keys_whose_tags_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: int
) -> None:
    """One pushes the other out, and neither is taken for the other."""
    real = Place._at.__func__  # type: ignore[attr-defined]

    def same(cls: type[Place], digest: bytes) -> Place:
        place: Place = real(cls, digest)
        return place._replace(tag=tag, shard=place.shard & 3)

    monkeypatch.setattr(Place, "_at", classmethod(same))
    client = FilesCacheClient(SIZE, tmp_path / "c", strict=True, clock=ManualClock())
    for number in range(20):
        assert client.put(number, number, 1000)
        assert client.get(number) == number
        assert all(client.get(other, None) is None for other in range(number))
        assert client.put(("large", number), bytes(20_000), 1000)
    assert client.get(19, None) is None
    assert client.stats.corrupt == 0
    assert client.verify().clean


def test_names_and_values_at_the_limits(tmp_path: Path) -> None:
    client = FilesCacheClient(SIZE, tmp_path / "c", strict=True, clock=ManualClock())
    tree = client._access.tree
    for key in ("", "x" * 10_000, "x" * (1 << 20)):
        assert client.put(key, "value", 100)
        assert client.get(key) == "value"
    found = set()
    for size in range(tree().packs.limit - 200, tree().packs.limit):
        assert client.put("k", b"x" * size, 100)
        assert client.get("k") == b"x" * size
        found.add(str(dict(client.explain("k").detail)["file"]).startswith("packs/"))
        assert client.usage == on_disk(tmp_path / "c")
    assert found == {True, False}
    assert client.verify().clean
    assert client.delete("k")
    assert client.get("k", None) is None


def test_an_index_in_use_is_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has it mapped would be ended by the kernel."""
    monkeypatch.setattr(os, "ftruncate", lambda file, size: pytest.fail("cut") if size else None)
    small_lanes(monkeypatch, places=4, pack=4096)
    client = FilesCacheClient(SIZE, tmp_path / "c", strict=True, clock=ManualClock())
    client.put("k", "v", 100)
    tree = client._access.tree()
    mapped: list[Index] = [index for index in tree.packs._indexes if index is not None]
    client.clear()
    for number in range(300):
        client.put(number, number, 100)
    assert all(index.cells[0] for index in mapped)
