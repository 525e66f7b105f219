"""Backends by name: those of this package, those that programs register, those of plugins."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Final

from tiered.region.exception import PluginNotFound

__all__ = ["load_backend", "register_backend"]

_GROUPS: Final = ("tiered.backends", "dogpile.cache")
"""Groups of entry points, the first one first."""

_OURS: Final = {
    "null": ("null", "NullBackend"),
    "memory": ("memory", "MemoryBackend"),
    "memory_pickle": ("memory", "MemoryPickleBackend"),
    "dbm": ("file", "DBMBackend"),
    "file": ("file", "DBMBackend"),
    "memcached": ("memcached", "MemcachedBackend"),
    "pymemcache": ("memcached", "PyMemcacheBackend"),
    "pylibmc": ("memcached", "PylibmcBackend"),
    "bmemcached": ("memcached", "BMemcachedBackend"),
    "files": ("files", "FilesBackend"),
    "inproc": ("clients", "InprocBackend"),
    "tiered": ("clients", "TieredBackend"),
}
_DOGPILE: Final = "dogpile.cache."
"""What dogpile.cache's own names begin with: our backends are known by these too."""

_THEIRS: Final = {
    name: (f"dogpile.cache.backends.{module}", cls)
    for name, module, cls in (
        ("redis", "redis", "RedisBackend"),
        ("redis_sentinel", "redis", "RedisSentinelBackend"),
        ("redis_cluster", "redis", "RedisClusterBackend"),
        ("valkey", "valkey", "ValkeyBackend"),
        ("valkey_sentinel", "valkey", "ValkeySentinelBackend"),
        ("valkey_cluster", "valkey", "ValkeyClusterBackend"),
    )
}
"""dogpile.cache's own, where it is installed, for servers that we have no client for."""

_registered: dict[str, Callable[[], Any]] = {}


def register_backend(name: str, modulepath: str, objname: str) -> None:
    """Let ``configure(name)`` use the class *objname* of the module *modulepath*.

    The module is imported on first use. A second registration replaces the first; one of this
    package's own names is replaced too.

    Threads: safe.
    """
    _registered[name] = lambda: getattr(importlib.import_module(modulepath), objname)


def load_backend(name: str) -> Any:
    """The backend class called *name*.

    Raises:
        PluginNotFound: there is none.
        ImportError: what it needs is not installed.
    """
    if name in _registered:
        return _registered[name]()
    short = name.removeprefix(_DOGPILE)
    if short in _OURS:
        module, cls = _OURS[short]
        return getattr(importlib.import_module(f"tiered.region.backends.{module}"), cls)
    for group in _GROUPS:
        for point in entry_points(group=group, name=name):
            return point.load()
    if short in _THEIRS:
        return _theirs(name, *_THEIRS[short])
    known = sorted({*_OURS, *_registered, *_THEIRS, *_plugins()})
    raise PluginNotFound(
        f"there is no backend {name!r}; there are {', '.join(known)}. Your own needs "
        f"register_backend({name!r}, module, class), or an entry point in the group "
        f"{_GROUPS[0]!r}"
    )


def _theirs(name: str, module: str, cls: str) -> Any:
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise PluginNotFound(
            f"the backend {name!r} is dogpile.cache's own, and needs it: pip install dogpile.cache"
        ) from error


def _plugins() -> set[str]:
    return {point.name for group in _GROUPS for point in entry_points(group=group)}
