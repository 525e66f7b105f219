"""Wrappers: everything is delegated, once, and mapped on the way."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.fakes import VersionedFake, inproc
from tiered.clients.base import CacheClient, Entry, Search
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.synced import ReadWriteSyncAdapter, SyncAdapter
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clients.wrapper import Wrapper
from tiered.sentinels import MISSING
from tiered.testing import ManualClock

DERIVED = {
    # What the authority is asked for.
    "agree",
    "announce",
    "decree",
    "follow_all",
    "invalidate_tag",
    # Made of what is delegated, and of the wrapper's own counters.
    "add",
    "aio",
    "contains",
    "delete",
    "delete_multi",
    "expire",
    "get",
    "getMulti",
    "getTtl",
    "getTtlMulti",
    "get_multi",
    "get_ttl",
    "get_ttl_multi",
    "promote",
    "purge",
    "put",
    "put_multi",
    "renew",
    "stats",
    "hot_path",
}


def test_a_wrapper_delegates_all_that_is_not_derived() -> None:
    public = {
        name
        for name, member in vars(CacheClient).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    delegated = {name for name in public if name in vars(Wrapper)}
    assert public - delegated == DERIVED
    assert CacheClient.__abstractmethods__ <= delegated


def test_the_six_primitives_are_what_is_abstract() -> None:
    assert CacheClient.__abstractmethods__ == {
        "entry",
        "entries",
        "store",
        "touch",
        "discard",
        "sweep",
    }
    with pytest.raises(TypeError, match="abstract"):
        CacheClient()  # type: ignore[abstract]


def test_a_wrapper_is_what_its_client_is(clock: ManualClock) -> None:
    client = inproc(clock, 7)
    wrapper = Wrapper(client)
    wrapper.put("k", "v", 100)
    assert wrapper.capacity == 7
    assert wrapper.usage == 1
    assert wrapper.authority is client
    assert wrapper.capabilities == client.capabilities
    assert wrapper.clock is clock
    assert not wrapper.is_async
    assert wrapper.wait("k")
    assert repr(wrapper) == "<Wrapper <InprocCacheClient 1/7>>"
    assert wrapper.first_tiers(1) is wrapper


def test_only_clients_are_wrapped() -> None:
    with pytest.raises(TypeError, match=r"client must be a CacheClient, not {}"):
        Wrapper({})  # type: ignore[arg-type]


def test_closing_the_wrapper_closes_the_client(clock: ManualClock) -> None:
    closed: list[bool] = []

    class Closing(InprocCacheClient):
        def close(self) -> None:
            closed.append(True)

    with Wrapper(Closing(1, clock=clock)):
        pass
    assert closed == [True]


def test_the_tiers_below_a_wrapper_can_be_limited(clock: ManualClock) -> None:
    near, far = inproc(clock), inproc(clock)
    wrapper = DecoratedWrapper(
        TieredInclusiveClient(near, far), lambda key: ("d", key), lambda v: [v], lambda v: v[0]
    )
    far.put(("d", "k"), ["v"], 100)
    assert wrapper.get("k", None, max_tiers=1) is None
    assert wrapper.get("k", max_tiers=2) == "v"
    wrapper.put("m", "w", 100, max_tiers=1)
    assert near.get(("d", "m")) == ["w"]
    assert far.get(("d", "m"), None) is None


def test_near_goes_past_what_blocks(clock: ManualClock) -> None:
    from tests.fakes import RemoteFake

    near = inproc(clock)
    wrapper = DecoratedWrapper(
        TieredInclusiveClient(near, RemoteFake(inproc(clock))), value_undecorator=lambda v: v * 2
    )
    wrapper.put("k", 2, 100)
    found = wrapper.near("k")
    assert found is not None
    assert found.value == 4
    near.clear()
    assert wrapper.near("k") is None


def test_a_subclass_that_changes_entry_is_asked_on_the_hot_path(clock: ManualClock) -> None:
    asked: list[Any] = []

    class Watching(Wrapper):
        def entry(self, key: Any) -> Any:
            asked.append(key)
            return super().entry(key)

    wrapper = Watching(inproc(clock))
    path = wrapper.hot_path()
    assert path is not None
    path.lookup("k")
    assert asked == ["k"]


def test_an_undecorator_may_declare_a_miss(clock: ManualClock) -> None:
    wrapper = DecoratedWrapper(
        inproc(clock), value_undecorator=lambda v: MISSING if v == "bad" else v
    )
    wrapper.put_multi({"good": "fine", "bad": "bad"}, 100)
    assert wrapper.get_multi(["good", "bad"], None) == {"good": "fine", "bad": None}
    assert wrapper.get("bad", None) is None


def test_what_an_undecorator_declares_a_miss_has_no_version(clock: ManualClock) -> None:
    wrapper = DecoratedWrapper(
        VersionedFake(inproc(clock)),
        lambda key: ("d", key),
        value_undecorator=lambda v: MISSING if v == "bad" else [v],
    )
    wrapper.put_multi({"good": "fine", "bad": "bad"}, 100)
    found = wrapper.versioned("good")
    assert found.entry == Entry(["fine"], clock.monotonic() + 100)
    assert found.version == wrapper.version("good") is not None
    assert wrapper.versioned("bad") == (None, None)


def test_callbacks_hear_the_outer_key_and_value(clock: ManualClock) -> None:
    near, far = inproc(clock), inproc(clock)
    heard: list[Any] = []
    wrapper = DecoratedWrapper(
        TieredInclusiveClient(near, far),
        lambda key: ("d", key),
        lambda v: [v],
        lambda v: MISSING if v == ["unreadable"] else v[0],
    )
    far.put(("d", "k"), ["v"], 100)
    far.put(("d", "u"), ["unreadable"], 100)
    wrapper.get("k", promote_callback=lambda *told: heard.append(told))
    wrapper.get("u", None, promote_callback=lambda *told: heard.append(told))
    assert heard == [("k", "v", 100)]


@pytest.mark.parametrize("name", ["key_decorator", "value_decorator", "value_undecorator"])
def test_transforms_must_be_callable(clock: ManualClock, name: str) -> None:
    options: dict[str, Any] = {name: 3}
    with pytest.raises(TypeError, match=f"{name} must be callable, not 3"):
        DecoratedWrapper(inproc(clock), **options)


@pytest.mark.parametrize("kind", [SyncAdapter, ReadWriteSyncAdapter])
def test_every_delegated_operation_holds_the_lock(
    clock: ManualClock, kind: type[SyncAdapter]
) -> None:
    held: dict[str, bool] = {}

    class Unsafe(InprocCacheClient):
        """Notes whether the adapter's lock was held."""

        def __getattribute__(self, name: str) -> Any:
            member = super().__getattribute__(name)
            if name in OPERATIONS and "adapter" in globals_of_test:
                held[name] = is_held(globals_of_test["adapter"])
            return member

    globals_of_test: dict[str, SyncAdapter] = {}

    def is_held(adapter: SyncAdapter) -> bool:
        if isinstance(adapter, ReadWriteSyncAdapter):
            return bool(adapter._shared._readers) or adapter._shared._writer is not None
        return bool(adapter._lock._is_owned())  # type: ignore[attr-defined]

    client = Unsafe(10, clock=clock)
    adapter = globals_of_test["adapter"] = kind(client)
    adapter.put("k", "v", 100)
    adapter.get("k")
    adapter.get_ttl("k")
    adapter.get_multi(["k"])
    adapter.get("k", ttl_skip=1)
    adapter.get_multi(["k"], ttl_skip=1)
    adapter.near("k")
    adapter.store_versioned("k", "v", 100)
    adapter.version("k")
    adapter.versioned("k")
    adapter.entries(["k"])
    adapter.put_multi({"k": 1}, 100)
    adapter.renew("k", 200)
    adapter.expire("k")
    adapter.delete("k")
    adapter.delete_multi(["k"])
    adapter.drop_near("k")
    adapter.purge()
    adapter.clear()
    claim = adapter.claim("k", 1)
    assert claim is not None
    claim.release()
    assert set(held) == OPERATIONS
    assert all(held.values()), held
    assert adapter.find("k", Search()) is None


OPERATIONS = {
    "claim",
    "clear",
    "discard",
    "discard_many",
    "drop_near",
    "entries",
    "entry",
    "find",
    "find_many",
    "outdate",
    "revoke",
    "store",
    "store_many",
    "store_versioned",
    "sweep",
    "touch",
    "version",
    "versioned",
}


@pytest.mark.parametrize("kind", [SyncAdapter, ReadWriteSyncAdapter])
def test_a_limited_view_has_the_same_lock(clock: ManualClock, kind: type[SyncAdapter]) -> None:
    adapter = kind(TieredInclusiveClient(inproc(clock), inproc(clock)))
    view = adapter.first_tiers(1)
    assert isinstance(view, kind)
    assert view._lock is adapter._lock
    adapter.put("k", "v", 100)
    assert adapter.get("k", max_tiers=1) == "v"
    if isinstance(view, ReadWriteSyncAdapter) and isinstance(adapter, ReadWriteSyncAdapter):
        assert view._shared is adapter._shared


def test_a_forked_child_finds_the_lock_free(clock: ManualClock) -> None:
    adapter = SyncAdapter(inproc(clock))
    lock = adapter._lock
    lock.acquire()
    adapter.after_fork()
    assert adapter._lock is not lock
