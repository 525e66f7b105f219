"""S3-FIFO in Python: who leaves, step by step, and what is not to be seen from outside.

The contract of stores and the comparison with a model are in ``tests/contract``.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from tiered.stores.choose import choose_store
from tiered.stores.ghost import Ghost, tag_of
from tiered.stores.s3fifo import LockedS3FIFOStore, S3FIFOStore


def put(store: S3FIFOStore, *keys: Any) -> None:
    for key in keys:
        assert store.put(key, None, math.inf, 0.0)


def use(store: S3FIFOStore, *keys: Any) -> None:
    for key in keys:
        assert store.entry(key) is not None


def queues(store: S3FIFOStore) -> tuple[list[Any], list[Any]]:
    """The keys of the small and of the main queue, the oldest first."""
    small, main = store._small.nodes.values(), store._main.nodes.values()
    return [node.key for node in small], [node.key for node in main]


def full() -> S3FIFOStore:
    """A store of 20, full, of which nothing has been used."""
    store = S3FIFOStore(20)
    put(store, *range(20))
    return store


def test_until_something_leaves_the_main_queue_takes_what_the_small_one_cannot() -> None:
    assert queues(full()) == ([0, 1], list(range(2, 20)))


def test_what_is_used_once_or_never_leaves_by_the_small_queue() -> None:
    store = full()
    use(store, 0)
    put(store, "a", "b", "c")
    assert queues(store) == (["b", "c"], list(range(2, 20)))


def test_what_is_used_twice_moves_to_the_main_queue() -> None:
    store = full()
    use(store, 0, 0)
    put(store, "a")  # the small queue now holds less than its share: the main queue pays
    assert queues(store) == ([1, "a"], [*range(3, 20), 0])


def test_each_of_the_last_three_uses_is_a_round_in_the_main_queue() -> None:
    store = full()
    store.remove(0)
    store.remove(1)
    use(store, *[2] * 50, 3)
    assert store._evict().key == 4
    assert queues(store) == ([], [*range(5, 20), 2, 3])
    assert (store._nodes[2].uses, store._nodes[3].uses) == (2, 0)


def test_what_comes_back_soon_goes_to_the_main_queue() -> None:
    store = full()
    put(store, "a")  # 0 leaves
    put(store, 0)  # 1 leaves
    assert queues(store) == (["a"], [*range(2, 20), 0])
    put(store, "b")
    assert 2 not in queues(store)[1]
    put(store, 2)  # what left the main queue is not remembered
    assert queues(store)[0][-1] == 2


def test_the_ghost_forgets_the_generation_before_the_last() -> None:
    store = full()  # 20 entries: a generation is 12 tags
    put(store, *(("new", number) for number in range(24)))  # 0, 1 and 22 of these left
    put(store, 0, 1)  # the first to leave, of the first of two generations
    assert queues(store)[0] == [0, 1]
    put(store, ("new", 17))
    assert queues(store)[1][-1] == ("new", 17)


def test_the_ghost_by_itself() -> None:
    ghost = Ghost()
    for tag in range(1, 7):
        ghost.remember(tag, 10)
    for tag in range(7, 12):
        ghost.remember(tag, 10)
    assert ghost.recall(1)
    assert not ghost.recall(1)
    assert ghost.recall(11)
    ghost.remember(12, 10)
    ghost.remember(13, 10)  # six young ones: those from 2 to 6 are forgotten
    assert not any(ghost.recall(tag) for tag in range(2, 7))
    assert all(ghost.recall(tag) for tag in (7, 13))
    ghost.clear()
    assert not ghost.recall(8)


def test_a_scan_leaves_what_is_used_in_place() -> None:
    store = full()
    use(store, *range(2, 20))
    put(store, *(("scan", number) for number in range(1000)))
    assert queues(store)[1] == list(range(2, 20))


def test_a_value_that_grew_too_much_is_the_newest_of_its_queue() -> None:
    store = S3FIFOStore(10, weigher=lambda key, value: value or 1)
    put(store, *range(10))
    store.entry(1)
    store.put(1, 3, math.inf, 0.0)
    assert queues(store) == ([], [3, 4, 5, 6, 7, 8, 9, 1])
    store.put(3, 2, math.inf, 0.0)
    assert queues(store) == ([], [5, 6, 7, 8, 9, 1, 3])


def test_uses_are_counted_where_readers_can_count_them() -> None:
    store = full()
    lookup, note, counts, *_ = store.hot_path()
    assert note is None
    assert counts
    assert lookup(0) is not None
    store._nodes[0].uses += 2  # what a caller who counts nanoseconds does itself
    put(store, "a")
    assert queues(store)[1][-1] == 0


def test_another_deadline_keeps_place_and_uses() -> None:
    store = S3FIFOStore(20)
    for number in range(20):
        store.put(number, None, 100.0, 0.0)
    use(store, 0, 0)
    assert store.expire(0, 50.0)
    assert store.touch(0, 70.0)
    assert queues(store)[0] == [0, 1]
    put(store, "a")
    assert queues(store)[1][-1] == 0


@pytest.mark.parametrize(
    ("hashed", "tag"),
    [(0, 1), (1, 0x9E3779B9), (2, 0x3C6EF372), (-2, 0xC3910C8D), (2**32, 0x7F4A7C15)],
)
def test_the_tags_of_the_ghost(hashed: int, tag: int) -> None:
    assert tag_of(hashed) == tag


def test_after_a_fork_amid_a_move_everything_is_counted_once() -> None:
    store = full()
    node = store._small.oldest()
    store._main.append(node)  # as if a writer of the parent had been stopped between two steps
    store._small.usage = 17
    store._lock.acquire()
    store.after_fork()
    assert queues(store) == ([1], [*range(2, 20), 0])
    assert store.usage == len(store) == 20
    put(store, "b")


def test_without_the_gil_a_hit_takes_the_lock() -> None:
    store = LockedS3FIFOStore(1)
    put(store, 1)
    path = store.hot_path()
    assert path.note is None
    assert not path.counts
    assert path.lookup(1) is not None


def test_the_policy_has_a_name() -> None:
    assert type(choose_store(7, "s3fifo", None, None, None)).__name__ == "S3FIFOStore"
    with pytest.raises(ValueError, match=r"one of \['fifo', 'lfu', 'lru', 'rr', 's3fifo'\]"):
        choose_store(7, "s4fifo", None, None, None)
