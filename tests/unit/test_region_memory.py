"""The backends in memory, the one that keeps nothing, and what arguments are checked for."""

from __future__ import annotations

import logging
import threading
from types import MappingProxyType
from typing import Any, ClassVar

import cachetools
import pytest

from tests.fakes import together
from tiered.clock import SYSTEM_CLOCK
from tiered.region.api import NO_VALUE, BackendArguments, CacheBackend, CachedValue, CacheMutex
from tiered.region.arguments import check_arguments
from tiered.region.backends.memory import MemoryBackend, MemoryPickleBackend
from tiered.region.backends.null import NullBackend
from tiered.region.exception import ValidationError


def test_values_are_kept_as_they_are() -> None:
    backend = MemoryBackend({})
    value = CachedValue([1], {})
    backend.set("k", value)
    assert backend.get("k") is value
    assert backend.cache == {"k": value}
    assert MemoryBackend({}).get("k") is NO_VALUE


@pytest.mark.parametrize("mapping", [{}, cachetools.LRUCache(10)])
def test_the_users_mapping_is_used_itself(mapping: Any) -> None:
    backend = MemoryBackend({"cache_dict": mapping})
    assert backend.cache is mapping
    backend.set_multi({"a": CachedValue(1, {}), "b": CachedValue(2, {})})
    assert set(mapping) == {"a", "b"}
    backend.delete_multi(["a", "no such key"])
    assert backend.get_multi(["a", "b"]) == [NO_VALUE, CachedValue(2, {})]


@pytest.mark.parametrize("nonsense", [3, "text", [], object()])
def test_no_mapping_is_refused(nonsense: Any) -> None:
    with pytest.raises(ValidationError, match="cache_dict must be a mapping"):
        MemoryBackend({"cache_dict": nonsense})


class Unsafe(dict[str, Any]):
    """A mapping that is broken when two threads use it at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = threading.Lock()
        self.clashes = 0

    def get(self, key: str, default: Any = None) -> Any:
        if not self.inside.acquire(False):
            self.clashes += 1
            return default
        try:
            for _ in range(20):
                SYSTEM_CLOCK.sleep(0)  # whoever can get in, gets in now
            return super().get(key, default)
        finally:
            self.inside.release()


def test_a_mapping_of_another_kind_is_used_by_one_thread_at_a_time() -> None:
    mapping = Unsafe()
    backend = MemoryBackend({"cache_dict": mapping})
    together(lambda _: [backend.get("k") for _ in range(10)], 4)
    assert not mapping.clashes
    assert backend._guard.__enter__()  # as a thread has it while another forks
    backend.after_fork()
    assert together(lambda _: backend.get("k"), 1) == [NO_VALUE]


def test_pickled_values_are_copies_for_a_region() -> None:
    backend = MemoryPickleBackend({})
    assert backend.serializer is not None
    assert backend.deserializer is not None
    assert backend.deserializer(backend.serializer([1])) == [1]


def test_the_null_backend_keeps_nothing_and_holds_nobody_up() -> None:
    backend = NullBackend({})
    backend.set("k", CachedValue(1, {}))
    backend.set_multi({"k": CachedValue(1, {})})
    backend.delete("k")
    backend.delete_multi(["k"])
    assert backend.get("k") is NO_VALUE
    assert backend.get_multi(["k", "l"]) == [NO_VALUE, NO_VALUE]
    mutex = backend.get_mutex("k")
    assert isinstance(mutex, CacheMutex)
    assert mutex.acquire()
    assert mutex.acquire(False)
    assert not mutex.locked()
    mutex.release()


# -- Arguments -------------------------------------------------------------------------


class Stranger(CacheBackend):
    def __init__(self, arguments: BackendArguments) -> None:
        pass


class Ours(Stranger):
    arguments_known: ClassVar[frozenset[str]] = frozenset({"url", "size"})


def test_known_arguments_are_let_pass() -> None:
    arguments = MappingProxyType({"url": 1, "size": 2})
    check_arguments(Ours, arguments, lenient=False)
    check_arguments(Ours, {}, lenient=False)


def test_unknown_ones_are_named_with_those_that_are_known() -> None:
    with pytest.raises(ValidationError) as caught:
        check_arguments(Ours, {"url": 1, "uri": 2}, lenient=False)
    assert str(caught.value) == "Ours does not know the argument 'uri'; it knows size, url"
    with pytest.raises(ValidationError, match="arguments 'a', 'b'; it knows none"):
        check_arguments(NullBackend, {"a": 1, "b": 2}, lenient=False)


def test_those_for_dogpile_cache_are_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    arguments = MappingProxyType({"uri": 2})
    with caplog.at_level(logging.WARNING):
        check_arguments(Ours, arguments, lenient=True)
    assert "Ours does not know the argument 'uri'" in caplog.text
    assert "Ignored" in caplog.text


def test_strangers_are_not_asked() -> None:
    check_arguments(Stranger, {"anything": 1}, lenient=False)
