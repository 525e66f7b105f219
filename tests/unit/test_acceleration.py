"""Where the compiled core comes in, and where it stays out."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tiered import acceleration
from tiered.clients.inproc import InprocCacheClient
from tiered.stores import choose
from tiered.stores.lru import LockedLRUStore, LRUStore

SHOW = """
import tiered
from tiered.clients.inproc import InprocCacheClient
client = InprocCacheClient(10)
f = tiered.cached(client, 60)(lambda x: object())
assert f(1) is f(1)
print(tiered.accelerated, type(client._store).__module__, type(f).__mro__[-3].__module__)
"""


def shown(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def reloaded() -> Iterator[Any]:
    """The choosing modules, to be loaded again; put back as they were."""
    before = dict(vars(acceleration)), dict(vars(choose))
    yield lambda: (importlib.reload(acceleration), importlib.reload(choose))
    for module, known in zip((acceleration, choose), before, strict=True):
        vars(module).update(known)


@pytest.mark.parametrize("value", ["1", "yes"])
def test_pure_is_pure(value: str) -> None:
    assert shown(TIERED_PURE=value).startswith("False tiered.stores.lru")


@pytest.mark.skipif(not acceleration.accelerated, reason="the core is not built, or not wanted")
@pytest.mark.parametrize("value", ["", "0"])
def test_what_is_built_is_used(value: str) -> None:
    assert shown(TIERED_PURE=value).startswith("True tiered._core")


def test_without_the_core_python_does(monkeypatch: pytest.MonkeyPatch, reloaded: Any) -> None:
    monkeypatch.setitem(sys.modules, "tiered._core", None)  # as if it was not built
    reloaded()
    assert not acceleration.accelerated
    assert isinstance(choose.choose_store(1, "lru", None, None, None), LRUStore)


def test_without_a_gil_stores_have_locks(monkeypatch: pytest.MonkeyPatch, reloaded: Any) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    reloaded()
    assert not acceleration.accelerated
    assert isinstance(choose.choose_store(1, "lru", None, None, None), LockedLRUStore)


def test_both_sides_are_one_to_a_user() -> None:
    client = InprocCacheClient(3)
    for key in "abcd":
        client.put(key, key.upper(), 60)
    assert [client.get(key, None) for key in "abcd"] == [None, "B", "C", "D"]
    assert client.stats.hits == 3
