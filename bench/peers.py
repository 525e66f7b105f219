"""Other caches: found if they are installed, left out if not."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tiered

__all__ = ["PACKAGES", "announce_missing", "environment", "peer"]

PACKAGES = {
    "aiocache": "aiocache",
    "cachebox": "cachebox",
    "cashews": "cashews",
    "chorde": "chorde",
    "cachetools": "cachetools",
    "diskcache": "diskcache",
    "dogpile.cache": "dogpile.cache",
    "lru": "lru-dict",
    "memcache": "python-memcached",
    "meta_memcache": "meta-memcache",
    "pylibmc": "pylibmc",
    "pymemcache": "pymemcache",
    "theine": "theine",
    "uhashring": "uhashring",
    "zmq": "pyzmq",
}
"""What is installed to import a module; all but ours and chorde are in the bench extra."""


def peer(module: str) -> Any:
    """The module, or None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def announce_missing(*modules: str) -> None:
    """Say on stderr which of *modules* are left out."""
    for module in modules:
        if find_spec(module.partition(".")[0]) is None:
            extra = "" if module == "chorde" else " (the bench extra)"
            print(f"{PACKAGES[module]} is not installed{extra}; left out", file=sys.stderr)


def environment(*modules: str) -> dict[str, str]:
    """The interpreter, the machine, our core, and the versions of *modules*."""
    versions = {}
    for package in (PACKAGES[module] for module in modules):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": sys.version.split()[0],
        "machine": platform.platform(),
        "processor": _processor(),
        "tiered": version("tiered"),
        "core": "compiled" if tiered.accelerated else "pure Python",
        **versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
