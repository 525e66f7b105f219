"""Server addresses as users write them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Address", "is_ip_address", "parse_address", "parse_addresses"]

DEFAULT_PORT = 11211
_RIGHT = "'host', 'host:port', '[ipv6]:port', '/path/to.sock' or a (host, port) pair"


@dataclass(frozen=True, slots=True)
class Address:
    """One server.

    Attributes:
        host: a name or an IP address; for a unix socket, its path.
        port: 1 to 65535; 0 for a unix socket.
    """

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        """Whether this is a unix socket."""
        return not self.port

    @property
    def ring_name(self) -> str:
        """What is hashed to place the server on a ring: as libmemcached writes it."""
        return self.host if self.port == DEFAULT_PORT else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        if self.is_unix:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: Any) -> Address:
    """An address from its text, or from a ``(host, port)`` pair.

    Raises:
        TypeError: neither text nor a pair.
        ValueError: it does not parse; the message says what would.
    """
    if isinstance(text, Address):
        return text
    if isinstance(text, tuple) and len(text) == 2 and isinstance(text[0], str):
        host, port = text
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"address {text!r} has a port that is not an int")
        return _checked(text, host, port)
    if not isinstance(text, str):
        raise TypeError(f"address must be {_RIGHT}, not {text!r}")
    stripped = text.removeprefix("unix:")
    if stripped.startswith("/"):
        return Address(stripped, 0)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"address must be {_RIGHT}, not {text!r}")
        return _checked(text, host, _port(text, rest[1:] if rest else None))
    if text.count(":") > 1:
        raise ValueError(f"address {text!r} looks like IPv6; write it as '[{text}]:port'")
    host, colon, rest = text.partition(":")
    return _checked(text, host, _port(text, rest if colon else None))


def parse_addresses(addresses: Any) -> tuple[Address, ...]:
    """Several addresses, in order; each server once.

    Raises:
        TypeError: not a list or tuple of addresses (a lone string is a frequent slip).
        ValueError: none, one twice, or one that does not parse.
    """
    if isinstance(addresses, (str, bytes)) or not isinstance(addresses, Iterable):
        raise TypeError(f"addresses must be a list such as ['localhost:11211'], not {addresses!r}")
    parsed = tuple(parse_address(address) for address in addresses)
    if not parsed:
        raise ValueError("addresses must name at least one server, not []")
    for address in parsed:
        if parsed.count(address) > 1:
            raise ValueError(f"addresses name {str(address)!r} twice")
    return parsed


def is_ip_address(text: str) -> bool:
    """Whether *text* is an IPv4 or IPv6 address, without a port or brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str, port: str | None) -> int:
    if port is None:
        return DEFAULT_PORT
    if not (port.isascii() and port.isdigit()):
        raise ValueError(f"address {text!r} has the port {port!r}; it must be a number")
    return int(port)


def _checked(text: Any, host: str, port: int) -> Address:
    if not host or any(character.isspace() or character in "/,;" for character in host):
        raise ValueError(f"address must be {_RIGHT}, not {text!r}")
    if not 0 < port < 65536:
        raise ValueError(f"address {text!r} has the port {port}; it must be 1 to 65535")
    return Address(host, port)
