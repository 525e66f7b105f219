"""Stores of one policy, in Python and compiled, beside a model on lists: the same step by step."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.contract.models import MODELS, tag
from tests.contract.stores import COMPILED, KINDS
from tiered.entry import ALWAYS, Condition


def makers(policy: str) -> dict[str, Callable[..., Any]]:
    """All that follow *policy*, by name."""
    kinds = {policy: KINDS[policy], f"{policy}-locked": KINDS[f"{policy}-locked"]}
    if policy in COMPILED:
        kinds["compiled"] = COMPILED[policy]
    return {"model": MODELS[policy], **{name: kind.make for name, kind in kinds.items()}}


class Twins:
    """Several stores that are given the same operations and must answer alike."""

    def __init__(self, policy: str, capacity: float, weighed: bool) -> None:
        weigher = weigh if weighed else None
        self.evicted: dict[str, list[Any]] = {name: [] for name in makers(policy)}
        self.stores = {
            name: make(capacity, weigher, self._listener(self.evicted[name]))
            for name, make in makers(policy).items()
        }

    @staticmethod
    def _listener(evicted: list[Any]) -> Callable[..., None]:
        # The very key and value; by repr() also 1, 1.0 and True differ.
        return lambda key, value, cause: evicted.append((repr(key), value, cause))

    def do(self, name: str, *arguments: Any) -> Any:
        """Call the method *name* of all; the answer."""
        return self._same(getattr(store, name)(*arguments) for store in self.stores.values())

    def read(self, key: Any) -> Any:
        """``entry`` of all; the answer as a tuple."""
        found = [store.entry(key) for store in self.stores.values()]
        return self._same(None if entry is None else tuple(entry) for entry in found)

    def _same(self, answers: Iterable[Any]) -> Any:
        named = dict(zip(self.stores, answers, strict=True))
        assert all(answer == named["model"] for answer in named.values()), named
        return named["model"]

    def compare(self) -> None:
        """What can be seen without a use."""
        self._same(len(store) for store in self.stores.values())
        self._same(store.usage for store in self.stores.values())
        expected = self.evicted["model"]
        for name, evicted in self.evicted.items():
            assert evicted == expected, name
        for evicted in self.evicted.values():
            evicted.clear()

    def flush(self, capacity: float) -> None:
        """Make everything leave; the evictions tell the order in which it stood."""
        for number in range(int(capacity) + 2):
            self.do("put", ("flush", number), (0, capacity), 0, 0)
            self.compare()


def weigh(key: Any, value: tuple[int, float]) -> float:
    """Values are pairs of a serial number and a weight."""
    return value[1]


class Pair(NamedTuple):
    first: Any
    second: Any


class Hashed:
    """A key with a chosen hash, equal to itself only."""

    def __init__(self, chosen: int) -> None:
        self.chosen = chosen

    def __hash__(self) -> int:
        return self.chosen

    def __repr__(self) -> str:
        return f"<{self.chosen} at {id(self)}>"


# 0xF1DE83E19937733D undoes the multiplication of the hash: these hashes differ by 1 after it.
NEIGHBOUR = (5 + 0xF1DE83E19937733D) % 2**64 - 2**64
SPELLINGS: list[list[Any]] = [
    [1, 1.0, True],
    *([number] for number in range(2, 14)),
    [-7],
    ["1"],
    [("ns", 1), ("ns", 1.0), Pair("ns", 1)],
    *([("ns", f"k{number}")] for number in range(6)),
    [("other", "k0"), Pair("other", "k0")],
    [None],
    [2.5],
    [5.0, 5],
    [Hashed(3)],
    [Hashed(3)],
    [Hashed(5)],
    [Hashed(NEIGHBOUR)],
]
KEYS = st.sampled_from(SPELLINGS).flatmap(st.sampled_from)
WEIGHTS = st.sampled_from([1, 1, 1, 0, 0.25, 0.5, 2, 3, 7, 13])
DEADLINES = st.sampled_from([math.inf, math.inf, 0.0, 5.0, 10.0, 15.0])
NOWS = st.sampled_from([0.0, 5.0, 7.0, 12.0])


def test_two_of_the_keys_look_alike_to_the_ghost() -> None:
    assert tag(Hashed(5)) == tag(Hashed(NEIGHBOUR)) != tag(Hashed(3))


@pytest.mark.parametrize("weighed", [False, True], ids=["counted", "weighed"])
def test_what_leaves_with_a_known_tag_is_the_newest_that_the_ghost_knows(weighed: bool) -> None:
    twins = Twins("s3fifo", 20, weighed)
    value = (0, 1)
    alike = Hashed(5), Hashed(NEIGHBOUR)
    for key in (*alike, *range(100, 118)):
        twins.do("put", key, value, math.inf, 0.0)
    for number in range(200, 215):  # both leave, and others after the second
        twins.do("put", number, value, math.inf, 0.0)
        if number == 202:  # a reader of neither: the first is gone, so is the second
            assert twins.read(alike[0]) is twins.read(alike[1]) is None
    twins.compare()
    first = Hashed(5), Hashed(NEIGHBOUR)
    twins.do("put", first[0], value, math.inf, 0.0)  # to the main queue, the tag is forgotten
    twins.do("put", first[1], value, math.inf, 0.0)
    for number in range(300, 340):
        twins.do("put", number, value, math.inf, 0.0)
        twins.compare()
    twins.flush(20)


class TwinMachine(RuleBasedStateMachine):
    policy: ClassVar[str]

    @initialize(
        capacity=st.integers(0, 12) | st.sampled_from([0.5, 2.5, 8, 12, 12, 20, math.inf]),
        weighed=st.booleans(),
    )
    def start(self, capacity: float, weighed: bool) -> None:
        self.capacity = capacity
        self.twins = Twins(self.policy, capacity, weighed)
        self.serial = itertools.count()

    @rule(key=KEYS, weight=WEIGHTS, deadline=DEADLINES)
    def put(self, key: Any, weight: float, deadline: float) -> None:
        value = (next(self.serial), weight)
        self.twins.do("put", key, value, deadline, 0.0)

    @rule(
        key=KEYS,
        weight=WEIGHTS,
        deadline=DEADLINES,
        now=NOWS,
        condition=st.sampled_from(Condition),
    )
    def put_if(
        self, key: Any, weight: float, deadline: float, now: float, condition: Condition
    ) -> None:
        value = (next(self.serial), weight)
        self.twins.do("put", key, value, deadline, now, condition)

    @rule(keys=st.lists(KEYS, max_size=12), weight=WEIGHTS, deadline=DEADLINES)
    def put_many(self, keys: list[Any], weight: float, deadline: float) -> None:
        for key in keys:
            self.put(key, weight, deadline)
            self.twins.compare()

    @rule(first=st.integers(2, 13), count=st.integers(1, 12), times=st.integers(0, 4))
    def work(self, first: int, count: int, times: int) -> None:
        for key in range(first, first + count):
            for _ in range(times):
                self.twins.read(key)
            if self.twins.read(key) is None:
                self.put(key, 1, math.inf)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=8), times=st.integers(1, 4))
    def read(self, keys: list[Any], times: int) -> None:
        for key in keys * times:
            self.twins.read(key)

    @rule(key=KEYS, deadline=DEADLINES)
    def touch(self, key: Any, deadline: float) -> None:
        self.twins.do("touch", key, deadline)

    @rule(key=KEYS, now=NOWS)
    def expire(self, key: Any, now: float) -> None:
        self.twins.do("expire", key, now)

    @rule(key=KEYS)
    def remove(self, key: Any) -> None:
        self.twins.do("remove", key)

    @rule(before=NOWS)
    def sweep(self, before: float) -> None:
        self.twins.do("sweep", before)

    @precondition(lambda self: next(self.serial) % 5 == 0)  # seldom, or nothing ever fills
    @rule()
    def clear(self) -> None:
        self.twins.do("clear")

    @invariant()
    def alike(self) -> None:
        if hasattr(self, "twins"):
            self.twins.compare()

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            if math.isfinite(self.capacity):
                self.twins.flush(self.capacity)
            for key, *_ in SPELLINGS:
                self.twins.read(key)


class LRUTwins(TwinMachine):
    policy = "lru"


class S3FIFOTwins(TwinMachine):
    policy = "s3fifo"


TestLRUTwins = LRUTwins.TestCase
TestLRUTwins.settings = settings(max_examples=150, stateful_step_count=60)
TestS3FIFOTwins = S3FIFOTwins.TestCase
TestS3FIFOTwins.settings = settings(max_examples=300, stateful_step_count=60)


def key_of(number: int) -> Any:
    """Keys of several types."""
    return [number, f"key {number}", ("ns", number), ("ns", f"key {number}")][number % 4]


@pytest.mark.parametrize("policy", MODELS)
@pytest.mark.parametrize("weighed", [False, True], ids=["counted", "weighed"])
@pytest.mark.parametrize("capacity", [1, 2, 7, 10, 64, 250])
def test_a_long_run_of_a_skewed_load(policy: str, weighed: bool, capacity: int) -> None:
    choose = random.Random(f"{policy} {weighed} {capacity}")
    population = range(8 * capacity)
    shares = list(itertools.accumulate(1 / (rank + 1) ** 0.9 for rank in population))
    weights = [0.25, 0.5, 1, 1, 1, 2, 3]
    twins = Twins(policy, capacity, weighed)
    hits = 0
    for step, rank in enumerate(choose.choices(population, cum_weights=shares, k=20_000)):
        # What is popular changes as time goes by, and now and then somebody reads everything.
        number = rank + step // 2000 * capacity if step % 4000 > 200 else step
        key, chance = key_of(number), choose.random()
        value, deadline = (step, choose.choice(weights)), choose.choice([math.inf, step + 500.0])
        if chance < 0.01:
            twins.do("remove", key)
        elif chance < 0.03:
            twins.do("touch", key, step + 900.0)
        elif chance < 0.04:
            twins.do("expire", key, step)
        elif twins.read(key) is None or chance < 0.06:
            condition = choose.choice([ALWAYS, ALWAYS, *Condition])
            twins.do("put", key, value, deadline, step, condition)
        else:
            hits += 1
        if step % 1000 == 999:
            twins.do("sweep", step + choose.choice([-200.0, 400.0]))
        if step % 7000 == 6999:
            twins.do("clear")
        twins.compare()
    twins.flush(capacity)
    assert hits > 1000
