"""What a region over the backend answers: values, their ages, invalidations, serialisers."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from tiered.region.api import NO_VALUE, CachedValue, CantDeserializeException, KeyType
from tiered.region.exception import DogpileCacheException
from tiered.region.region import CacheRegion
from tiered.testing.backends.kit import JSON, BackendKit, even_if_nothing_is_kept
from tiered.testing.clock import ManualClock

__all__ = ["ValuingTests"]


def _never(*_: Any) -> Any:
    raise AssertionError("this value was there, and needed no creator")


class ValuingTests(BackendKit):
    """Tests of ``get``, ``set``, ``delete``, ``invalidate`` and all that decides on values."""

    values: ClassVar[list[Any]] = [None, False, 0, 1.5, "", "te|xt", [1, [2]], {"a": {"b": None}}]
    """Values that must come back equal."""

    odd_keys: ClassVar[list[KeyType]] = ["with space", "émoji 🎉", "x" * 300, "line\nfeed", "a|b:c"]
    """Ends of keys that the backend must take."""

    # -- Values ----------------------------------------------------------------

    @even_if_nothing_is_kept
    def test_there_is_nothing_at_first(self, region: CacheRegion, key: KeyType) -> None:
        assert region.get(key) is NO_VALUE
        assert not region.get(key)
        assert region.get(key, ignore_expiration=True) is NO_VALUE
        assert region.get_value_metadata(key) is None
        assert region.get_multi([key, f"{key} too"]) == [NO_VALUE, NO_VALUE]

    @even_if_nothing_is_kept
    def test_nothing_is_asked_for(self, region: CacheRegion) -> None:
        region.set_multi({})
        region.delete_multi([])
        assert region.get_multi([]) == []
        assert region.get_or_create_multi([], _never) == []

    def test_values_come_back_equal(self, region: CacheRegion, key: KeyType) -> None:
        for value in self.values:
            region.set(key, value)
            found = region.get(key)
            assert found == value
            assert type(found) is type(value)

    def test_many_values_come_back_in_the_order_of_the_keys(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        region.set_multi(MappingProxyType({f"{key} {n}": n for n in range(4)}))
        names = [f"{key} 2", f"{key} none", f"{key} 0", f"{key} 2"]
        assert region.get_multi(names) == [2, NO_VALUE, 0, 2]
        assert region.get(f"{key} 3") == 3

    def test_keys_are_told_apart(self, region: CacheRegion, key: KeyType) -> None:
        names = [key, *(key + end for end in self.odd_keys)]
        for number, name in enumerate(names):
            region.set(name, number)
        assert [region.get(name) for name in names] == list(range(len(names)))
        assert region.get_multi(names) == list(range(len(names)))

    def test_what_is_deleted_is_gone_and_nothing_else(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        names = [f"{key} {n}" for n in range(4)]
        region.set_multi(dict.fromkeys(names, "value"))
        region.delete(names[0])
        region.delete(names[0])
        region.delete_multi([names[1], f"{key} none"])
        assert region.get_multi(names) == [NO_VALUE, NO_VALUE, "value", "value"]

    @even_if_nothing_is_kept
    def test_the_arguments_stay_as_they_are(self, key: KeyType) -> None:
        config = {"arguments": dict(self.arguments), **self.config_args}
        arguments = dict(config["arguments"])
        before = dict(arguments)
        region = self.make_region(arguments=arguments)
        region.set(key, "value")
        region.get_or_create(key, lambda: "value")
        assert arguments == before

    # -- Ages ------------------------------------------------------------------

    def test_a_value_is_good_until_it_is_too_old(
        self, short: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        short.set_multi({key: "one", f"{key} 2": "two"})
        clock.advance(9)
        assert short.get(key) == "one"
        clock.advance(2)
        assert short.get(key) is NO_VALUE
        assert short.get_multi([key, f"{key} 2"]) == [NO_VALUE, NO_VALUE]
        assert short.get_value_metadata(key) is None

    def test_a_call_may_say_otherwise(
        self, short: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        short.set(key, "value")
        clock.advance(5)
        assert short.get(key, expiration_time=4) is NO_VALUE
        assert short.get(key, expiration_time=6) == "value"
        clock.advance(6)
        assert short.get(key, expiration_time=-1) == "value"
        assert short.get(key, ignore_expiration=True) == "value"
        assert short.get_multi([key], ignore_expiration=True) == ["value"]
        assert short.get_or_create(key, _never, expiration_time=-1) == "value"
        assert short.get_or_create(key, _never, expiration_time=12) == "value"
        assert short.get_or_create_multi([key], _never, expiration_time=12) == ["value"]

    def test_a_value_that_is_too_old_is_made_anew(
        self, short: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        assert short.get_or_create(key, lambda: "one") == "one"
        assert short.get_or_create(key, _never) == "one"
        clock.advance(11)
        assert short.get_or_create(key, lambda: "two") == "two"
        clock.advance(9)
        assert short.get_or_create(key, _never) == "two"
        assert short.get(key) == "two"

    def test_it_tells_when_a_value_was_made(
        self, region: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        region.set(key, "value")
        made = clock.wall()
        clock.advance(7)
        region.set_multi({f"{key} 1": 1, f"{key} 2": 2})
        found = region.get_value_metadata(key)
        assert isinstance(found, CachedValue)
        assert (found.payload, found.cached_time) == ("value", made)
        both = [region.get_value_metadata(f"{key} {n}") for n in (1, 2)]
        assert [one and one.cached_time for one in both] == [made + 7, made + 7]

    # -- Invalidations ---------------------------------------------------------

    def test_a_hard_invalidation_ends_all_that_was_made_before(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        region.set(key, "old")
        region.invalidate()
        assert region.get(key) is NO_VALUE
        assert region.get_multi([key]) == [NO_VALUE]
        assert region.get(key, ignore_expiration=True) == "old"
        assert region.get_or_create(key, lambda: "new") == "new"
        assert region.get_or_create(key, _never) == "new"
        assert region.get(key) == "new"
        region.set(key, "newer")
        assert region.get_multi([key]) == ["newer"]

    def test_a_soft_invalidation_has_values_made_anew(
        self, short: CacheRegion, key: KeyType
    ) -> None:
        short.set_multi({key: "old", f"{key} 2": "old"})
        short.invalidate(hard=False)
        assert short.get(key) is NO_VALUE
        assert short.get(key, ignore_expiration=True) == "old"
        assert short.get_or_create(key, lambda: "new") == "new"
        assert short.get_or_create(key, _never) == "new"
        assert short.get_or_create_multi([f"{key} 2"], lambda _: ["new"]) == ["new"]

    def test_a_soft_invalidation_needs_an_expiration_time(
        self, region: CacheRegion, key: KeyType
    ) -> None:
        region.set(key, "old")
        region.invalidate(hard=False)
        with pytest.raises(DogpileCacheException):
            region.get_or_create(key, lambda: "new")
        assert region.get_or_create(key, lambda: "new", expiration_time=10) == "new"

    # -- Serialisers -----------------------------------------------------------

    @pytest.fixture
    def json_region(self, clock: ManualClock) -> CacheRegion:
        return self.make_region(clock, region_args=JSON)

    def test_a_serialiser_of_the_region_makes_the_bytes_that_are_kept(
        self, json_region: CacheRegion, clock: ManualClock, key: KeyType
    ) -> None:
        region, value = json_region, {"foo": ["bar", 1, False, None]}
        region.set(key, value)
        region.set_multi({f"{key} 1": "a|b", f"{key} 2": [2]})
        assert region.get(key) == value
        assert region.get_multi([f"{key} 2", f"{key} 1"]) == [[2], "a|b"]
        kept = region.backend.get_serialized(region.mangled(key))
        assert isinstance(kept, bytes)
        head, _, body = kept.partition(b"|")
        assert json.loads(head)["ct"] == clock.wall()
        assert body == JSON["serializer"](value)

    def test_what_the_deserialiser_does_not_know_is_made_anew(
        self, clock: ManualClock, key: KeyType
    ) -> None:
        def known(data: bytes) -> Any:
            if b"old" in data:
                raise CantDeserializeException
            return json.loads(data)

        region = self.make_region(clock, region_args={**JSON, "deserializer": known})
        names = [key, f"{key} 2", f"{key} 3"]
        region.set_multi({names[0]: "old", names[1]: "fine", names[2]: "old"})
        assert region.get(key) is NO_VALUE
        assert region.get_multi(names) == [NO_VALUE, "fine", NO_VALUE]
        assert region.get_or_create(key, lambda: "new") == "new"
        assert region.get_or_create_multi(names, lambda _: ["new"]) == ["new", "fine", "new"]

    @pytest.mark.parametrize(
        "damaged",
        [
            b"nothing like it",
            b"|",
            b"{}|1",
            b'{"ct": "never", "v": 2}|1',
            b'{"ct": 1e400, "v": 2}|1',
            b"[1, 2]|1",
            b"\x80\x04.|\xff",
        ],
    )
    def test_damaged_bytes_are_made_anew(
        self, json_region: CacheRegion, key: KeyType, damaged: bytes
    ) -> None:
        region = json_region
        region.set_multi({key: "old", f"{key} 2": "whole"})
        region.backend.set_serialized(region.mangled(key), damaged)
        assert region.get(key) is NO_VALUE
        assert region.get_multi([key, f"{key} 2"]) == [NO_VALUE, "whole"]
        assert region.get_or_create(key, lambda: "new") == "new"
        assert region.get(key) == "new"

    def test_a_damaged_payload_is_made_anew(self, json_region: CacheRegion, key: KeyType) -> None:
        region = json_region
        region.set(key, {"a": "value"})
        kept = region.backend.get_serialized(region.mangled(key))
        assert isinstance(kept, bytes)
        region.backend.set_serialized(region.mangled(key), kept[:-3])
        assert region.get(key) is NO_VALUE
        assert region.get_or_create(key, lambda: "new") == "new"
