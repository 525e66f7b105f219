"""Where brokers are: ZeroMQ endpoints over TCP and over local sockets."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tiered.routing.addresses import is_ip_address, parse_address

__all__ = ["BusAddress", "parse_bus_address", "parse_bus_addresses"]

_RIGHT: Final = "'tcp://host:port', 'tcp://[ipv6]:port', 'ipc:///path' or 'ipc://@name'"
_MOST_PATH: Final = 107
"""Bytes that the kernel takes for the path of a local socket."""
_WILDCARDS: Final = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class BusAddress:
    """One place where a broker may be.

    Attributes:
        text: the endpoint as it was written.
        host, port: of TCP; "" and 0 for local sockets.
        path: of a local socket; begins with ``@`` for an abstract one, which is no file.
    """

    text: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_wildcard(self) -> bool:
        """Whether it can only be bound, and names no place to connect to."""
        return self.host in _WILDCARDS

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        return is_ip_address(self.host) and ipaddress.ip_address(self.host).is_loopback

    @property
    def lock_path(self) -> str | None:
        """The file to lock while it is bound; ``None`` where binding excludes others by itself."""
        return f"{self.path}.lock" if self.path and not self.path.startswith("@") else None

    def located(self) -> tuple[str, bool]:
        """The endpoint to bind, with a number for a name, and whether it is of IPv6.

        A name is asked for IPv4 first, and by everybody: where it has addresses of both
        kinds, who binds and who connects are to mean the same one.

        Raises:
            OSError: the name has no address, or nobody could tell.
        """
        if not self.port or self.host == "*":
            return self.text, False
        if is_ip_address(self.host):
            return self.text, ":" in self.host
        try:
            found = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_STREAM)
        except socket.gaierror:
            found = socket.getaddrinfo(self.host, self.port, socket.AF_INET6, socket.SOCK_STREAM)
        host = str(found[0][4][0])
        ipv6 = found[0][0] == socket.AF_INET6
        return f"tcp://{f'[{host}]' if ipv6 else host}:{self.port}", ipv6

    def __str__(self) -> str:
        return self.text


def parse_bus_address(text: Any, *, wildcard: bool = False) -> BusAddress:
    """An address from its text.

    Args:
        wildcard: whether ``tcp://*:port``, all addresses of the machine, is right here.

    Raises:
        TypeError: not text.
        ValueError: it does not parse; the message says what would.
    """
    if not isinstance(text, str):
        raise TypeError(f"address must be {_RIGHT}, not {text!r}")
    scheme, separator, rest = text.partition("://")
    if scheme == "ipc" and separator:
        return _local(text, rest)
    if scheme != "tcp" or not separator or rest.startswith("/"):
        raise ValueError(f"address must be {_RIGHT}, not {text!r}")
    if ":" not in rest.rpartition("]")[2]:
        raise ValueError(f"address {text!r} has no port; it must be {_RIGHT}")
    try:
        parsed = parse_address(rest)
    except ValueError as error:
        raise ValueError(f"address must be {_RIGHT}, not {text!r}: {error}") from error
    address = BusAddress(text, parsed.host, parsed.port)
    if address.is_wildcard and not wildcard:
        raise ValueError(
            f"address {text!r} names no machine to connect to; only a broker of its own binds "
            f"all addresses: give the one that the others reach it by"
        )
    return address


def parse_bus_addresses(addresses: Any, *, wildcard: bool = False) -> tuple[BusAddress, ...]:
    """Several addresses, in order; each once.

    Raises:
        TypeError: not a list or tuple of addresses (a lone string is a frequent slip).
        ValueError: none, one twice, or one that does not parse.
    """
    if isinstance(addresses, (str, bytes)) or not isinstance(addresses, Iterable):
        raise TypeError(
            f"addresses must be a list such as ['tcp://10.0.0.1:5555'], not {addresses!r}"
        )
    parsed = tuple(parse_bus_address(address, wildcard=wildcard) for address in addresses)
    if not parsed:
        raise ValueError("addresses must name at least one place for a broker, not []")
    places = [(address.host, address.port, address.path) for address in parsed]
    for address, place in zip(parsed, places, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"addresses name {str(address)!r} twice")
    return parsed


def _local(text: str, path: str) -> BusAddress:
    if not path.startswith(("/", "@")) or path == "@" or "\0" in path:
        raise ValueError(f"address {text!r} must have an absolute path or an @name: {_RIGHT}")
    if path.startswith("/") and path.endswith("/"):
        raise ValueError(f"address {text!r} is a directory; it must name a file there: {_RIGHT}")
    if len(path.encode()) > _MOST_PATH:
        raise ValueError(
            f"address {text!r} has a path of {len(path.encode())} bytes; a local socket's is up "
            f"to {_MOST_PATH}"
        )
    return BusAddress(text, path=path)
