"""Threads and tasks at one region, while others delete, set and invalidate: nothing comes back.

Each key has a source whose version only rises. Whoever changes it tells the region, and only
then raises the *floor*. What is begun after that and brings less than the floor was served
from before the change.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.regions import in_threads
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.region import NO_VALUE, CacheRegion, make_region

KEYS = [f"k{number}" for number in range(6)]
THREADS, LOOPS, TASKS, TURNS = 4, 2, 4, 120


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that are switched all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


class Mischief:
    """A source of versions, regions in front of it, and what was wrong.

    Args:
        regions: of one process each.
        seed: of what is done.
        joined: whether a caller may get what another one has begun before: between two
            processes, who joins a computation does not hear of a delete elsewhere.
    """

    def __init__(self, regions: list[CacheRegion], seed: int, *, joined: bool) -> None:
        self.regions = regions
        self.seed = seed
        self.joined = joined
        self.source = dict.fromkeys(KEYS, 0)
        self.floor = dict.fromkeys(KEYS, 0)
        self.locks = {key: threading.Lock() for key in KEYS}
        self.wrong: list[Any] = []

    def create(self, key: str) -> int:
        return self.source[key]

    async def create_later(self, key: str) -> int:
        version = self.source[key]
        await asyncio.sleep(0)
        return version

    def change(self, region: CacheRegion, key: str, dice: random.Random) -> None:
        with self.locks[key]:
            self.source[key] += 1
            tell: Callable[[], None] = dice.choice(
                [
                    lambda: region.delete(key),
                    lambda: region.delete_multi([key]),
                    lambda: region.set(key, self.source[key]),
                    lambda: region.invalidate(),
                ]
            )
            tell()
            self.floor[key] = self.source[key]

    def check(self, how: str, key: str, floor: int, version: Any) -> None:
        if version is NO_VALUE or (self.joined and how.startswith("create")):
            return
        if version < floor:
            self.wrong.append((how, key, version, floor))

    def thread(self, number: int) -> None:
        dice = random.Random(f"{self.seed} {number}")
        for _ in range(TURNS):
            region, keys = dice.choice(self.regions), dice.sample(KEYS, 3)
            floors = [self.floor[key] for key in keys]
            kind = dice.choice(["change", "get", "get_multi", "create", "create", "create_multi"])
            if kind == "change":
                self.change(region, keys[0], dice)
                continue
            if kind == "get":
                found = [region.get(keys[0])]
            elif kind == "get_multi":
                found = region.get_multi(keys)
            elif kind == "create":
                made = region.get_or_create(keys[0], self.create, creator_args=((keys[0],), {}))
                found = [made]
            else:
                found = region.get_or_create_multi(keys, lambda *some: [*map(self.create, some)])
            for key, floor, version in zip(keys, floors, found, strict=False):
                self.check(kind, key, floor, version)

    async def task(self, number: int) -> None:
        dice = random.Random(f"{self.seed} task {number}")
        for _ in range(TURNS // 4):
            region, keys = dice.choice(self.regions).aio, dice.sample(KEYS, 3)
            floors = [self.floor[key] for key in keys]
            kind = dice.choice(["get", "create", "create", "create_multi", "cancelled"])
            if kind == "get":
                found = [await region.get(keys[0])]
            elif kind == "create_multi":

                async def many(*some: str) -> list[int]:
                    return [await self.create_later(key) for key in some]

                found = await region.get_or_create_multi(keys, many)
            else:
                asked = asyncio.ensure_future(
                    region.get_or_create(keys[0], self.create_later, creator_args=((keys[0],), {}))
                )
                if kind == "cancelled":
                    await asyncio.sleep(0)
                    asked.cancel()
                found = list(await asyncio.gather(asked, return_exceptions=True))
                if isinstance(found[0], asyncio.CancelledError):
                    continue
            for key, floor, version in zip(keys, floors, found, strict=False):
                self.check(kind, key, floor, version)

    def loop(self, number: int) -> None:
        async def run() -> None:
            await asyncio.gather(*[self.task(number * TASKS + one) for one in range(TASKS)])

        asyncio.run(run())

    def run(self) -> None:
        works: list[Callable[[], None]] = [
            lambda number=number: self.thread(number)  # type: ignore[misc]
            for number in range(THREADS)
        ]
        works += [lambda number=number: self.loop(number) for number in range(LOOPS)]  # type: ignore[misc]
        assert in_threads(*works)() == [None] * len(works)
        assert self.wrong == []
        for region in self.regions:
            assert region.stats.errors == 0
            assert not any(region.key_is_locked(key) for key in KEYS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["memory", "inproc"])
def test_in_one_process(hasty: None, kind: str, seed: int) -> None:
    backend: Any = InprocCacheClient(100) if kind == "inproc" else kind
    Mischief([make_region().configure(backend, 1000)], seed, joined=False).run()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("tiers", [False, True])
def test_over_a_server(hasty: None, memcached: PrivateMemcached, tiers: bool, seed: int) -> None:
    client = MemcachedClient([memcached.address], checksum_key=SECRET, prefix=unique_prefix())
    with client:
        backend: Any = [InprocCacheClient(3), client] if tiers else client
        Mischief([make_region().configure(backend, 1000)], seed, joined=False).run()


@pytest.mark.parametrize("seed", range(2))
def test_in_two_processes(hasty: None, memcached: PrivateMemcached, seed: int) -> None:
    prefix = unique_prefix()
    clients = [
        MemcachedClient([memcached.address], checksum_key=SECRET, prefix=prefix) for _ in range(2)
    ]
    with clients[0], clients[1]:
        regions = [make_region().configure(client, 1000) for client in clients]
        Mischief(regions, seed, joined=True).run()
