"""Regions as the cache of Mako templates: ``TemplateLookup(cache_impl="tiered", ...)``."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from tiered.codec.optional import optional_module
from tiered.region.exception import ValidationError

__all__ = ["MakoPlugin"]

_mako: Any = optional_module("mako.cache", "the plugin for Mako", "mako")


class MakoPlugin(_mako.CacheImpl):  # type: ignore[misc]
    """Keeps what parts of a template gave in the region that they name.

    ::

        TemplateLookup(..., cache_impl="tiered", cache_args={"regions": {"short": region}})

        <%def name="news()" cached="True" cache_region="short" cache_timeout="60">

    A part that gives itself a ``cache_key`` is found under that key in the region, also by a
    program that deletes it there. The key of any other part is its name, which is unique in its
    template only: the template's URI is put before it.

    Args:
        cache: Mako's cache of one template.

    Raises:
        ValidationError: the template has no ``cache_args={"regions": {...}}``.
    """

    def __init__(self, cache: Any) -> None:
        super().__init__(cache)
        arguments = cache.template.cache_args
        if "regions" not in arguments:
            raise ValidationError(
                "cache_args of a Mako template or lookup must hold 'regions', a mapping of names "
                f"to regions; there is {sorted(arguments)}"
            )
        self.regions = arguments["regions"]

    def get_or_create(
        self,
        key: str,
        creation_function: Callable[[], str],
        *,
        timeout: float | None = None,
        **of: Any,
    ) -> str:
        """What is kept for *key*, made anew when it is older than *timeout* seconds."""
        text: str = self._region(of).get_or_create(
            self._key(key), creation_function, expiration_time=timeout
        )
        return text

    get_and_replace = get_or_create

    def set(self, key: str, value: str, **of: Any) -> None:
        """Keep *value*."""
        self._region(of).set(self._key(key), value)

    def put(self, key: str, value: str, **of: Any) -> None:
        """The same, under the name that it had in Mako."""
        self.set(key, value, **of)

    def get(self, key: str, *, timeout: float | None = None, **of: Any) -> Any:
        """What is kept for *key* and not older than *timeout* seconds, or ``NO_VALUE``."""
        return self._region(of).get(self._key(key), expiration_time=timeout)

    def invalidate(self, key: str, **of: Any) -> None:
        """Forget *key*."""
        self._region(of).delete(self._key(key))

    def _region(self, of: dict[str, Any]) -> Any:
        name = of.get("region")
        if name not in self.regions:
            raise ValidationError(
                f"what is cached in a Mako template must name its region with cache_region; there "
                f"is no region {name!r}, but {sorted(self.regions)}"
            )
        return self.regions[name]

    def _key(self, key: str) -> str:
        # Mako notes each part that it caches before it asks for it; a name that is not there
        # may still be that of a part that was not shown yet.
        noted = getattr(self.cache, "_def_regions", ())
        is_name = key in noted or key in vars(self.cache.template.module)
        return f"{self._owner}|{key}" if is_name else key

    @functools.cached_property
    def _owner(self) -> str:
        """The template, as other processes know it."""
        uri: str = self.cache.template.uri
        if not uri.startswith("memory:"):
            return uri
        # What follows is an address, where another template may come to lie.
        source = self.cache.template.source
        data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        return f"memory:{hashlib.blake2b(data, digest_size=20).hexdigest()}"
