"""How one caller has values made over the backend: when, how often, and what is left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tiered.region.api import NO_VALUE, KeyType
from tiered.region.region import CacheRegion
from tiered.testing.backends.kit import (
    BackendKit,
    even_if_nothing_is_kept,
    in_threads,
    nothing_is_locked,
)
from tiered.testing.clock import ManualClock

__all__ = ["CreatingTests"]


class CreatingTests(BackendKit):
    """Tests of ``get_or_create``, ``get_or_create_multi`` and decorated functions."""

    def test_a_value_is_made_once(self, region: CacheRegion, key: KeyType) -> None:
        calls = itertools.count(1)
        for _ in range(3):
            assert region.get_or_create(key, lambda: next(calls)) == 1
        assert region.get(key) == 1
        region.delete(key)
        assert region.get_or_create(key, lambda: next(calls)) == 2

    @even_if_nothing_is_kept
    def test_a_creator_gets_its_arguments(self, region: CacheRegion, key: KeyType) -> None:
        def create(*args: Any, **kwargs: Any) -> Any:
            return [list(args), kwargs]

        made = region.get_or_create(key, create, creator_args=((1, 2), {"a": 3}))
        assert made == [[1, 2], {"a": 3}]

    @even_if_nothing_is_kept
    def test_what_is_not_to_be_kept_is_not(self, region: CacheRegion, key: KeyType) -> None:
        made = region.get_or_create(key, lambda: None, should_cache_fn=lambda one: one is not None)
        assert made is None
        assert region.get(key) is NO_VALUE
        many = region.get_or_create_multi(
            [key, f"{key} 2"], lambda *keys: [None] * len(keys), should_cache_fn=bool
        )
        assert many == [None, None]
        assert region.get_multi([key, f"{key} 2"]) == [NO_VALUE, NO_VALUE]

    def test_of_many_what_is_not_to_be_kept_is_not(self, region: CacheRegion, key: KeyType) -> None:
        names = [f"{key} {n}" for n in range(4)]
        many = region.get_or_create_multi(
            names, lambda *keys: [0, 1, 2, 3], should_cache_fn=lambda one: one % 2 == 1
        )
        assert many == [0, 1, 2, 3]
        assert region.get_multi(names) == [NO_VALUE, 1, NO_VALUE, 3]

    @even_if_nothing_is_kept
    def test_many_are_made_by_one_call(self, region: CacheRegion, key: KeyType) -> None:
        calls: list[tuple[KeyType, ...]] = []

        def create(*keys: KeyType) -> list[str]:
            calls.append(keys)
            return [f"value of {one}" for one in keys]

        names = [f"{key} {n}" for n in (2, 0, 1, 2)]
        assert region.get_or_create_multi(names, create) == [f"value of {name}" for name in names]
        assert calls == [tuple(sorted(set(names)))]

    def test_of_many_only_those_that_miss_are_made(self, region: CacheRegion, key: KeyType) -> None:
        region.set_multi({f"{key} {n}": "there" for n in (1, 3)})
        calls: list[tuple[KeyType, ...]] = []

        def create(*keys: KeyType) -> list[str]:
            calls.append(keys)
            return ["made"] * len(keys)

        names = [f"{key} {n}" for n in range(5)]
        for _ in range(2):
            found = region.get_or_create_multi(names, create)
            assert found == ["made", "there", "made", "there", "made"]
        assert calls == [(names[0], names[2], names[4])]

    @even_if_nothing_is_kept
    @pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt("mine")])
    def test_a_creator_that_fails_leaves_nothing_locked(
        self, region: CacheRegion, key: KeyType, error: BaseException
    ) -> None:
        def fail(*_: KeyType) -> Any:
            raise error

        for _ in range(2):
            with pytest.raises(type(error), match="mine"):
                region.get_or_create(key, fail)
            with pytest.raises(type(error), match="mine"):
                region.get_or_create_multi([key, f"{key} 2"], fail)
        nothing_is_locked(region, key, f"{key} 2")
        assert in_threads(lambda _: region.get_or_create(key, lambda: "made")) == ["made"]
        assert region.get_or_create_multi([f"{key} 2"], lambda _: ["made"]) == ["made"]

    def test_a_creator_that_fails_leaves_the_old_value(
        self, short: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        def fail() -> Any:
            raise ValueError("mine")

        short.set(key, "old")
        clock.advance(11)
        with pytest.raises(ValueError, match="mine"):
            short.get_or_create(key, fail)
        assert short.get(key, ignore_expiration=True) == "old"
        nothing_is_locked(short, key)
        assert short.get_or_create(key, lambda: "new") == "new"

    @even_if_nothing_is_kept
    def test_a_creator_asks_for_other_values(self, region: CacheRegion, key: KeyType) -> None:
        def create(depth: int) -> Callable[[], int]:
            if not depth:
                return lambda: 0
            return lambda: 1 + region.get_or_create(f"{key} {depth - 1}", create(depth - 1))

        assert region.get_or_create(key, create(5)) == 5
        assert region.get_or_create(key, create(5)) == 5
        made = region.get_or_create_multi(
            [f"{key} a", f"{key} b"],
            lambda *keys: [region.get_or_create(f"{one} too", lambda: "made") for one in keys],
        )
        assert made == ["made", "made"]
        nothing_is_locked(region, key, f"{key} 0", f"{key} a")

    @even_if_nothing_is_kept
    def test_a_creator_that_asks_for_its_own_value_does_not_hang(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        def create(depth: int) -> int:
            return depth and 1 + region.get_or_create(key, create, creator_args=((depth - 1,), {}))

        def ask(_: int) -> int:
            made: int = region.get_or_create(key, create, creator_args=((3,), {}))
            return made

        assert in_threads(ask) == [3]
        nothing_is_locked(region, key)

    # -- Functions -------------------------------------------------------------

    def test_a_decorated_function(self, region: CacheRegion, key: KeyType) -> None:
        calls = itertools.count(1)

        @region.cache_on_arguments(namespace=key)
        def add(x: int, y: int) -> int:
            return next(calls) + x + y

        assert add(3, 4) == 8
        assert add(5, 6) == 13
        assert add(3, 4) == 8
        assert add(4, 3) == 10
        add.invalidate(4, 3)
        assert add.get(4, 3) is NO_VALUE
        assert add(4, 3) == 11
        add.set(0, 4, 3)
        assert add(4, 3) == add.get(4, 3) == 0
        assert add.refresh(4, 3) == 12
        assert add(4, 3) == 12
        assert add.original(4, 3) == 13

    def test_a_decorated_function_of_many(self, region: CacheRegion, key: KeyType) -> None:
        calls: list[tuple[int, ...]] = []

        @region.cache_multi_on_arguments(namespace=key)
        def squares(*numbers: int) -> list[int]:
            calls.append(numbers)
            return [number * number for number in numbers]

        assert squares(3, 1) == [9, 1]
        assert squares(1, 2, 3) == [1, 4, 9]
        assert sorted(number for call in calls for number in call) == [1, 2, 3]
        squares.set({1: 0})
        squares.invalidate(2)
        assert squares.get(1, 2) == [0, NO_VALUE]
        assert squares.refresh(1) == [1]
        assert squares(1) == [1]
