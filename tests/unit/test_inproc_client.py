"""The in-process client: what the stores do, seen through the interface."""

from __future__ import annotations

import math
from typing import Any

import cachetools
import pytest

import tiered
from tests.fakes import together
from tiered.clients.inproc import InprocCacheClient
from tiered.testing import ManualClock


def test_it_holds_the_object_itself() -> None:
    client = InprocCacheClient(10)
    value: list[int] = []
    client.put("k", value, 10)
    assert client.get("k") is value


def test_the_least_recently_used_leaves(clock: ManualClock) -> None:
    client = InprocCacheClient(2, clock=clock)
    client.put("a", 1, 100)
    client.put("b", 2, 100)
    client.get("a")
    client.put("c", 3, 100)
    assert client.get_multi("abc", None) == {"a": 1, "b": None, "c": 3}


def test_evictions_are_told_with_their_cause(clock: ManualClock) -> None:
    gone: list[Any] = []
    client = InprocCacheClient(2, on_evict=lambda *told: gone.append(told), clock=clock)
    for number in range(3):
        client.put(number, str(number), 10)
    client.delete(1)  # the caller's own doing
    client.put(2, "again", 10)
    clock.advance(11)
    client.purge()
    assert gone == [(0, "0", "size"), (2, "again", "expired")]


def test_a_callback_may_use_the_client(clock: ManualClock) -> None:
    spilled = InprocCacheClient(10, clock=clock)
    client = InprocCacheClient(
        1, on_evict=lambda key, value, cause: spilled.put(key, value, 10), clock=clock
    )
    client.put("a", 1, 10)
    client.put("b", 2, 10)
    assert spilled.get("a") == 1


def test_without_a_bound() -> None:
    client = InprocCacheClient(math.inf)
    for number in range(1000):
        client.put(number, number, 10)
    assert client.usage == 1000
    assert repr(client) == "<InprocCacheClient 1000/inf>"


def test_of_no_size_it_holds_nothing() -> None:
    client = InprocCacheClient(0)
    assert not client.put("k", 1, 10)
    assert client.get("k", None) is None
    assert client.stats.drops == 1


def test_any_mapping_serves_as_store(clock: ManualClock) -> None:
    mapping: dict[Any, Any] = {}
    client = InprocCacheClient(2, store=mapping, clock=clock)
    client.put("a", 1, 10)
    assert list(mapping) == ["a"]
    lfu = InprocCacheClient(2, store=cachetools.LFUCache, clock=clock)
    lfu.put("a", 1, 10)
    lfu.get("a")
    lfu.put("b", 2, 10)
    lfu.put("c", 3, 10)
    assert lfu.get("a") == 1
    assert lfu.usage == 2


@pytest.mark.parametrize("size", [-1, -0.5, math.nan, "100", None, [], True, object()])
def test_a_size_that_cannot_be_right_is_refused(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="size must be a number of entries"):
        InprocCacheClient(size)


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "rr"])
def test_threads_leave_it_consistent(policy: str) -> None:
    client = InprocCacheClient(50, policy=policy)

    def work(number: int) -> None:
        for step in range(500):
            key = (number * 7 + step) % 120
            client.put(key, key, 100)
            assert client.get(key, key) == key
            if step % 5 == 0:
                client.delete((key + 1) % 120)
                client.expire((key + 2) % 120)
                client.renew((key + 3) % 120, 200)

    assert together(work, 8) == [None] * 8
    assert client.usage <= 50
    assert sum(client.contains(key) for key in range(120)) <= 50


@pytest.mark.skipif(tiered.accelerated, reason="the compiled store has no lock")
def test_a_hit_takes_no_lock_of_ours() -> None:
    client = InprocCacheClient(10)
    client.put("k", 1, 100)
    with client._store._lock:  # type: ignore[attr-defined]
        assert together(lambda _: client.get("k"), 2) == [1, 1]


def test_a_key_that_makes_the_client_anew_while_it_is_hashed() -> None:
    client = InprocCacheClient(20_000)
    for number in range(10_000):
        client.put(number, number, 100)

    class Key:
        def __hash__(self) -> int:
            client.__init__(10)  # type: ignore[misc]
            return 1

    assert client.put(Key(), 1, 100)
    assert client.get(Key(), None) is None
    assert client.capacity == 10
