"""The region API: dogpile.cache's interface, on the clients of this package.

A program that uses dogpile.cache imports from here instead; modules have the same names
(``tiered.region.api``, ``.exception``, ``.proxy``, ``.util``, ``.region``).
"""

from __future__ import annotations

from tiered.region.aio import AsyncRegion
from tiered.region.api import (
    NO_VALUE,
    BytesBackend,
    CacheBackend,
    CachedValue,
    CacheMutex,
    CantDeserializeException,
    DefaultSerialization,
)
from tiered.region.exception import (
    DogpileCacheException,
    PluginNotFound,
    RegionAlreadyConfigured,
    RegionNotConfigured,
    ValidationError,
)
from tiered.region.invalidation import (
    DefaultInvalidationStrategy,
    RegionInvalidationStrategy,
    SharedInvalidationStrategy,
)
from tiered.region.keys import (
    exact_key_generator,
    exact_multi_key_generator,
    function_key_generator,
    function_multi_key_generator,
    kwarg_function_key_generator,
    length_conditional_mangler,
    sha1_mangle_key,
)
from tiered.region.loading import register_backend
from tiered.region.proxy import ProxyBackend
from tiered.region.region import CacheRegion, make_region

__all__ = [
    "NO_VALUE",
    "AsyncRegion",
    "BytesBackend",
    "CacheBackend",
    "CacheMutex",
    "CacheRegion",
    "CachedValue",
    "CantDeserializeException",
    "DefaultInvalidationStrategy",
    "DefaultSerialization",
    "DogpileCacheException",
    "PluginNotFound",
    "ProxyBackend",
    "RegionAlreadyConfigured",
    "RegionInvalidationStrategy",
    "RegionNotConfigured",
    "SharedInvalidationStrategy",
    "ValidationError",
    "exact_key_generator",
    "exact_multi_key_generator",
    "function_key_generator",
    "function_multi_key_generator",
    "kwarg_function_key_generator",
    "length_conditional_mangler",
    "make_region",
    "register_backend",
    "sha1_mangle_key",
]
