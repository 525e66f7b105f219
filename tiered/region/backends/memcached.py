"""Backends on memcached, under the names and with the arguments of dogpile.cache's four.

They are one: a :class:`tiered.MemcachedClient` that keeps bytes, which the region's serialiser
makes and the client signs and compresses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from tiered.clients.base import CacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.region.api import BackendArguments
from tiered.region.arguments import checked_seconds
from tiered.region.backends.clients import ClientBackend
from tiered.region.exception import ValidationError

__all__ = ["BMemcachedBackend", "MemcachedBackend", "PyMemcacheBackend", "PylibmcBackend"]

_log: Final = logging.getLogger(__name__)

_PASSED_ON: Final = frozenset(
    {
        "checksum_key",
        "compress",
        "connect_timeout",
        "max_value_size",
        "password",
        "pool_size",
        "pool_timeout",
        "prefix",
        "timeout",
        "tls_context",
        "username",
        "weights",
    }
)
"""Arguments that mean what the client's options of these names mean."""

_COMMON: Final = ClientBackend.arguments_known - {"client", "expire_time"} | {
    "url",
    "memcached_expire_time",
    "min_compress_len",
    *_PASSED_ON,
}


class _Memcached(ClientBackend):
    """What the four have in common; their arguments are told at :class:`MemcachedBackend`."""

    arguments_known: ClassVar[frozenset[str]] = _COMMON
    arguments_text: ClassVar[frozenset[str]] = frozenset(
        {"checksum_key", "password", "prefix", "username"}
    )
    arguments_ignored: ClassVar[frozenset[str]] = frozenset()
    """Options of the other package's client that ours does not have."""

    def made_client(self, arguments: BackendArguments) -> CacheClient:
        ignored = sorted(self.arguments_ignored.intersection(arguments))
        if ignored:
            _log.debug("%s ignores %s", type(self).__name__, ", ".join(ignored))
        options = {
            name: value
            for name, value in arguments.items()
            if name in _PASSED_ON and value is not None
        }
        options |= self.more_options(arguments)
        if arguments.get("min_compress_len"):
            options["compress_from"] = arguments["min_compress_len"]
        try:
            return MemcachedClient(_addresses(arguments.get("url")), serializer="raw", **options)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"the arguments of {type(self).__name__}: {error}") from error

    def more_options(self, arguments: BackendArguments) -> Mapping[str, Any]:
        """Options of the client from arguments that have other names."""
        return {}

    def locks_by_default(self) -> bool:
        return False

    def life_of(self, arguments: BackendArguments) -> float:
        return checked_seconds(arguments, "memcached_expire_time", 0)


class MemcachedBackend(_Memcached):
    """Values on memcached servers, as ``"memcached"`` or ``"dogpile.cache.memcached"``.

    Args:
        arguments:

            - ``url``: ``"host:port"``, ``"[ipv6]:port"`` or ``"/path.sock"``, several with
              commas between them, or a list of these; or what else ``MemcachedClient`` takes.
            - ``checksum_key``: the secret that signs values, or a list, newest first. With it,
              values are pickled. Without it, they are read as JSON; what JSON would not give
              back as it is reaches the caller, and is not kept, counted and logged.
            - ``distributed_lock``: whether a value is made once among all processes, by claims
              on its key; ``False`` by default: once in each process.
            - ``lock_timeout``: seconds after which a holder that has not finished is given up;
              10 by default, and for 0.
            - ``memcached_expire_time``: seconds for which the servers keep a value; 0, the
              default, for as long as they can.
            - ``min_compress_len``: bytes from which on values are compressed; for 0, the
              default, the client's, a kilobyte. ``compress=False`` for no compression.
            - ``recheck``: as of :class:`ClientBackend`; without a near tier, each read asks.
            - ``socket_timeout``: seconds; another name of ``timeout``.
            - ``compress``, ``connect_timeout``, ``timeout``, ``max_value_size``,
              ``pool_size``, ``pool_timeout``, ``prefix``, ``tls_context``, ``weights``: as
              of ``MemcachedClient``.
            - ``username``, ``password``: the same, for servers that were started with ``-Y``.
            - ``dead_retry``: ignored; servers that fail are left alone for a growing pause.

    Raises:
        ValidationError: an argument that cannot be right.
        MissingDependency: ``compress`` needs a package that is not there.

    Threads: safe, and in forked children. Nothing is connected before the first use.
    """

    arguments_known: ClassVar[frozenset[str]] = _COMMON | {"dead_retry", "socket_timeout"}
    arguments_ignored: ClassVar[frozenset[str]] = frozenset({"dead_retry"})

    def more_options(self, arguments: BackendArguments) -> Mapping[str, Any]:
        seconds = arguments.get("socket_timeout")
        return {} if seconds is None or "timeout" in arguments else {"timeout": seconds}


class PylibmcBackend(_Memcached):
    """The same, as ``"pylibmc"`` or ``"dogpile.cache.pylibmc"``.

    Args:
        arguments: of :class:`MemcachedBackend`, without ``socket_timeout`` and ``dead_retry``;
            ``binary`` and ``behaviors``, the options of a C library, are ignored.
    """

    arguments_ignored: ClassVar[frozenset[str]] = frozenset({"behaviors", "binary"})
    arguments_known: ClassVar[frozenset[str]] = _COMMON | arguments_ignored


class BMemcachedBackend(_Memcached):
    """The same, as ``"bmemcached"`` or ``"dogpile.cache.bmemcached"``.

    Args:
        arguments: of :class:`MemcachedBackend`, without ``socket_timeout`` and ``dead_retry``.
            ``username`` and ``password`` are for servers that were started with ``-Y``; there
            is no SASL, as it takes the binary protocol, which memcached is giving up.
    """


class PyMemcacheBackend(_Memcached):
    """The same, as ``"pymemcache"`` or ``"dogpile.cache.pymemcache"``.

    Args:
        arguments: of :class:`MemcachedBackend`, without ``socket_timeout`` and ``dead_retry``.
            ``default_noreply``, ``socket_keepalive``, ``enable_retry_client``,
            ``retry_attempts``, ``retry_delay``, ``retry_for``, ``do_not_retry_for`` and
            ``hashclient_retry_attempts``, ``hashclient_retry_timeout`` and
            ``hashclient_dead_timeout`` are ignored: each write is answered, and servers that
            fail are left alone for a growing pause. So is ``serde``, with a warning if it is
            not pymemcache's default: a region has a ``serializer`` and a ``deserializer``.
    """

    arguments_ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "default_noreply",
            "do_not_retry_for",
            "enable_retry_client",
            "hashclient_dead_timeout",
            "hashclient_retry_attempts",
            "hashclient_retry_timeout",
            "retry_attempts",
            "retry_delay",
            "retry_for",
            "serde",
            "socket_keepalive",
        }
    )
    arguments_known: ClassVar[frozenset[str]] = _COMMON | arguments_ignored

    def more_options(self, arguments: BackendArguments) -> Mapping[str, Any]:
        serde = arguments.get("serde")
        if serde is not None and not _pickles(serde):
            _log.warning(
                "PyMemcacheBackend ignores serde=%r; give the region serializer= and "
                "deserializer= instead",
                serde,
            )
        return {}


def _pickles(serde: object) -> bool:
    """Whether *serde* is what pymemcache pickles with."""
    kind = type(serde)
    return kind.__name__ == "PickleSerde" and kind.__module__.partition(".")[0] == "pymemcache"


def _addresses(url: Any) -> Any:
    if url is None:
        raise ValueError("url must name at least one server, such as 'localhost:11211', not None")
    if isinstance(url, str):
        return [part.strip() for part in url.split(",") if part.strip()]
    # A pair is one address, to pymemcache as to us.
    if isinstance(url, tuple) and len(url) == 2 and isinstance(url[1], int):
        return [url]
    return url
