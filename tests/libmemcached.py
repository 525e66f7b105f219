"""libmemcached itself, asked through ctypes which server has a key; no server need exist."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from tiered.routing.addresses import parse_address

_KETAMA_WEIGHTED = 16
"""MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED."""


def library() -> str | None:
    """Where libmemcached is: in pylibmc's wheel, or in the system; None if it is nowhere."""
    try:
        # Imported and not only looked for, as that loads what the library itself needs.
        folder = Path(importlib.import_module("_pylibmc").__file__ or "").parent
    except ImportError:
        pass
    else:
        for bundled in folder.glob("pylibmc.libs/libmemcached-*.so*"):
            return str(bundled)
    return ctypes.util.find_library("memcached")


class Libmemcached:
    """The library at *path*."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32
        self._create = library.memcached_create
        self._create.restype, self._create.argtypes = handle, [handle]
        self._free = library.memcached_free
        self._free.argtypes = [handle]
        self._set = library.memcached_behavior_set
        self._set.argtypes = [handle, ctypes.c_int, ctypes.c_uint64]
        self._add = library.memcached_server_add_with_weight
        self._add.argtypes = [handle, text, ctypes.c_uint16, number]
        self._add_unix = library.memcached_server_add_unix_socket_with_weight
        self._add_unix.argtypes = [handle, text, number]
        self._place = library.memcached_generate_hash
        self._place.restype, self._place.argtypes = number, [handle, text, ctypes.c_size_t]
        library.memcached_lib_version.restype = text
        self.version: str = library.memcached_lib_version().decode()

    def placed(
        self, servers: Sequence[str], weights: Sequence[int], keys: Iterable[bytes]
    ) -> list[int]:
        """The index of each key's server, with ``ketama_weighted`` set."""
        fleet = self._create(None)
        try:
            results = [self._set(fleet, _KETAMA_WEIGHTED, 1)]
            for server, weight in zip(servers, weights, strict=True):
                address = parse_address(server)
                host = address.host.encode()
                if address.is_unix:
                    results.append(self._add_unix(fleet, host, weight))
                else:
                    results.append(self._add(fleet, host, address.port, weight))
            assert not any(results), f"libmemcached refused one of {servers}: {results}"
            return [self._place(fleet, key, len(key)) for key in keys]
        finally:
            self._free(fleet)
