"""Memcached on Amazon ElastiCache: the servers are those that the configuration endpoint names."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import partial
from typing import Any

from tiered.clients.memcached import MemcachedClient
from tiered.routing.addresses import Address, parse_address, parse_addresses
from tiered.routing.discovery import FallbackDiscovery
from tiered.routing.elasticache import ElastiCacheDiscovery
from tiered.routing.endpoint import ask_configuration

__all__ = ["ElastiCacheClient"]


class ElastiCacheClient(MemcachedClient):
    """A :class:`MemcachedClient` that asks an ElastiCache cluster for its nodes.

    The endpoint is asked on first use, and again every minute, off the request path. While
    it does not answer, the nodes that it named last are used.

    Args:
        endpoint: the cluster's configuration endpoint, as an address.
        every: seconds for which its answer is good.
        fallback: servers to use while the endpoint has never answered.
        options: as of :class:`MemcachedClient`; *tls_context*, *connect_timeout* and
            *timeout* are for the endpoint, too.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: as of :class:`MemcachedClient`.
    """

    def __init__(
        self,
        endpoint: str | tuple[str, int] | Address,
        *,
        every: float = 60.0,
        fallback: Iterable[str | tuple[str, int] | Address] | None = None,
        connect_timeout: float = 1.0,
        timeout: float = 0.5,
        tls_context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        self.endpoint = parse_address(endpoint)
        ask = partial(
            ask_configuration,
            self.endpoint,
            connect_timeout=connect_timeout,
            timeout=timeout,
            tls_context=tls_context,
        )
        discovery = ElastiCacheDiscovery(ask, every)
        super().__init__(
            discovery
            if fallback is None
            else FallbackDiscovery(discovery, parse_addresses(fallback)),
            connect_timeout=connect_timeout,
            timeout=timeout,
            tls_context=tls_context,
            **options,
        )

    def __repr__(self) -> str:
        known = ", ".join(map(str, self.addresses)) or "nothing found yet"
        return f"<ElastiCacheClient {self.endpoint}: {known}>"
