"""A question to an ElastiCache configuration endpoint, over a connection of its own.

Asked once a minute or so, beside the clients' traffic, so it needs no pool. Nothing that the
endpoint does takes longer than it may: an answer in drips is cut off like none at all.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Final, TypeVar

from tiered.clock import SYSTEM_CLOCK
from tiered.errors import DiscoveryError
from tiered.routing.addresses import Address
from tiered.routing.elasticache import expected_length
from tiered.validation import check_number

__all__ = ["ask_configuration"]

T = TypeVar("T")

_VERSION: Final = re.compile(rb"VERSION ([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})[!-~]{0,80}")
_KNOWS_CONFIG: Final = (1, 4, 14)
"""The first version with a command for it; before, it was read as an item."""

_LONGEST_LINE: Final = 256
_CHUNK: Final = 65536


def ask_configuration(
    address: Address,
    *,
    connect_timeout: float,
    timeout: float,
    tls_context: ssl.SSLContext | None = None,
) -> bytes:
    """The endpoint's reply, whole, for :func:`tiered.routing.elasticache.parse_configuration`.

    The addresses of its name are tried in turn, until one answers.

    Args:
        address: of the endpoint; its host name is what a certificate must be for.
        connect_timeout: seconds for each address to be connected, TLS included.
        timeout: seconds for the whole exchange with each.
        tls_context: for endpoints that want TLS.

    Raises:
        DiscoveryError: none of them answered in time, or with a configuration.
        TypeError, ValueError: an argument that can never be right.

    Threads: safe. Blocks; resolving the name takes as long as the system lets it.
    """
    _check_seconds("connect_timeout", connect_timeout)
    _check_seconds("timeout", timeout)
    if address.is_unix:
        raise ValueError(f"address must have a host and a port, not {str(address)!r}")
    failures: list[str] = []
    for family, where in _places(address):
        try:
            with closing(_Connection(family, connect_timeout)) as connection:
                connection.open(where, address.host, tls_context)
                connection.allow(timeout)
                return _exchange(connection)
        except (DiscoveryError, OSError) as error:
            failures.append(f"{where[0]}: {error}")
    raise DiscoveryError(f"the endpoint {address} gives no configuration: {'; '.join(failures)}")


def _check_seconds(name: str, seconds: float) -> None:
    check_number(name, seconds, low=0.001, hint="a number of seconds, 0.001 or more")


def _places(address: Address) -> list[tuple[int, Any]]:
    """The socket addresses of a name, each with its family, each once."""
    try:
        infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DiscoveryError(f"the endpoint {address} has no addresses: {error}") from error
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in infos))


def _exchange(connection: _Connection) -> bytes:
    connection.send(b"version\r\n")
    if _version(connection.line()) >= _KNOWS_CONFIG:
        connection.send(b"config get cluster\r\n")
    else:
        connection.send(b"get AmazonElastiCache:cluster\r\n")
    reply = bytearray()
    length = None
    while length is None or len(reply) < length:
        reply += connection.receive()
        if length is None:
            length = expected_length(bytes(reply))
    return bytes(reply[:length])


def _version(line: bytes) -> tuple[int, ...]:
    match = _VERSION.fullmatch(line)
    if match is None:
        raise DiscoveryError(f"it answers {line[:80]!r} when asked for its version")
    return tuple(int(number) for number in match.groups())


class _Connection:
    """A socket with a time within which all that it does must be done.

    Raises ``OSError`` when it fails, or the time is over.
    """

    def __init__(self, family: int, seconds: float) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        """So much time from now on."""
        self._deadline = SYSTEM_CLOCK.monotonic() + seconds

    def close(self) -> None:
        self._socket.close()

    def open(self, where: Any, host: str, tls_context: ssl.SSLContext | None) -> None:
        """Connect to *where*, and encrypt for *host* if there is a context."""
        plain = self._socket
        try:
            plain.connect(where)
        except BlockingIOError:
            self._wait(select.POLLOUT)
            failure = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                raise OSError(failure, os.strerror(failure)) from None
        if tls_context is not None:
            encrypted = tls_context.wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False
            )
            self._socket = encrypted
            self._patiently(encrypted.do_handshake, select.POLLIN)

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        while data:
            data = data[self._patiently(partial(self._socket.send, data), select.POLLOUT) :]

    def receive(self) -> bytes:
        """What has come, at least a byte."""
        data = self._patiently(partial(self._socket.recv, _CHUNK), select.POLLIN)
        if not data:
            raise ConnectionError("it closed the connection before its answer was whole")
        return data

    def line(self) -> bytes:
        """A line, without its end, which has to be all that comes."""
        data = b""
        while True:
            data += self.receive()
            line, newline, more = data.partition(b"\r\n")
            if more or len(data) > _LONGEST_LINE:
                raise DiscoveryError(f"it answers {data[:80]!r}, which is more than a line")
            if newline:
                return line

    def _patiently(self, operation: Callable[[], T], usual: int) -> T:
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                event = select.POLLIN
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            except BlockingIOError:
                event = usual
            self._wait(event)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll(self._left() * 1000)
        self._left()

    def _left(self) -> float:
        left = self._deadline - SYSTEM_CLOCK.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left
