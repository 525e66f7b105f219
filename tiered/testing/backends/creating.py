"""How values are made over the backend: when, how often, by whom, and what is left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tiered.region.api import NO_VALUE, KeyType
from tiered.region.region import CacheRegion
from tiered.testing.backends.kit import (
    BackendKit,
    Making,
    Running,
    even_if_nothing_is_kept,
    in_threads,
)
from tiered.testing.clock import ManualClock

__all__ = ["CreatingTests"]


class CreatingTests(BackendKit):
    """Tests of ``get_or_create``, ``get_or_create_multi`` and decorated functions."""

    # -- One caller ------------------------------------------------------------

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
        self._nothing_is_locked(region, key, f"{key} 2")
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
        self._nothing_is_locked(short, key)
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
        self._nothing_is_locked(region, key, f"{key} 0", f"{key} a")

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
        self._nothing_is_locked(region, key)

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

    # -- Many callers ----------------------------------------------------------

    def test_threads_make_a_value_once(self, region: CacheRegion, key: KeyType) -> None:
        making = Making()
        with Running(lambda _: region.get_or_create(key, making), 6) as running:
            making.begun()
            making.go()
        assert running.outcomes == ["made"] * 6
        assert len(making.calls) == 1

    def test_who_waits_gets_the_exception(self, region: CacheRegion, key: KeyType) -> None:
        error = ValueError("mine")
        failing = Making(error=error)
        with Running(lambda _: region.get_or_create(key, failing), 1) as leader:
            failing.begun()
            with Running(lambda _: region.get_or_create(key, lambda: "made"), 4) as waiters:
                waiters.all_wait()
                failing.go()
        assert leader.outcomes == [error]
        assert waiters.outcomes == [error] * 4
        self._nothing_is_locked(region, key)
        assert region.get_or_create(key, lambda: "made") == "made"

    def test_the_old_value_is_served_while_a_new_one_is_made(
        self, short: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        short.set(key, "old")
        clock.advance(11)
        self._served_meanwhile(short, key)

    def test_what_was_invalidated_softly_is_served_while_a_new_one_is_made(
        self, short: CacheRegion, key: KeyType
    ) -> None:
        short.set(key, "old")
        short.invalidate(hard=False)
        self._served_meanwhile(short, key)

    def _served_meanwhile(self, region: CacheRegion, key: KeyType) -> None:
        making, other = Making("new"), Making("newer")
        with Running(lambda _: region.get_or_create(key, making)) as leader:
            making.begun()
            ask = Running(lambda _: region.get_or_create(key, other), 3)
            ask_many = Running(lambda _: region.get_or_create_multi([key], other))
            with ask, ask_many:
                pass  # they do not wait
            making.go()
        assert ask.outcomes == ["old"] * 3
        assert ask_many.outcomes == [["old"]]
        assert leader.outcomes == ["new"]
        assert not other.calls
        assert region.get(key) == "new"

    def test_what_was_invalidated_hard_is_waited_for(
        self, short: CacheRegion, key: KeyType
    ) -> None:
        short.set(key, "old")
        short.invalidate()
        making = Making("new")
        with Running(lambda _: short.get_or_create(key, making), 4) as running:
            making.begun()
            making.go()
        assert running.outcomes == ["new"] * 4
        assert len(making.calls) == 1

    def test_of_many_threads_make_each_value_once(self, region: CacheRegion, key: KeyType) -> None:
        made: list[KeyType] = []

        def create(*keys: KeyType) -> list[str]:
            made.extend(keys)
            return [f"value of {one}" for one in keys]

        def ask(number: int) -> bool:
            names = [f"{key} {(number + n) % 6}" for n in range(3)]
            wanted = [f"value of {name}" for name in names]
            return region.get_or_create_multi(names[::-1], create) == wanted[::-1]

        assert in_threads(ask, 6) == [True] * 6
        assert sorted(made) == [f"{key} {n}" for n in range(6)]

    def test_a_delete_is_not_undone_by_what_is_being_made(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        making = Making()
        with Running(lambda _: region.get_or_create(key, making)) as running:
            making.begun()
            region.delete(key)
            making.go()
        assert running.outcomes == ["made"]
        assert region.get(key) is NO_VALUE

    def test_a_value_that_is_set_is_not_undone_by_what_is_being_made(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        making = Making()
        with Running(lambda _: region.get_or_create(key, making)) as running:
            making.begun()
            region.set(key, "set")
            making.go()
        assert running.outcomes == ["made"]
        assert region.get(key) == "set"

    def test_it_tells_what_is_being_made(self, region: CacheRegion, key: KeyType) -> None:
        self._locked_while_it_is_made(region, key)

    def test_it_tells_so_with_a_key_mangler(self, clock: ManualClock, key: KeyType) -> None:
        mangled = {"key_mangler": lambda name: f"{name}-mangled"}
        region = self.make_region(clock, region_args=mangled)
        self._locked_while_it_is_made(region, key)
        assert region.get(key) == "made"

    def _locked_while_it_is_made(self, region: CacheRegion, key: KeyType) -> None:
        making = Making()
        self._nothing_is_locked(region, key)
        with Running(lambda _: region.get_or_create(key, making)):
            making.begun()
            told = region.key_is_locked(key), region.key_is_locked(f"{key} too")
            making.go()
        assert told == (True, False)
        self._nothing_is_locked(region, key)

    def _nothing_is_locked(self, region: CacheRegion, *keys: KeyType) -> None:
        assert not any(map(region.key_is_locked, keys))
        for key in keys:
            mutex = region.backend.get_mutex(region.mangled(key))
            assert mutex is None or not mutex.locked()

    def test_a_runner_makes_what_there_is_an_old_value_of(
        self, clock: ManualClock, key: KeyType
    ) -> None:
        given: list[Any] = []

        def runner(region: CacheRegion, name: KeyType, creator: Any, mutex: Any) -> None:
            given.append((name, creator, mutex))

        region = self.make_region(
            clock, region_args={"async_creation_runner": runner}, expiration_time=10
        )
        assert region.get_or_create(key, lambda: "one") == "one"
        assert not given
        clock.advance(11)
        for _ in range(2):
            assert region.get_or_create(key, lambda: "two") == "one"
        ((name, creator, mutex),) = given
        assert name == key
        assert region.key_is_locked(key)

        def make(_: int) -> None:
            region.set(key, creator())
            mutex.release()

        assert in_threads(make) == [None]
        self._nothing_is_locked(region, key)
        assert region.get(key) == "two"
