"""What the mutexes of a backend promise, where it has some."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from tiered.clock import SYSTEM_CLOCK
from tiered.region.api import CacheBackend, CacheMutex, KeyType
from tiered.region.region import CacheRegion
from tiered.testing.backends.kit import BackendKit, Making, Running, in_threads

__all__ = ["BackendMutexContract"]


class BackendMutexContract(BackendKit):
    """Inherit and say which backend; for backends whose ``get_mutex`` gives something."""

    one_lock: ClassVar[bool] = False
    """Whether all keys have one lock, which its holder takes for several, and nobody else."""

    shared: ClassVar[bool] = True
    """Whether mutexes of several backends of this configuration exclude one another."""

    threads: ClassVar[int] = 5
    """How many compete."""

    @pytest.fixture
    def store(self, region: CacheRegion) -> CacheBackend:
        return region.backend

    def mutex(self, store: CacheBackend, key: KeyType) -> CacheMutex:
        """The mutex of *key*; there must be one."""
        mutex = store.get_mutex(key)
        assert mutex is not None
        return mutex

    def test_it_is_a_mutex(self, store: CacheBackend, key: KeyType) -> None:
        assert isinstance(self.mutex(store, key), CacheMutex)

    def test_it_is_held_once(self, store: CacheBackend, key: KeyType) -> None:
        mutex = self.mutex(store, key)
        for _ in range(2):
            assert not mutex.locked()
            assert mutex.acquire()
            assert mutex.locked()
            assert not mutex.acquire(False)
            mutex.release()
            assert not mutex.locked()
        assert mutex.acquire(False)
        mutex.release()

    def test_all_mutexes_of_a_key_are_one(self, store: CacheBackend, key: KeyType) -> None:
        mutex = self.mutex(store, key)
        assert mutex.acquire()
        other = self.mutex(store, key)
        assert other.locked()
        assert not other.acquire(False)
        assert in_threads(lambda _: self.mutex(store, key).acquire(False)) == [False]
        mutex.release()
        assert other.acquire(False)
        other.release()

    def test_threads_hold_it_one_at_a_time(self, store: CacheBackend, key: KeyType) -> None:
        inside = threading.Lock()

        def compete(_: int) -> list[bool]:
            alone = []
            for _turn in range(5):
                mutex = self.mutex(store, key)
                assert mutex.acquire()
                alone.append(inside.acquire(False))
                for _pause in range(20):  # whoever can get in, gets in now
                    SYSTEM_CLOCK.sleep(0)
                inside.release()
                mutex.release()
            return alone

        assert in_threads(compete, self.threads) == [[True] * 5] * self.threads

    def test_its_holder_takes_others(self, store: CacheBackend, key: KeyType) -> None:
        one, other = self.mutex(store, key), self.mutex(store, f"{key} too")
        for _ in range(2):
            assert one.acquire()
            for _turn in range(2):
                assert other.acquire(False)
                assert not other.acquire(False)
                other.release()
            one.release()

    def test_keys_do_not_exclude_one_another(self, store: CacheBackend, key: KeyType) -> None:
        one, other = self.mutex(store, key), self.mutex(store, f"{key} too")
        assert one.acquire()
        taken = in_threads(lambda _: other.acquire(False))
        assert taken == [not self.one_lock]
        assert not self.mutex(store, key).acquire(False)
        one.release()
        assert in_threads(lambda _: other.release() if taken[0] else None)[0] is not False
        assert not other.locked()

    def test_another_thread_may_release_it(self, store: CacheBackend, key: KeyType) -> None:
        mutex = self.mutex(store, key)
        assert mutex.acquire()
        in_threads(lambda _: mutex.release())
        assert not mutex.locked()
        other = self.mutex(store, key)
        assert in_threads(lambda _: other.acquire(False)) == [True]
        other.release()

    def test_creators_ask_for_other_values(self, region: CacheRegion, key: KeyType) -> None:
        def create() -> str:
            return "foo" + str(region.get_or_create(f"{key} bar", lambda: "bar"))

        for _ in range(2):
            assert in_threads(lambda _: region.get_or_create(key, create)) == ["foobar"]

    def test_what_has_made_values_holds_nothing(self, region: CacheRegion, key: KeyType) -> None:
        names = [f"{key} {n}" for n in range(3)]
        mutexes = [self.mutex(region.backend, region.mangled(name)) for name in [key, *names]]
        for _ in range(2):
            region.get_or_create(key, lambda: "made")
            region.get_or_create_multi(names, lambda *missing: ["made"] * len(missing))
        with pytest.raises(ZeroDivisionError):
            region.get_or_create_multi([key, f"{key} more"], lambda *_: [1 // 0])
        for mutex in mutexes:
            assert not mutex.locked()
            assert in_threads(self._taken(mutex)) == [True]
            mutex.release()

    @staticmethod
    def _taken(mutex: CacheMutex) -> Callable[[int], bool]:
        return lambda _: mutex.acquire(False)

    def test_a_held_mutex_is_told_by_the_region(self, region: CacheRegion, key: KeyType) -> None:
        mutex = self.mutex(region.backend, region.mangled(key))
        assert not region.key_is_locked(key)
        assert mutex.acquire()
        assert region.key_is_locked(key)
        mutex.release()
        assert not region.key_is_locked(key)

    def test_several_backends_share_their_mutexes(self, key: KeyType) -> None:
        self._needs_to_share()
        one, other = (self.mutex(self.make_region().backend, key) for _ in range(2))
        assert one.acquire()
        assert other.locked()
        assert not other.acquire(False)
        one.release()
        assert not other.locked()
        assert other.acquire(False)
        other.release()

    def test_several_regions_make_a_value_once(self, key: KeyType) -> None:
        self._needs_to_share()
        one, other = self.make_region(), self.make_region()
        making, never = Making(), Making("not this one")
        with Running(lambda _: one.get_or_create(key, making)):
            making.begun()
            told: Any = other.key_is_locked(key)
            with Running(lambda _: other.get_or_create(key, never)) as waiter:
                making.go()
        assert told is True
        assert waiter.outcomes == ["made"]
        assert not never.calls

    def _needs_to_share(self) -> None:
        if not self.shared:
            pytest.skip("each backend has mutexes of its own")
