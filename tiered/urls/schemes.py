"""The clients that a URL can name, with their options: one table, of which each row is a scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tiered.clients.base import CacheClient
from tiered.codec.compress import COMPRESSORS
from tiered.codec.serialize import SERIALIZERS
from tiered.stores.choose import POLICY_NAMES
from tiered.typing import Clock
from tiered.urls.options import (
    COUNT,
    COUNTS,
    FLAG,
    FLAGS,
    NUMBER,
    SECRET,
    SECRETS,
    SIZE,
    TEXT,
    TEXTS,
    Option,
    number,
    one_of,
)
from tiered.urls.texts import listed, unquoted

__all__ = ["COMMON", "SCHEMES", "Scheme"]

Arguments: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of client.

    Attributes:
        name: what a part begins with.
        form: how a part is written, for people.
        make: the client of what follows the name, encoded as it is in the URL, and of arguments.
            Raises what its constructor raises.
        options: by their names in URLs.
    """

    name: str
    form: str
    make: Callable[[str, Arguments, Clock], CacheClient]
    options: Mapping[str, Option]


# What makes a client imports it: a URL that names no server needs no library for servers.


def _inproc(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.clients.inproc import InprocCacheClient

    plain = unquoted(body)
    size = number(plain)
    if size is None:
        raise ValueError(f"the size must be a number of entries, such as 10000, not {plain!r}")
    return InprocCacheClient(size, clock=clock, **arguments)


def _null(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.clients.null import NullCacheClient

    if body:
        raise ValueError(f"null: must stand alone, without {body!r}")
    client = NullCacheClient()
    client.clock = clock
    return client


def _files(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.clients.files import FilesCacheClient

    if body.startswith(("~", "/~")):
        raise ValueError("~ stands for nobody's home here; write the whole path, files:///path")
    path = unquoted(body)
    if not path.startswith("/") or not path.strip("/"):
        raise ValueError(
            f"the path must be that of a directory, from the root: files:///path, not {path!r}"
        )
    if "size_bytes" not in arguments:
        raise ValueError("size must be given: what the files may take together, such as size=1GB")
    return FilesCacheClient(arguments.pop("size_bytes"), path, clock=clock, **arguments)


def _memcached(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    return _fleet(listed(body), arguments, clock)


def _elasticache(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.clients.elasticache import ElastiCacheClient

    return ElastiCacheClient(unquoted(body), clock=clock, **arguments)


def _dns(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.routing.addresses import parse_address
    from tiered.routing.dns import DnsDiscovery

    servers = parse_address(unquoted(body))
    asking, arguments = _asking(arguments)
    return _fleet(DnsDiscovery(servers.host, servers.port, **asking), arguments, clock)


def _srv(body: str, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.routing.dns import SrvDiscovery

    asking, arguments = _asking(arguments)
    return _fleet(SrvDiscovery(unquoted(body), **asking), arguments, clock)


def _fleet(servers: Any, arguments: Arguments, clock: Clock) -> CacheClient:
    from tiered.clients.memcached import MemcachedClient

    return MemcachedClient(servers, clock=clock, **arguments)


_ASKING: Final = {"dns_timeout": "timeout", "family": "family", "nameservers": "nameservers"}


def _asking(arguments: Arguments) -> tuple[Arguments, Arguments]:
    """What of *arguments* is for the discovery, under its names; and the rest."""
    asking = {_ASKING[name]: value for name, value in arguments.items() if name in _ASKING}
    return asking, {name: value for name, value in arguments.items() if name not in _ASKING}


def _options(*options: Option) -> dict[str, Option]:
    return {option.name: option for option in options}


COMMON: Final = _options(
    Option("ttl_fraction", NUMBER, "the tier's share of a value's life, above 0 and up to 1"),
    Option("namespace", TEXT, "in the last part: the namespace of the whole"),
)
"""What any part may have. Of the tiers, and not for the constructor of a client."""

_KEYS: Final = Option("checksum_key", SECRETS, "signs values; the newest first")
_SERIALIZER: Final = Option("serializer", one_of(SERIALIZERS), "how values become bytes")
_STRICT: Final = Option("strict", FLAG, "raise instead of a miss when the storage fails")

_CLIENT: Final = _options(
    _KEYS,
    _SERIALIZER,
    Option("compress", one_of(COMPRESSORS, FLAGS), "large values, by which method"),
    Option("compress_from", SIZE, "from which size on"),
    Option("max_value_size", SIZE, "of a serialised value"),
    Option("prefix", TEXT, "before each key on the server"),
    Option("connect_timeout", NUMBER, "seconds"),
    Option("timeout", NUMBER, "seconds, of sending, and of each 256 KB of an answer"),
    Option("pool_size", COUNT, "connections to each server"),
    Option("pool_timeout", NUMBER, "seconds to wait for one of them"),
    Option("username", TEXT, "for servers that were started with -Y"),
    Option("password", SECRET, "of that user"),
    _STRICT,
)
_DNS: Final = _options(
    Option("nameservers", TEXTS, "IP addresses, instead of those of the machine"),
    Option("dns_timeout", NUMBER, "seconds for the questions to name servers"),
)

SCHEMES: Final = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "inproc",
            "inproc:ENTRIES",
            _inproc,
            _options(Option("policy", one_of(POLICY_NAMES), "what leaves when it is full")),
        ),
        Scheme(
            "files",
            "files:///PATH?size=BYTES",
            _files,
            _options(
                Option("size", SIZE, "what the files may take; must be given", "size_bytes"),
                _KEYS,
                _SERIALIZER,
                Option("fsync", FLAG, "wait for the disk on each write"),
                _STRICT,
            ),
        ),
        Scheme(
            "memcached",
            "memcached://SERVER,SERVER",
            _memcached,
            {**_CLIENT, **_options(Option("weights", COUNTS, "the share of each server"))},
        ),
        Scheme(
            "elasticache",
            "elasticache://ENDPOINT",
            _elasticache,
            {
                **_CLIENT,
                **_options(
                    Option("every", NUMBER, "seconds between two questions to the endpoint"),
                    Option("fallback", TEXTS, "servers until it has answered"),
                ),
            },
        ),
        Scheme(
            "memcached+dns",
            "memcached+dns://NAME:PORT",
            _dns,
            {
                **_CLIENT,
                **_DNS,
                **_options(
                    Option("family", one_of(("ipv4", "ipv6", "any")), "of addresses to use")
                ),
            },
        ),
        Scheme("memcached+srv", "memcached+srv://NAME", _srv, {**_CLIENT, **_DNS}),
        Scheme("null", "null:", _null, {}),
    )
}
"""All schemes, by their names."""
