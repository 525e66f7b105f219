"""Opening a connection: every address of a name in turn, TLS, keep-alive. Knows pymemcache."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Any, Final

from pymemcache.client.base import Client, KeepaliveOpts

from tiered.clock import SYSTEM_CLOCK
from tiered.routing.addresses import Address, is_ip_address

__all__ = ["Dialer", "Terms", "has_something_to_say"]

_KEEP_ALIVE: Final = KeepaliveOpts(idle=30, intvl=10, cnt=3)
"""A peer that vanished without a word is found out after a minute."""


@dataclass(frozen=True, slots=True, repr=False)
class Terms:
    """How servers are to be connected to.

    Attributes:
        connect_timeout: seconds for finding the addresses of a name and connecting to one.
        timeout: seconds for sending, and for an answer.
        tls_context: for TLS; ``None`` for plain connections.
        credentials: user and password of a server that was started with ``-Y``.
        longest: bytes of the largest block of data that may be worth reading.
    """

    connect_timeout: float
    timeout: float
    tls_context: ssl.SSLContext | None = None
    credentials: tuple[str, str] | None = None
    longest: int = 1 << 30


class _NamedContext:
    """A TLS context that expects the configured name, whatever address is dialled."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._context = context
        self._name = name

    def wrap_socket(self, plain: socket.socket, *, server_hostname: str) -> ssl.SSLSocket:
        del server_hostname  # the IP address that the name was resolved to
        return self._context.wrap_socket(plain, server_hostname=self._name)


class Dialer:
    """Opens sockets to one server.

    pymemcache tries one address of a name only, so it is given one after another.

    Threads: safe.
    """

    def __init__(self, address: Address, terms: Terms) -> None:
        self._address = address
        self._terms = terms
        context = terms.tls_context
        self._context = None if context is None else _NamedContext(context, address.host)

    def dial(self) -> socket.socket:
        """A connected socket.

        Raises:
            OSError: none of the addresses answers, within the time for connecting.
        """
        ends = SYSTEM_CLOCK.monotonic() + self._terms.connect_timeout
        failure: OSError | None = None
        places = self._places(self._terms.connect_timeout)
        for place, where in enumerate(places):
            left = ends - SYSTEM_CLOCK.monotonic()
            if left <= 0:
                break
            try:
                # A share each: one that does not answer leaves time for those after it.
                return self._connected(where, left / (len(places) - place))
            except OSError as error:
                # That somebody refuses tells that nobody is there only if all do.
                if failure is None or isinstance(failure, ConnectionRefusedError):
                    failure = error
        else:
            if failure is not None:
                raise failure
        raise TimeoutError(f"{self._address} could not be connected to in time")

    def _connected(self, where: str | tuple[str, int], left: float) -> socket.socket:
        client = Client(
            where,
            connect_timeout=left,
            timeout=self._terms.timeout,
            no_delay=not self._address.is_unix,
            socket_keepalive=None if self._address.is_unix else _KEEP_ALIVE,
            tls_context=None if self._address.is_unix else self._context,
        )
        client._connect()
        connected: socket.socket = client.sock
        client.sock = None  # ours now; its owner would close it
        return connected

    def _places(self, timeout: float) -> list[Any]:
        host, port = self._address.host, self._address.port
        if self._address.is_unix:
            return [host]
        if is_ip_address(host):
            return [(host, port)]
        return [(found, port) for found in _resolved(host, port, timeout)]


def _resolved(host: str, port: int, timeout: float) -> list[str]:
    """The IP addresses of *host*, which the system's resolver may take its time for."""
    found: list[str] = []
    failure: list[OSError] = []

    def look() -> None:
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(str(address[0]) for *_, address in known)
        except (OSError, UnicodeError) as error:
            failure.append(error if isinstance(error, OSError) else OSError(str(error)))

    # A thread, since nothing else bounds getaddrinfo; a daemon, since nothing ends it.
    thread = threading.Thread(target=look, name="tiered-resolver", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # there are too many
        raise OSError(f"the name {host!r} cannot be looked up: {error}") from error
    thread.join(timeout)
    if found:
        return found
    raise failure[0] if failure else TimeoutError(f"the name {host!r} was not resolved in time")


def has_something_to_say(idle: socket.socket, poll: select.poll) -> bool:
    """Whether *idle*, which *poll* watches, was closed or says what nobody asked for."""
    if not poll.poll(0):
        return False
    if not isinstance(idle, ssl.SSLSocket):
        return True
    # A readable TLS socket may hold nothing but a session ticket.
    timeout = idle.gettimeout()
    idle.settimeout(0)
    try:
        idle.recv(1)
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        idle.settimeout(timeout)
    return True
