"""The names of dogpile.cache, in modules of the same names."""

from __future__ import annotations

import importlib
import inspect

import pytest

pytest.importorskip("dogpile.cache")

MODULES = ["", ".api", ".exception", ".proxy", ".region", ".util", ".backends.memory"]
MODULES += [".backends.file", ".backends.memcached", ".backends.null"]

NOT_OURS = {
    # Bases of its classes for memcached, whose clients are not ours.
    "GenericMemcachedBackend",
    "MemcacheArgs",
    "MemcachedLock",
    "NullLock",
}


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_defines_is_in_ours(name: str) -> None:
    theirs = importlib.import_module("dogpile.cache" + name)
    ours = importlib.import_module("tiered.region" + name)
    defined = {
        attribute
        for attribute, value in vars(theirs).items()
        if not attribute.startswith("_") and _is_of(value, theirs.__name__)
    }
    if name == ".region":
        defined.add("register_backend")
    assert sorted(defined - NOT_OURS - vars(ours).keys()) == []


def _is_of(value: object, module: str) -> bool:
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return False
    return value.__module__ == module or module == "dogpile.cache"


@pytest.mark.parametrize("kind", ["CacheRegion", "ProxyBackend", "CacheBackend", "CachedValue"])
def test_what_a_class_has_ours_has(kind: str) -> None:
    theirs = getattr(importlib.import_module("dogpile.cache.region"), kind, None) or getattr(
        importlib.import_module("dogpile.cache.api"), kind
    )
    ours = getattr(importlib.import_module("tiered.region"), kind)
    public = {name for name in dir(theirs) if not name.startswith("_")}
    assert sorted(public - set(dir(ours))) == []
