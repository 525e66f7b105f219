"""Tiered caching: memory in front of servers, each value computed once.

The names below are the public ones; they are imported when first used, so that
``import tiered`` costs nothing and touches no optional package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "ALWAYS",
    "FOREVER",
    "IF_ABSENT",
    "IF_OLDER",
    "MISSING",
    "NO_NAMESPACE",
    "AsyncCachedFunction",
    "AsyncWriteCacheClient",
    "BackendError",
    "CacheClient",
    "CacheError",
    "CacheMissError",
    "CachedFunction",
    "Capabilities",
    "Claim",
    "Clock",
    "CodecError",
    "ComputationTimeout",
    "Condition",
    "DecoratedWrapper",
    "DiscoveryError",
    "DnsDiscovery",
    "ElastiCacheClient",
    "Entry",
    "FilesCacheClient",
    "InprocCacheClient",
    "KeyEncodingError",
    "MemcachedClient",
    "MultiResult",
    "NamespaceMirrorWrapper",
    "NamespaceWrapper",
    "NoServersError",
    "NullCacheClient",
    "ReadWriteSyncAdapter",
    "SrvDiscovery",
    "StorageError",
    "SyncAdapter",
    "SystemClock",
    "TieredInclusiveClient",
    "UnsupportedOperation",
    "WorkerPool",
    "Wrapper",
    "accelerated",
    "cached",
    "coherent_cached",
    "from_url",
    "makeFutureWrapper",
]

if TYPE_CHECKING:
    from tiered.clients.background import AsyncWriteCacheClient
    from tiered.clients.base import CacheClient, Capabilities, Claim
    from tiered.clients.decorating import DecoratedWrapper
    from tiered.clients.elasticache import ElastiCacheClient
    from tiered.clients.files import FilesCacheClient
    from tiered.clients.inproc import InprocCacheClient
    from tiered.clients.memcached import MemcachedClient
    from tiered.clients.namespace import NamespaceMirrorWrapper, NamespaceWrapper
    from tiered.clients.null import NullCacheClient
    from tiered.clients.synced import ReadWriteSyncAdapter, SyncAdapter
    from tiered.clients.tiered import TieredInclusiveClient
    from tiered.clients.wrapper import Wrapper
    from tiered.clock import SystemClock
    from tiered.concurrency.wrapping import makeFutureWrapper
    from tiered.decorators import (
        NO_NAMESPACE,
        AsyncCachedFunction,
        CachedFunction,
        MultiResult,
        WorkerPool,
        cached,
        coherent_cached,
    )
    from tiered.entry import ALWAYS, IF_ABSENT, IF_OLDER, Condition, Entry
    from tiered.errors import (
        BackendError,
        CacheError,
        CacheMissError,
        CodecError,
        ComputationTimeout,
        DiscoveryError,
        KeyEncodingError,
        NoServersError,
        StorageError,
        UnsupportedOperation,
    )
    from tiered.routing.dns import DnsDiscovery, SrvDiscovery
    from tiered.sentinels import FOREVER, MISSING
    from tiered.typing import Clock
    from tiered.urls import from_url

    __version__: str
    from tiered.acceleration import accelerated

_HOMES = {
    "ALWAYS": "tiered.entry",
    "FOREVER": "tiered.sentinels",
    "IF_ABSENT": "tiered.entry",
    "IF_OLDER": "tiered.entry",
    "MISSING": "tiered.sentinels",
    "NO_NAMESPACE": "tiered.decorators",
    "AsyncCachedFunction": "tiered.decorators",
    "AsyncWriteCacheClient": "tiered.clients.background",
    "BackendError": "tiered.errors",
    "CacheClient": "tiered.clients.base",
    "CacheError": "tiered.errors",
    "CacheMissError": "tiered.errors",
    "CachedFunction": "tiered.decorators",
    "Capabilities": "tiered.clients.base",
    "Claim": "tiered.clients.base",
    "Clock": "tiered.typing",
    "CodecError": "tiered.errors",
    "ComputationTimeout": "tiered.errors",
    "Condition": "tiered.entry",
    "ElastiCacheClient": "tiered.clients.elasticache",
    "DnsDiscovery": "tiered.routing.dns",
    "DiscoveryError": "tiered.errors",
    "DecoratedWrapper": "tiered.clients.decorating",
    "Entry": "tiered.entry",
    "FilesCacheClient": "tiered.clients.files",
    "InprocCacheClient": "tiered.clients.inproc",
    "KeyEncodingError": "tiered.errors",
    "MemcachedClient": "tiered.clients.memcached",
    "MultiResult": "tiered.decorators",
    "NamespaceMirrorWrapper": "tiered.clients.namespace",
    "NamespaceWrapper": "tiered.clients.namespace",
    "NoServersError": "tiered.errors",
    "NullCacheClient": "tiered.clients.null",
    "SrvDiscovery": "tiered.routing.dns",
    "StorageError": "tiered.errors",
    "ReadWriteSyncAdapter": "tiered.clients.synced",
    "SyncAdapter": "tiered.clients.synced",
    "SystemClock": "tiered.clock",
    "TieredInclusiveClient": "tiered.clients.tiered",
    "UnsupportedOperation": "tiered.errors",
    "WorkerPool": "tiered.decorators",
    "Wrapper": "tiered.clients.wrapper",
    "accelerated": "tiered.acceleration",
    "cached": "tiered.decorators",
    "coherent_cached": "tiered.decorators",
    "from_url": "tiered.urls",
    "makeFutureWrapper": "tiered.concurrency.wrapping",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tiered")
    if name not in _HOMES:
        raise AttributeError(f"module 'tiered' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
