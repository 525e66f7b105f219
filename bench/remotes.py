"""Clients of memcached, ours and others': how each is made and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bench.loops import TTL
from bench.peers import peer
from bench.servers import pair
from tiered import MemcachedClient

__all__ = ["MODULES", "Remote", "compressing", "remotes"]

MODULES = ("pymemcache", "pylibmc", "memcache", "meta_memcache", "dogpile.cache")

_WORTH_COMPRESSING = 1024


@dataclass(frozen=True)
class Remote:
    """A client. Its writes return when the server has answered.

    Attributes:
        get_many, put_many: ``None`` if it has no such call, or is not asked for it.
    """

    name: str
    get: Callable[[str], Any]
    put: Callable[[str, bytes], Any]
    get_many: Callable[[Sequence[str]], Mapping[Any, Any]] | None = None
    put_many: Callable[[Mapping[str, bytes]], Any] | None = None


def remotes(addresses: Sequence[str]) -> list[Remote]:
    """All clients that are installed, on these servers."""
    return [
        *_ours(addresses),
        *_pymemcache(addresses, compressed=False),
        *_pylibmc(addresses, compressed=False),
        *_python_memcached(addresses, compressed=False),
        *_meta_memcache(addresses),
        *_dogpile(addresses),
    ]


def compressing(addresses: Sequence[str]) -> list[Remote]:
    """Clients that compress what is large, and the same where they do not."""
    return [
        _our("tiered, signed, compressed", MemcachedClient(addresses, checksum_key="bench")),
        _our(
            "tiered, signed",
            MemcachedClient(addresses, checksum_key="bench", compress=False, prefix="plain/"),
        ),
        *_pymemcache(addresses, compressed=True),
        *_pymemcache(addresses, compressed=False),
        *_pylibmc(addresses, compressed=True),
        *_pylibmc(addresses, compressed=False),
        *_python_memcached(addresses, compressed=True),
        *_python_memcached(addresses, compressed=False),
        *(replace(one, name=f"{one.name}, compressed") for one in _meta_memcache(addresses)),
    ]


def _ours(addresses: Sequence[str]) -> list[Remote]:
    signed = MemcachedClient(addresses, checksum_key="bench", prefix="signed/")
    raw = MemcachedClient(addresses, serializer="raw", prefix="raw/")
    return [_our("tiered, signed", signed), _our("tiered, raw, unsigned", raw)]


def _our(name: str, client: MemcachedClient) -> Remote:
    return Remote(
        name,
        client.get,
        lambda key, value: client.put(key, value, TTL),
        client.get_multi,
        lambda values: client.put_multi(values, TTL),
    )


def _pymemcache(addresses: Sequence[str], *, compressed: bool) -> list[Remote]:
    if peer("pymemcache") is None:
        return []
    from pymemcache.client.base import Client, PooledClient
    from pymemcache.client.hash import HashClient
    from pymemcache.serde import CompressedSerde

    options: dict[str, Any] = {"no_delay": True}
    if compressed:
        options["serde"] = CompressedSerde(min_compress_len=_WORTH_COMPRESSING)
    made: dict[str, Any]
    if len(addresses) > 1:
        made = {"pymemcache HashClient": HashClient([*map(pair, addresses)], **options)}
    else:
        made = {
            "pymemcache Client": Client(pair(addresses[0]), **options),
            "pymemcache PooledClient": PooledClient(pair(addresses[0]), **options),
        }
    return [
        Remote(
            _title(name, compressed),
            client.get,
            partial(client.set, expire=TTL, noreply=False),
            client.get_many,
            partial(client.set_many, expire=TTL, noreply=False),
        )
        for name, client in made.items()
    ]


def _pylibmc(addresses: Sequence[str], *, compressed: bool) -> list[Remote]:
    pylibmc = peer("pylibmc")
    if pylibmc is None:
        return []
    behaviors = {"tcp_nodelay": True, "ketama_weighted": True}
    client = pylibmc.Client(list(addresses), behaviors=behaviors)
    options = _lengths(compressed)
    return [
        Remote(
            _title("pylibmc", compressed),
            client.get,
            partial(client.set, time=TTL, **options),
            client.get_multi,
            partial(client.set_multi, time=TTL, **options),
        )
    ]


def _python_memcached(addresses: Sequence[str], *, compressed: bool) -> list[Remote]:
    memcache = peer("memcache")
    if memcache is None:
        return []
    client = memcache.Client(list(addresses))
    options = _lengths(compressed)
    return [
        Remote(
            _title("python-memcached", compressed),
            client.get,
            partial(client.set, time=TTL, **options),
            client.get_multi,
            partial(client.set_multi, time=TTL, **options),
        )
    ]


def _meta_memcache(addresses: Sequence[str]) -> list[Remote]:
    """It compresses from 128 bytes on, and has no call that writes several keys."""
    meta = peer("meta_memcache")
    if meta is None:
        return []
    client = meta.CacheClient.cache_client_from_servers(
        servers=[meta.ServerAddress(*pair(address)) for address in addresses],
        # It is the kernel's receive buffer, too. Answers that are larger than the 4 KB that it is
        # by default stop for 200 ms, until the server dares to send again.
        connection_pool_factory_fn=meta.connection_pool_factory_builder(read_buffer_size=65536),
    )
    return [Remote("meta-memcache", client.get, partial(client.set, ttl=TTL), client.multi_get)]


def _dogpile(addresses: Sequence[str]) -> list[Remote]:
    dogpile = peer("dogpile.cache")
    if dogpile is None:
        return []
    region = dogpile.make_region().configure(
        "dogpile.cache.pymemcache",
        expiration_time=TTL,
        arguments={"url": [*map(pair, addresses)]},
    )
    return [Remote("dogpile.cache, pymemcache", region.get, region.set)]


def _title(name: str, compressed: bool) -> str:
    return f"{name}, compressed" if compressed else name


def _lengths(compressed: bool) -> dict[str, int]:
    return {"min_compress_len": _WORTH_COMPRESSING} if compressed else {}
