"""The exact LRU store: order, weights, evictions, and what may happen in the middle of a write."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.entry import ALWAYS, IF_ABSENT, IF_OLDER
from tiered.stores.lru import LockedLRUStore, LRUStore
from tiered.stores.weighing import Node

STORES = [LRUStore, LockedLRUStore]


def put(store: LRUStore, key: Any, value: Any = None, deadline: float = math.inf) -> bool:
    return store.put(key, value, deadline, 0.0)


def keys(store: LRUStore) -> list[Any]:
    return [node.key for node in store._order.values()]


@pytest.mark.parametrize("kind", STORES)
@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["put", "entry", "remove", "touch"]), st.integers(0, 6))
    )
)
def test_the_least_recently_used_leaves_first(
    kind: type[LRUStore], operations: list[tuple[str, int]]
) -> None:
    store = kind(3)
    model: list[int] = []  # least recently used first
    for operation, key in operations:
        if operation == "put":
            put(store, key, str(key))
            if key in model:
                model.remove(key)
            model = [*model, key][-3:]
        elif operation == "entry":
            found = store.entry(key)
            assert (found is not None) is (key in model)
            if key in model:
                model.remove(key)
                model.append(key)
        elif operation == "remove":
            assert store.remove(key) is (key in model)
            model = [kept for kept in model if kept != key]
        else:
            store.touch(key, math.inf)  # a longer life is no use
        assert keys(store) == model
        assert store.usage == len(store) == len(model)


@pytest.mark.parametrize("kind", STORES)
def test_the_hot_path_is_entry_in_two_calls(kind: type[LRUStore]) -> None:
    store = kind(2)
    put(store, "a", 1)
    put(store, "b", 2)
    lookup, note, counts, compiled, _ = store.hot_path()
    assert not counts
    assert compiled is None
    found = lookup("a")
    assert found is not None
    assert found.value == 1
    assert (note is None) is (kind is LockedLRUStore)
    if note is not None:
        assert isinstance(found, Node)
        note(found.place)
        with pytest.raises(KeyError):
            note(-1)
    put(store, "c", 3)
    assert keys(store) == ["a", "c"]
    assert lookup("b") is None


def test_the_hot_path_survives_a_clear() -> None:
    store = LRUStore(2)
    lookup = store.hot_path().lookup
    put(store, "a", 1)
    assert store.clear() == 1
    assert lookup("a") is None
    put(store, "a", 2)
    found = lookup("a")
    assert found is not None
    assert found.value == 2


def test_weights_bound_the_store() -> None:
    evicted: list[tuple[Any, Any, str]] = []
    store = LRUStore(
        10, weigher=lambda key, value: value, on_evict=lambda *gone: evicted.append(gone)
    )
    for key, weight in (("a", 4), ("b", 4), ("c", 2)):
        assert put(store, key, weight)
    assert store.usage == 10
    assert put(store, "d", 5)
    assert keys(store) == ["c", "d"]
    assert evicted == [("a", 4, "size"), ("b", 4, "size")]
    assert put(store, "c", 5)
    assert store.usage == 10


def test_what_outweighs_the_store_takes_its_predecessor_along() -> None:
    store = LRUStore(10, weigher=lambda key, value: value)
    put(store, "a", 3)
    put(store, "b", 3)
    assert not put(store, "a", 11)
    assert keys(store) == ["b"]
    assert store.usage == 3


def test_a_store_of_nothing_holds_nothing() -> None:
    store = LRUStore(0)
    assert not put(store, "a")
    assert len(store) == 0


@pytest.mark.parametrize(
    ("weight", "error"), [(-1, ValueError), ("1", TypeError), (None, TypeError)]
)
def test_a_weigher_must_answer_with_a_weight(weight: Any, error: type[Exception]) -> None:
    store = LRUStore(10, weigher=lambda key, value: weight)
    with pytest.raises(error, match="weigher"):
        put(store, "a")
    assert len(store) == 0


def test_fractions_of_weights_do_not_add_up_to_a_lie() -> None:
    store = LRUStore(0.3, weigher=lambda key, value: 0.1)
    for key in range(1000):
        assert put(store, key)
    assert 2 <= len(store) <= 3


def test_conditions() -> None:
    store = LRUStore(10)
    assert store.put("k", "a", 100.0, 0.0, IF_ABSENT)
    assert not store.put("k", "b", 200.0, 0.0, IF_ABSENT)
    assert store.put("k", "c", 150.0, 100.0, IF_ABSENT)  # the first is stale by now
    assert not store.put("k", "d", 150.0, 0.0, IF_OLDER)
    assert store.put("k", "e", 151.0, 0.0, IF_OLDER)
    assert store.put("k", "f", 1.0, 0.0, ALWAYS)


def test_expiring_and_sweeping() -> None:
    evicted: list[Any] = []
    store = LRUStore(10, on_evict=lambda key, value, cause: evicted.append((key, cause)))
    for deadline in (10.0, 20.0, 30.0):
        put(store, deadline, deadline=deadline)
    assert store.expire(30.0, 25.0)
    assert not store.expire(20.0, 25.0)  # stale already
    assert not store.expire("absent", 25.0)
    assert store.sweep(20.0) == 1
    assert evicted == [(10.0, "expired")]
    assert store.sweep(26.0) == 2
    assert store.usage == 0


def test_touch_never_shortens() -> None:
    store = LRUStore(10)
    put(store, "k", deadline=10.0)
    assert not store.touch("k", 10.0)
    assert not store.touch("k", 5.0)
    assert not store.touch("absent", 5.0)
    assert store.touch("k", 11.0)


def test_a_failing_callback_does_not_fail_the_write(caplog: pytest.LogCaptureFixture) -> None:
    def fail(key: Any, value: Any, cause: str) -> None:
        raise RuntimeError("callback")

    store = LRUStore(1, on_evict=fail)
    put(store, "a")
    assert put(store, "b")
    assert keys(store) == ["b"]
    assert "on_evict failed for the key 'a'" in caplog.text


def test_callbacks_run_without_the_lock() -> None:
    held: list[bool] = []
    store = LRUStore(1, on_evict=lambda *gone: held.append(bool(store._lock._is_owned())))  # type: ignore[attr-defined]
    put(store, "a")
    put(store, "b")
    put(store, "c", deadline=1.0)
    store.sweep(2.0)
    assert held == [False, False, False]


class Nosy:
    """A value whose finaliser uses the cache."""

    def __init__(self, store: LRUStore, seen: list[Any]) -> None:
        self.store = store
        self.seen = seen

    def __del__(self) -> None:
        self.seen.append((bool(self.store._lock._is_owned()), len(self.store)))  # type: ignore[attr-defined]
        put(self.store, "from the finaliser")


@pytest.mark.parametrize("act", ["overwrite", "evict", "remove", "clear", "sweep"])
def test_finalisers_may_use_the_cache(act: str) -> None:
    store = LRUStore(1)
    seen: list[Any] = []
    put(store, "k", Nosy(store, seen), deadline=1.0)
    if act == "overwrite":
        put(store, "k", "plain")
    elif act == "evict":
        put(store, "other", "plain")
    elif act == "remove":
        store.remove("k")
    elif act == "clear":
        store.clear()
    else:
        store.sweep(2.0)
    assert [owned for owned, _ in seen] == [False]
    assert store.usage == len(store) == 1


class Meddler:
    """A key whose comparison uses the cache."""

    def __init__(self, store: LRUStore) -> None:
        self.store = store

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        put(self.store, "from the comparison")
        return self is other


def test_keys_may_use_the_cache_while_they_are_compared() -> None:
    store = LRUStore(5)
    for _ in range(10):
        key = Meddler(store)
        put(store, key)
        store.entry(Meddler(store))
        store.remove(Meddler(store))
    assert store.usage == len(store) <= 5


def test_a_dropped_store_is_collected() -> None:
    store = LRUStore(5)
    put(store, "k", store)  # a cycle through a value
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


def test_after_a_fork_the_lock_is_free_and_the_count_is_right() -> None:
    store = LRUStore(5)
    put(store, "a")
    store._usage = 17  # as if a writer of the parent had been stopped between two steps
    store._lock.acquire()
    store.after_fork()
    assert store.usage == 1
    assert put(store, "b")
