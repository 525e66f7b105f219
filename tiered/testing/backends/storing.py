"""What a backend does with single values: the part of its contract below regions."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from tiered.region.api import NO_VALUE, CacheBackend, CachedValue, CacheMutex, KeyType
from tiered.region.region import CacheRegion
from tiered.testing.backends.kit import BackendKit, even_if_nothing_is_kept, in_threads

__all__ = ["StoringTests"]

_ALL_BYTES = bytes(range(256)) * 3


class StoringTests(BackendKit):
    """Tests of the backend itself, through its outermost proxy."""

    @pytest.fixture
    def store(self, region: CacheRegion) -> CacheBackend:
        return region.backend

    @pytest.fixture
    def plain(self, region: CacheRegion) -> CacheBackend:
        """The backend, if it takes values as they are."""
        if region.serializer is not None:
            pytest.skip("the backend takes bytes only")
        return region.backend

    @even_if_nothing_is_kept
    def test_what_is_not_there_is_no_value(self, store: CacheBackend, key: KeyType) -> None:
        assert store.get_serialized(key) is NO_VALUE
        assert list(store.get_serialized_multi([key, f"{key} too"])) == [NO_VALUE, NO_VALUE]
        assert list(store.get_serialized_multi([])) == []

    @even_if_nothing_is_kept
    def test_what_is_not_there_can_be_deleted(self, store: CacheBackend, key: KeyType) -> None:
        store.delete(key)
        store.delete_multi([key, f"{key} too"])
        store.delete_multi([])
        assert store.get_serialized(key) is NO_VALUE

    def test_bytes_come_back(self, store: CacheBackend, key: KeyType) -> None:
        for data in (b"some value", b"|", b"\0", _ALL_BYTES, b"x" * 10_000):
            store.set_serialized(key, data)
            assert store.get_serialized(key) == data

    def test_many_bytes_come_back_in_the_order_of_the_keys(
        self, store: CacheBackend, key: KeyType
    ) -> None:
        mapping = MappingProxyType({f"{key} {n}": b"%d" % n for n in range(5)})
        store.set_serialized_multi(mapping)
        store.set_serialized_multi({})
        names = [f"{key} 3", f"{key} none", f"{key} 0", f"{key} 3"]
        assert list(store.get_serialized_multi(names)) == [b"3", NO_VALUE, b"0", b"3"]
        assert store.get_serialized(f"{key} 4") == b"4"

    def test_bytes_that_are_deleted_are_gone_and_no_others(
        self, store: CacheBackend, key: KeyType
    ) -> None:
        names = [f"{key} {n}" for n in range(4)]
        store.set_serialized_multi(dict.fromkeys(names, b"value"))
        store.delete(names[0])
        store.delete(names[0])
        assert list(store.get_serialized_multi(names)) == [NO_VALUE, b"value", b"value", b"value"]
        store.delete_multi([names[1], f"{key} none", names[3]])
        assert list(store.get_serialized_multi(names)) == [NO_VALUE, NO_VALUE, b"value", NO_VALUE]

    def test_values_come_back_as_they_are(self, plain: CacheBackend, key: KeyType) -> None:
        value = CachedValue({"a": [1, None]}, {"ct": 1.5, "v": 2})
        assert plain.get(key) is NO_VALUE
        plain.set(key, value)
        assert plain.get(key) == value
        found: Any = plain.get(key)
        assert (found.payload, found.cached_time) == ({"a": [1, None]}, 1.5)

    def test_many_values_come_back_as_they_are(self, plain: CacheBackend, key: KeyType) -> None:
        one, two = CachedValue("one", {"ct": 1.0}), CachedValue("two", {"ct": 2.0})
        plain.set_multi(MappingProxyType({f"{key} 1": one, f"{key} 2": two}))
        plain.set_multi({})
        assert list(plain.get_multi([f"{key} 2", key, f"{key} 1"])) == [two, NO_VALUE, one]
        assert list(plain.get_multi([])) == []

    def test_threads_do_not_disturb_one_another(self, store: CacheBackend, key: KeyType) -> None:
        def work(number: int) -> list[bool]:
            right = []
            for turn in range(10):
                data = b"%d %d" % (number, turn)
                store.set_serialized(f"{key} {number}", data)
                right.append(store.get_serialized(f"{key} {number}") == data)
                store.get_serialized_multi([f"{key} {n}" for n in range(4)])
            return right

        assert in_threads(work, 4) == [[True] * 10] * 4

    @even_if_nothing_is_kept
    def test_a_mutex_is_one_or_there_is_none(self, store: CacheBackend, key: KeyType) -> None:
        mutex = store.get_mutex(key)
        assert mutex is None or isinstance(mutex, CacheMutex)
        assert isinstance(store.has_lock_timeout(), bool)
