"""The usage guide of dogpile.cache, example by example, as a new user would try it on ours.

Its servers are named without a port; here they are the private server of the tests.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together
from tiered.cli.demo.server import PrivateMemcached
from tiered.region import (
    NO_VALUE,
    CachedValue,
    ProxyBackend,
    RegionNotConfigured,
    make_region,
    register_backend,
)

ARGUMENTS = dict[str, Any]

DICTIONARY_BACKEND = """
from tiered.region import CacheBackend, NO_VALUE

class DictionaryBackend(CacheBackend):
    def __init__(self, arguments):
        self.cache = {}

    def get(self, key):
        return self.cache.get(key, NO_VALUE)

    def set(self, key, value):
        self.cache[key] = value

    def delete(self, key):
        self.cache.pop(key)
"""

ENTRY_POINTS = """
[dogpile.cache]
entered = mypackage.mybackend:DictionaryBackend
"""


@pytest.fixture
def arguments(memcached: PrivateMemcached) -> ARGUMENTS:
    return {"url": [memcached.address], "checksum_key": SECRET, "prefix": unique_prefix()}


@pytest.fixture
def mypackage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's package with a backend, installed with its entry point."""
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mybackend.py").write_text(DICTIONARY_BACKEND)
    installed = tmp_path / "mypackage-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mypackage", "mypackage.mybackend"):
        monkeypatch.delitem(sys.modules, name, raising=False)


# -- Rudimentary usage ---------------------------------------------------------


def test_a_basic_configuration(arguments: ARGUMENTS) -> None:
    region = make_region().configure(
        "dogpile.cache.pylibmc",
        expiration_time=3600,
        arguments=arguments,
    )
    looked_up: list[int] = []

    @region.cache_on_arguments()
    def load_user_info(user_id: int) -> str:
        looked_up.append(user_id)
        time.sleep(0.02)
        return f"user {user_id}"

    assert together(lambda _: load_user_info(5), 16) == ["user 5"] * 16
    assert load_user_info(6) == "user 6"
    assert looked_up == [5, 6]


def test_configuration_in_two_steps() -> None:
    region = make_region()

    @region.cache_on_arguments()
    def fn(x: int) -> int:
        return x + 1

    with pytest.raises(RegionNotConfigured):
        fn(1)
    region.configure("dogpile.cache.memory")
    assert fn(1) == 2


def test_regions_from_a_configuration(tmp_path: Path, memcached: PrivateMemcached) -> None:
    local_region = make_region()
    memcached_region = make_region()
    myconfig = {
        "cache.local.backend": "dogpile.cache.dbm",
        "cache.local.arguments.filename": str(tmp_path / "dbmfile.dbm"),
        "cache.memcached.backend": "dogpile.cache.pylibmc",
        "cache.memcached.arguments.url": f"{memcached.address}, 127.0.0.1:1",
        "cache.memcached.arguments.checksum_key": SECRET,
        "cache.memcached.arguments.prefix": unique_prefix(),
        "cache.memcached.expiration_time": "3600",
    }
    local_region.configure_from_config(myconfig, "cache.local.")
    memcached_region.configure_from_config(myconfig, "cache.memcached.")
    for region in (local_region, memcached_region):
        assert region.get_or_create("k", lambda: {"a": (1, 2)}) == {"a": (1, 2)}
        assert region.get("k") == {"a": (1, 2)}
    assert memcached_region.expiration_time == 3600


# -- Using a region ------------------------------------------------------------


def test_get_set_delete_and_create(arguments: ARGUMENTS) -> None:
    region = make_region("using").configure("dogpile.cache.pylibmc", arguments=arguments)
    assert region.get("somekey") is NO_VALUE
    region.set("somekey", "somevalue")
    assert region.get("somekey") == "somevalue"
    region.delete("somekey")
    region.delete("somekey")
    assert not region.get("somekey")

    def create(*args: Any, **kwargs: Any) -> Any:
        return (args, kwargs)

    made = region.get_or_create("k", create, creator_args=((1,), {"b": 2}))
    assert made == ((1,), {"b": 2})
    assert region.get_or_create("k", create) == made


def test_what_hangs_on_a_decorated_function(arguments: ARGUMENTS) -> None:
    region = make_region("hangs").configure("dogpile.cache.pylibmc", arguments=arguments)
    made = itertools.count()

    @region.cache_on_arguments(namespace="mine")
    def generate_something(x: int, y: int) -> tuple[int, int, int]:
        return (next(made), x, y)

    first = generate_something(5, 6)
    assert generate_something(5, 6) == first
    assert generate_something.get(5, 6) == first
    generate_something.set((3, 5, 6), 5, 6)
    assert generate_something(5, 6) == (3, 5, 6)
    assert generate_something.refresh(5, 6) == generate_something(5, 6) == (1, 5, 6)
    generate_something.invalidate(5, 6)
    assert generate_something.get(5, 6) is NO_VALUE
    assert generate_something.original(5, 6) == (2, 5, 6)


def test_a_key_mangler_as_a_prefix() -> None:
    kept: dict[str, Any] = {}
    region = make_region(key_mangler=lambda key: "myapp:dogpile:" + key)
    region.configure("dogpile.cache.memory", arguments={"cache_dict": kept})
    region.set("k", 1)
    assert list(kept) == ["myapp:dogpile:k"]


def test_creation_in_a_thread_of_its_own(arguments: ARGUMENTS) -> None:
    threads: list[threading.Thread] = []

    def async_creation_runner(cache: Any, somekey: str, creator: Any, mutex: Any) -> None:
        def runner() -> None:
            try:
                cache.set(somekey, creator())
            finally:
                mutex.release()

        threads.append(threading.Thread(target=runner))
        threads[-1].start()

    region = make_region(async_creation_runner=async_creation_runner).configure(
        "dogpile.cache.memcached",
        expiration_time=0.05,
        arguments={**arguments, "distributed_lock": True},
    )
    region.set("k", "old")
    time.sleep(0.06)
    go = threading.Event()

    def create() -> str:
        go.wait()
        return "new"

    assert [region.get_or_create("k", create) for _ in range(3)] == ["old"] * 3
    go.set()
    [thread] = threads
    thread.join()
    assert region.get("k", ignore_expiration=True) == "new"


# -- Creating backends ---------------------------------------------------------


@pytest.mark.usefixtures("mypackage")
@pytest.mark.parametrize("name", ["dictionary", "entered"])
def test_a_dictionary_backend(name: str) -> None:
    if name == "dictionary":
        register_backend("dictionary", "mypackage.mybackend", "DictionaryBackend")
    region = make_region("myregion")
    region.configure(name)
    region.set("somekey", "somevalue")
    assert region.get("somekey") == "somevalue"
    kept = region.actual_backend.cache["somekey"]  # type: ignore[attr-defined]
    assert isinstance(kept, CachedValue)
    payload, metadata = kept
    assert payload == "somevalue"
    assert metadata.keys() == {"ct", "v"}
    region.delete("somekey")
    region.delete("somekey")  # the guide's backend raises then
    assert region.stats.errors == 1


def test_a_backend_is_not_the_name_of_a_region() -> None:
    # As an early version of the guide has it.
    region = make_region("dictionary")
    with pytest.raises(RegionNotConfigured, match="'dictionary' has no backend yet"):
        region.set("somekey", "somevalue")


# -- Changing what a backend does ----------------------------------------------


class LoggingProxy(ProxyBackend):
    def set(self, key: str, value: Any) -> None:
        logging.getLogger("example").info("Setting Cache Key: %s", key)
        self.proxied.set(key, value)


class RetryDeleteProxy(ProxyBackend):
    def __init__(self, retry_count: int = 5) -> None:
        super().__init__()
        self.retry_count = retry_count
        self.failures = 2

    def delete(self, key: str) -> None:
        retries = self.retry_count
        while retries > 0:
            retries -= 1
            try:
                if self.failures:
                    self.failures -= 1
                    raise OSError("not this time")
                self.proxied.delete(key)
                return
            except OSError:
                pass


@pytest.mark.parametrize("backend", ["memory", "pylibmc"])
def test_proxies(backend: str, arguments: ARGUMENTS, caplog: pytest.LogCaptureFixture) -> None:
    retry_proxy = RetryDeleteProxy(5)
    region = make_region(f"proxies of {backend}").configure(
        f"dogpile.cache.{backend}",
        expiration_time=3600,
        arguments=arguments if backend == "pylibmc" else None,
        wrap=[LoggingProxy, retry_proxy],
    )
    with caplog.at_level(logging.INFO, logger="example"):
        region.set("k", "v")
    # Threads that other tests have left may log, too.
    said = [record.getMessage() for record in caplog.records if record.name == "example"]
    assert said == ["Setting Cache Key: k"]
    assert region.get("k") == "v"
    region.delete("k")
    assert retry_proxy.failures == 0
    assert region.get("k") is NO_VALUE


class _Upper(ProxyBackend):
    """Changes values, which it must see for that."""

    def set(self, key: str, value: Any) -> None:
        self.proxied.set(key, CachedValue(value.payload.upper(), value.metadata))

    def get_multi(self, keys: Any) -> Any:
        found: Any = self.proxied.get_multi(keys)
        return [one and CachedValue(f"({one.payload})", one.metadata) for one in found]


@pytest.mark.parametrize("signed", [True, False])
def test_proxies_see_values_where_the_client_keeps_bytes(
    arguments: ARGUMENTS, signed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if not signed:
        del arguments["checksum_key"]
    plain = make_region("bytes").configure("memcached", arguments=arguments)
    region = make_region("bytes").configure("memcached", arguments=arguments, wrap=[_Upper])
    region.set("k", "v")
    assert region.get("k") == plain.get("k") == "V"  # stored alike
    plain.set_multi({"k": "a", "l": "b"})
    assert region.get_multi(["k", "x", "l"]) == ["(a)", NO_VALUE, "(b)"]

    client = region.actual_backend.client  # type: ignore[attr-defined]
    client.put("k", b"written by somebody else", 60)
    assert region.get_multi(["k", "l"]) == [NO_VALUE, "(b)"]
    assert "a value that cannot be read is a miss" in caplog.text

    plain.set("k", "a")
    region.set_multi(dict.fromkeys("kl", lambda: "no bytes say this"))
    assert plain.get_multi(["k", "l"]) == [NO_VALUE, NO_VALUE]
    assert region.stats.errors == 1


# -- Recipes -------------------------------------------------------------------


def test_invalidating_a_group_of_related_keys() -> None:
    user_keys: set[str] = set()

    def my_key_generator(namespace: Any, fn: Callable[..., Any]) -> Callable[..., str]:
        fname = fn.__name__

        def generate_key(*arg: Any) -> str:
            key_template = fname + "_" + "%d" + "_".join(str(s) for s in arg[1:])
            user_keys.add(key_template)
            return str(key_template % arg[0])

        return generate_key

    def invalidate_user_id(user_id: int) -> None:
        for key in user_keys:
            region.delete(key % user_id)

    region = make_region(function_key_generator=my_key_generator)
    region.configure("dogpile.cache.memory")
    counter = itertools.count()

    @region.cache_on_arguments()
    def user_fn_one(user_id: int) -> str:
        return f"user fn one: {next(counter)}, {user_id}"

    @region.cache_on_arguments()
    def user_fn_two(user_id: int) -> str:
        return f"user fn two: {next(counter)}, {user_id}"

    before = [user_fn_one(5), user_fn_two(5), user_fn_two(7)]
    assert [user_fn_one(5), user_fn_two(5), user_fn_two(7)] == before
    invalidate_user_id(5)
    assert user_fn_one(5) == "user fn one: 3, 5"
    assert user_fn_two(5) == "user fn two: 4, 5"
    assert user_fn_two(7) == before[2]


def test_data_refreshed_behind_who_changes_it() -> None:
    region = make_region().configure("dogpile.cache.memory")
    rows = {"a": 1}

    @region.cache_on_arguments()
    def get_some_data(argument: str) -> int:
        return rows[argument]

    assert get_some_data("a") == 1
    rows["a"] = 2
    refresh = threading.Thread(target=get_some_data.refresh, args=("a",))
    refresh.start()
    refresh.join()
    assert get_some_data("a") == 2
