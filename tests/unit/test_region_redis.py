"""dogpile.cache's own redis backend under a region, with its locks, on a server that is faked."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.regions import PATIENCE, HeldUp, entered, in_threads
from tiered.region import NO_VALUE, CacheRegion, make_region
from tiered.testing import ManualClock

fakeredis = pytest.importorskip("fakeredis")
redis = pytest.importorskip("redis")
pytest.importorskip("dogpile.cache")


@pytest.fixture(params=[False, True], ids=["threads", "distributed_lock"])
def region(
    request: pytest.FixtureRequest, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CacheRegion]:
    server = fakeredis.FakeServer()
    monkeypatch.setattr(
        redis, "StrictRedis", lambda **_options: fakeredis.FakeStrictRedis(server=server)
    )
    arguments = {"host": "nowhere", "distributed_lock": request.param, "lock_timeout": 5}
    with warnings.catch_warnings():
        # Its lock belongs to the thread that took it, which is not what it recommends.
        warnings.simplefilter("ignore", UserWarning)
        yield make_region(clock=clock).configure("dogpile.cache.redis", 10, arguments)


def test_values(region: CacheRegion, clock: ManualClock) -> None:
    assert region.get("k") is NO_VALUE
    region.set("k", {"a": (1, 2)})
    region.set_multi({"a": 1, "b": None})
    assert region.get_multi(["k", "a", "b", "none"]) == [{"a": (1, 2)}, 1, None, NO_VALUE]
    assert region.get_or_create_multi(["a", "c"], lambda *keys: [3]) == [1, 3]
    region.delete_multi(["k", "a"])
    assert region.get_multi(["k", "a", "c"]) == [NO_VALUE, NO_VALUE, 3]
    region.invalidate()
    assert region.get("c") is NO_VALUE
    region.set("c", 4)
    clock.advance(11)
    assert region.get("c") is NO_VALUE
    assert region.get("c", ignore_expiration=True) == 4
    assert region.stats.errors == 0


def test_threads_and_tasks_create_once(region: CacheRegion) -> None:
    creator = HeldUp()
    all_in = entered(region, 8)

    def in_a_loop() -> list[Any]:
        async def ask() -> list[Any]:
            asked = [region.aio.get_or_create("k", creator) for _ in range(4)]
            return list(await asyncio.gather(*asked))

        return asyncio.run(ask())

    join = in_threads(in_a_loop, *[lambda: region.get_or_create("k", creator)] * 4)
    assert all_in.wait(PATIENCE)
    assert region.key_is_locked("k")
    creator.go.set()
    assert join() == [["made"] * 4, *["made"] * 4]
    assert creator.calls == 1
    assert not region.key_is_locked("k")
    assert region.stats.errors == 0
