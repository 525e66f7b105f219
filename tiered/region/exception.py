"""What a region raises when it is used wrongly; dogpile.cache's names.

::

    Exception
     └── CacheError
          └── DogpileCacheException
               ├── RegionAlreadyConfigured    configure() a second time
               ├── RegionNotConfigured        used before configure()
               ├── ValidationError            an argument that cannot be right
               └── PluginNotFound             no backend has that name
"""

from __future__ import annotations

from tiered.errors import CacheError

__all__ = [
    "DogpileCacheException",
    "PluginNotFound",
    "RegionAlreadyConfigured",
    "RegionNotConfigured",
    "ValidationError",
]


class DogpileCacheException(CacheError):
    """Base of the tree above."""


class RegionAlreadyConfigured(DogpileCacheException):
    """The region has a backend; ``replace_existing_backend=True`` gives it another one."""


class RegionNotConfigured(DogpileCacheException):
    """The region has no backend yet; call ``configure()`` first."""


class ValidationError(DogpileCacheException):
    """An argument that cannot be right; the message names it and says what would be."""


class PluginNotFound(DogpileCacheException):
    """No backend has that name; the message lists those that there are."""
