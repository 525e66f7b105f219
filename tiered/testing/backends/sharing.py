"""How several callers have values made over the backend: once, and what they get meanwhile."""

from __future__ import annotations

from typing import Any

from tiered.region.api import NO_VALUE, KeyType
from tiered.region.region import CacheRegion
from tiered.testing.backends.kit import BackendKit, Making, Running, in_threads, nothing_is_locked
from tiered.testing.clock import ManualClock

__all__ = ["SharingTests"]


class SharingTests(BackendKit):
    """Tests of threads that ask for the same values."""

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
        nothing_is_locked(region, key)
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
        nothing_is_locked(region, key)
        with Running(lambda _: region.get_or_create(key, making)):
            making.begun()
            told = region.key_is_locked(key), region.key_is_locked(f"{key} too")
            making.go()
        assert told == (True, False)
        nothing_is_locked(region, key)

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
        nothing_is_locked(region, key)
        assert region.get(key) == "two"
