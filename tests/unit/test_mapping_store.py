"""Stores on foreign mappings: cachetools' policies, dicts, and what they may come with."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any

import cachetools
import pytest

from tiered.stores.choose import choose_store
from tiered.stores.mapping import POLICIES, MappingStore, policy_store


def put(store: Any, key: Any, value: Any = None, deadline: float = math.inf) -> bool:
    written: bool = store.put(key, value, deadline, 0.0)
    return written


def held(store: Any, *keys: Any) -> list[Any]:
    return [key for key in keys if key in store._mapping]


def test_fifo_evicts_the_oldest() -> None:
    store = policy_store("fifo", 2)
    put(store, 1)
    put(store, 2)
    store.entry(1)
    put(store, 3)
    assert held(store, 1, 2, 3) == [2, 3]


def test_lfu_evicts_the_least_used() -> None:
    store = policy_store("lfu", 2)
    put(store, 1)
    put(store, 2)
    for _ in range(3):
        store.entry(1)
    put(store, 3)
    assert held(store, 1, 2, 3) == [1, 3]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_evictions_are_announced_with_their_cause(policy: str) -> None:
    evicted: list[Any] = []
    store = policy_store(policy, 3, on_evict=lambda *gone: evicted.append(gone))
    for number in range(10):
        put(store, number, str(number), deadline=float(number))
    assert len(store) == store.usage == 3
    assert len(evicted) == 7
    assert all(value == str(key) and cause == "size" for key, value, cause in evicted)
    assert store.sweep(100.0) == 3
    assert [cause for _, _, cause in evicted[7:]] == ["expired"] * 3


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_replacement_is_no_eviction(policy: str) -> None:
    evicted: list[Any] = []
    store = policy_store(
        policy, 10, weigher=lambda key, value: value, on_evict=lambda *gone: evicted.append(gone)
    )
    put(store, "a", 4)
    put(store, "a", 9)
    put(store, "a", 10)
    assert evicted == []
    assert not put(store, "a", 11)
    assert held(store, "a") == []


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_weights_bound_the_store(policy: str) -> None:
    store = policy_store(policy, 10, weigher=lambda key, value: value)
    for number in range(20):
        put(store, number, 3)
    assert store.usage == 9
    assert len(store) == 3


def test_a_plain_dict_is_kept_within_the_size() -> None:
    evicted: list[Any] = []
    mapping: dict[Any, Any] = {}
    store = MappingStore(mapping, 2, on_evict=lambda *gone: evicted.append(gone))
    for number in range(4):
        assert put(store, number, str(number))
    assert list(mapping) == [2, 3]
    assert evicted == [(0, "0", "size"), (1, "1", "size")]


def test_a_plain_dict_is_kept_within_a_weight() -> None:
    store = MappingStore({}, 10, weigher=lambda key, value: value)
    put(store, "a", 4)
    put(store, "b", 5)
    put(store, "c", 6)
    assert held(store, "a", "b", "c") == ["c"]
    put(store, "d", 4)
    assert held(store, "c", "d") == ["c", "d"]


def test_what_a_mapping_held_before_never_expires() -> None:
    store = MappingStore({"old": "value"}, 10)
    found = store.entry("old")
    assert found is not None
    assert (found.value, found.deadline) == ("value", math.inf)
    assert not store.touch("old", 5.0)
    assert store.expire("old", 5.0)
    assert store.sweep(6.0) == 1
    assert store.usage == 0


def test_what_held_nothing_of_ours_can_be_replaced_and_removed() -> None:
    store = MappingStore({"a": None, "b": None}, 10)
    assert put(store, "a", 1)
    assert store.remove("b")
    assert not store.remove("b")
    assert store.clear() == 1


def test_a_mapping_may_be_smaller_than_the_client_believes() -> None:
    store = MappingStore(cachetools.LRUCache(2, getsizeof=lambda node: node.value), 100)
    assert put(store, "a", 1)
    assert not put(store, "b", 3)  # cachetools refuses it with a ValueError
    assert held(store, "a", "b") == ["a"]


def test_after_a_fork_amid_a_write_the_store_starts_anew() -> None:
    store = policy_store("lfu", 2)
    put(store, 1)
    store.after_fork()
    assert held(store, 1) == [1]  # nobody was writing

    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._lock:
            holding.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    lock = store._lock
    store.after_fork()
    assert store._lock is not lock
    assert held(store, 1) == []
    assert put(store, 2)
    done.set()
    thread.join()


def test_the_lock_covers_reads_of_what_reads_by_writing() -> None:
    store = policy_store("lfu", 64)
    barrier = threading.Barrier(8)
    errors: list[Exception] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            for step in range(400):
                put(store, (number * step) % 100, step)
                store.entry(step % 100)
                store.remove((step + 1) % 100)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.usage == len(store) <= 64


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"size": -1}, ValueError, "size"),
        ({"size": "100"}, TypeError, "size"),
        ({"size": None}, TypeError, "size"),
        ({"size": True}, TypeError, "size"),
        ({"size": math.nan}, ValueError, "size"),
        ({"policy": "mru"}, ValueError, "policy"),
        ({"weigher": 3}, TypeError, "weigher"),
        ({"on_evict": "print"}, TypeError, "on_evict"),
        ({"store": []}, TypeError, "store"),
        ({"store": list}, TypeError, "store"),
    ],
)
def test_what_cannot_be_right_is_refused(
    options: dict[str, Any], error: type[Exception], named: str
) -> None:
    arguments = {
        "size": 10,
        "policy": "lru",
        "store": None,
        "weigher": None,
        "on_evict": None,
        **options,
    }
    with pytest.raises(error, match=f"{named} must be"):
        choose_store(**arguments)


def test_a_class_of_mappings_is_made_with_the_size() -> None:
    store = choose_store(7, "lru", cachetools.LRUCache, None, None)
    assert isinstance(store, MappingStore)
    assert isinstance(store._mapping, cachetools.LRUCache)
    assert store._mapping.maxsize == 7
    ordered = choose_store(7, "lru", OrderedDict(), None, None)
    assert ordered.capacity == 7
