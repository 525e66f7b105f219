"""Backends by name: ours, registered ones, those of plugins, dogpile.cache's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiered.region import loading
from tiered.region.api import BackendArguments, CacheBackend
from tiered.region.exception import DogpileCacheException, PluginNotFound
from tiered.region.loading import load_backend, register_backend


class Mine(CacheBackend):
    """A backend that some program brings."""

    def __init__(self, arguments: BackendArguments) -> None:
        self.arguments = arguments


class Another(Mine):
    pass


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten with it."""
    monkeypatch.setattr(loading, "_registered", dict(loading._registered))


@pytest.mark.parametrize("prefix", ["", "dogpile.cache."])
@pytest.mark.parametrize(
    ("name", "module", "cls"),
    [
        ("null", "null", "NullBackend"),
        ("memory", "memory", "MemoryBackend"),
        ("memory_pickle", "memory", "MemoryPickleBackend"),
        ("dbm", "file", "DBMBackend"),
        ("file", "file", "DBMBackend"),
    ],
)
def test_our_backends_have_dogpile_caches_names_too(
    prefix: str, name: str, module: str, cls: str
) -> None:
    ours = importlib.import_module(f"tiered.region.backends.{module}")
    assert load_backend(prefix + name) is getattr(ours, cls)


def test_a_registered_backend_is_imported_on_first_use() -> None:
    register_backend("mine", __name__, "Mine")
    register_backend("not there", "no_such_module_at_all", "Mine")
    assert load_backend("mine") is Mine
    with pytest.raises(ImportError):
        load_backend("not there")


def test_a_second_registration_replaces_the_first() -> None:
    register_backend("mine", __name__, "Mine")
    register_backend("mine", __name__, "Another")
    assert load_backend("mine") is Another


def test_our_own_names_can_be_replaced() -> None:
    register_backend("dogpile.cache.memory", __name__, "Mine")
    assert load_backend("dogpile.cache.memory") is Mine
    assert load_backend("memory") is not Mine


def test_dogpile_caches_own_backends_can_be_registered(tmp_path: Path) -> None:
    module = "dogpile.cache.backends.file"
    theirs: Any = pytest.importorskip(module)
    register_backend("their dbm", module, "DBMBackend")
    backend = load_backend("their dbm")({"filename": str(tmp_path / "cache")})
    assert isinstance(backend, theirs.DBMBackend)
    backend.set_serialized("k", b"v")
    assert backend.get_serialized("k") == b"v"


def test_dogpile_caches_backends_for_servers_are_used_where_it_is_installed() -> None:
    redis: Any = pytest.importorskip("dogpile.cache.backends.redis")
    assert load_backend("dogpile.cache.redis") is redis.RedisBackend
    assert load_backend("redis") is redis.RedisBackend


def test_where_it_is_not_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dogpile.cache.backends.valkey", None)
    monkeypatch.setattr(loading, "entry_points", lambda **_: ())
    with pytest.raises(PluginNotFound, match=r"'dogpile.cache.valkey'.*pip install dogpile.cache"):
        load_backend("dogpile.cache.valkey")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, with an installed distribution that brings backends."""
    (tmp_path / "some_plugin.py").write_text(
        "class Own: pass\n\nclass Theirs: pass\n\nclass Memory: pass\n"
    )
    about = tmp_path / "some_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[tiered.backends]\n"
        "some_plugin = some_plugin:Own\n"
        "both = some_plugin:Own\n"
        "memory = some_plugin:Memory\n"
        "broken = some_plugin_that_is_not_there:Own\n"
        "[dogpile.cache]\n"
        "some.theirs = some_plugin:Theirs\n"
        "both = some_plugin:Theirs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("some_plugin", None)


def test_plugins_bring_backends_in_either_group(plugins: Path) -> None:
    assert load_backend("some_plugin").__name__ == "Own"
    assert load_backend("some.theirs").__name__ == "Theirs"
    assert load_backend("both").__name__ == "Own"


def test_a_plugin_comes_after_our_own_and_what_is_registered(plugins: Path) -> None:
    assert load_backend("memory").__module__.startswith("tiered.")
    register_backend("both", __name__, "Mine")
    assert load_backend("both") is Mine


def test_a_plugin_that_is_broken_says_so(plugins: Path) -> None:
    with pytest.raises(ImportError, match="some_plugin_that_is_not_there"):
        load_backend("broken")


def test_what_is_unknown_is_told_with_what_there_is(plugins: Path) -> None:
    register_backend("mine", __name__, "Mine")
    with pytest.raises(PluginNotFound) as caught:
        load_backend("mien")
    told = str(caught.value)
    assert "'mien'" in told
    for known in ("mine", "memory", "inproc", "some_plugin", "some.theirs", "redis"):
        assert known in told
    assert "register_backend" in told
    assert isinstance(caught.value, DogpileCacheException)
