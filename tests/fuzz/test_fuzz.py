"""A corpus of fuzzing programs, steady work that must not grow, and cycles that must go.

More of it: ``python -m tests.fuzz.driver --help``; under checkers of memory: ``make memcheck``.
"""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fuzz.driver import TARGETS, besiege, hostile_surroundings
from tests.fuzz.leaks import measure
from tests.fuzz.program import Program
from tests.fuzz.stores import STORES, MakeStore
from tiered import InprocCacheClient, cached

SEEDS = range(1, 25)
OPERATIONS = 600


@pytest.fixture(autouse=True)
def surroundings() -> Iterator[None]:
    with hostile_surroundings():
        yield


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_corpus(target: str, seed: int) -> None:
    besiege(TARGETS[target], Program.of(seed), OPERATIONS)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_corpus_with_threads(target: str, seed: int) -> None:
    besiege(TARGETS[target], Program.of(seed), OPERATIONS, threads=4)


@pytest.mark.timeout(120)
def test_steady_work_does_not_grow() -> None:
    (_, memory, references), *_, (_, memory_then, references_then) = measure(200_000)
    assert memory_then < memory + 2.0
    for name, count in references.items():
        assert references_then[name] < count + 500, name


_END_OF_A_KEY = """
import sys
from tests.fuzz.stores import STORES

class Key:
    def __init__(self, name, act=None, last=None):
        self.name, self.act, self.last = name, act, last
    def __hash__(self):
        return 1
    def __eq__(self, other):
        for one in (self, other):
            act, one.act = one.act, None
            if act:
                act()
        return self.name == other.name
    def __del__(self):
        if self.last:
            self.last()

store = STORES[sys.argv[1]](1000)
store.put(Key("first", last=store.clear), 1, 9.0, 0.0)
store.put(Key("second"), 2, 9.0, 0.0)
# The first key loses its entry while it is compared, and dies when the search lets go of it.
found = store.entry(Key("second", act=lambda: store.remove(Key("first"))))
assert len(store) == 0
assert found is None or found.value == 2
"""


@pytest.mark.parametrize("name", STORES)
def test_a_key_that_clears_the_store_when_the_search_lets_go_of_it(name: str) -> None:
    # In a process of its own: what it is about is a crash.
    done = subprocess.run(
        [sys.executable, "-c", _END_OF_A_KEY, name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class Value:
    """What can be followed."""

    def __init__(self) -> None:
        self.bond: Any = None


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
@pytest.mark.parametrize("key", ["k", ("space", "k"), 1])
def test_a_store_in_a_cycle_with_its_value_is_collected(make: MakeStore, key: Any) -> None:
    store, value = make(5), Value()
    value.bond = store
    store.put(key, value, math.inf, 0.0)
    gone = weakref.ref(value)
    del store, value
    assert gone() is not None
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_a_store_in_a_cycle_with_its_key_or_callbacks_is_collected(make: MakeStore) -> None:
    for place in range(4):
        bond = Value()

        def weigh(*_: Any, bond: Value = bond) -> int:
            return 1

        keys: list[Any] = [bond, ("space", bond)]
        store = make(5, weigh if place == 2 else None, weigh if place == 3 else None)
        bond.bond = store
        if place < len(keys):
            store.put(keys[place], "value", math.inf, 0.0)
        gone = weakref.ref(bond)
        del store, bond, weigh, keys
        gc.collect()
        assert gone() is None


def test_a_cached_function_in_a_cycle_with_its_value_is_collected() -> None:
    def tie() -> weakref.ref[Value]:
        value = Value()

        @cached(InprocCacheClient(5), math.inf)
        def function(x: int) -> Value:
            return value

        assert function(1) is function(1)
        value.bond = function
        return weakref.ref(value)

    gone = tie()
    gc.collect()
    assert gone() is None


def test_a_coroutine_function_in_a_cycle_with_its_value_is_collected() -> None:
    def tie() -> weakref.ref[Value]:
        value = Value()

        @cached(InprocCacheClient(5), math.inf)
        async def function(x: int) -> Value:
            return value

        async def fill() -> None:
            assert await function(1) is await function(1)

        asyncio.run(fill())
        value.bond = function
        return weakref.ref(value)

    gone = tie()
    gc.collect()
    assert gone() is None


def test_an_awaitable_that_holds_itself_is_collected() -> None:
    def tie() -> weakref.ref[Value]:
        value = Value()

        @cached(InprocCacheClient(5), math.inf)
        async def function(x: int) -> Value:
            raise AssertionError("it was put")

        async def fill() -> None:
            await function.put(1, _cache_put=value)

        asyncio.run(fill())
        awaitable: Any = function(1)
        if hasattr(awaitable, "cr_frame"):
            awaitable.close()  # that of the front door in Python holds no value yet
        value.bond = awaitable
        return weakref.ref(value)

    gone = tie()
    gc.collect()
    assert gone() is None


def test_a_door_that_is_called_while_it_is_collected_does_not_crash() -> None:
    answers: list[Any] = []

    class Heir:
        def __init__(self, door: Any) -> None:
            self.door = door

        def __del__(self) -> None:
            try:
                answers.append(self.door(1, y=2))
            except Exception as error:
                answers.append(error)

    class Parent:
        door: Any
        itself: Any

        def __del__(self) -> None:
            self.heir = Heir(self.door)  # so late that the collector clears before it is heard

    def leave_garbage() -> None:
        @cached(InprocCacheClient(10), math.inf)
        def function(x: int, y: int) -> int:
            return x + y

        assert function(1, 2) == function(1, 2) == 3
        parent = Parent()
        parent.door, parent.itself = function.entered, parent

    leave_garbage()
    gc.collect()
    assert len(answers) == 1
