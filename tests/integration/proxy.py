"""A proxy in front of a real memcached, which spoils what passes as a test tells it to."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Self

from tests.integration.peers import Cut
from tests.integration.wire import read_answer, requests_in
from tests.ports import free_port

__all__ = ["Exchange", "Fault", "Pretence", "Proxy", "Sent", "honest"]

Sent = bytes | Cut | Iterable[bytes]
"""What goes to the client: bytes; bytes and then the end of the connection; or pieces."""

Pretence = Callable[[bytes], bytes | None]
"""The answer to a request in the server's place, or ``None`` to have the server asked."""


class Exchange:
    """Requests that came together, and the answer to each; the server is asked when these are.

    Attributes:
        number: counted over all connections, from 0.
        requests: each with its data.
    """

    def __init__(
        self, number: int, requests: tuple[bytes, ...], ask: Callable[[bytes], bytes]
    ) -> None:
        self.number = number
        self.requests = requests
        self._ask = ask
        self._answers: tuple[bytes, ...] | None = None

    @property
    def answers(self) -> tuple[bytes, ...]:
        """One for each request; empty for one that the server does not answer."""
        if self._answers is None:
            self._answers = tuple(self._ask(request) for request in self.requests)
        return self._answers

    @property
    def answer(self) -> bytes:
        """All answers."""
        return b"".join(self.answers)

    def __repr__(self) -> str:
        return f"<Exchange {self.number} {self.requests!r} -> {self._answers!r}>"


Fault = Callable[[Exchange], Sent]
"""What goes wrong. A fault that does not look at the answers keeps the server from asking."""


def honest(exchange: Exchange) -> bytes:
    """No fault."""
    return exchange.answer


class Proxy:
    """Listens on a port of its own for one server; a context manager.

    The text protocol and meta commands pass alike: a request is a line, with the data that
    belongs to it, and where its answer ends the server tells by what it says to ``mn``.

    Args:
        address: ``host:port`` of a memcached that knows ``mn`` (1.6 or later).
        pretend: stands in for the server all the time.

    Attributes:
        fault: what goes wrong at present.
        accepted: connections so far.
        exchanges: all that passed.

    Threads: one for each connection; faults are called in these.
    """

    def __init__(self, address: str, pretend: Pretence | None = None) -> None:
        self._upstream = address
        self._pretend = pretend
        self._port = 0
        self._listener: socket.socket | None = None
        self._numbers = itertools.count()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self.fault: Fault = honest
        self.accepted = 0
        self.exchanges: list[Exchange] = []

    @property
    def address(self) -> str:
        """``host:port`` to give to a client."""
        return f"127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[bytes]:
        """All that were sent so far."""
        return [request for exchange in self.exchanges for request in exchange.requests]

    def say(self, words: bytes) -> None:
        """Send *words*, which nobody asked for, over all connections."""
        for connection in list(self._open):
            connection.sendall(words)

    def refuse(self) -> None:
        """Refuse new connections, and end those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.hang_up()

    def listen(self) -> None:
        """Take connections, again; on the same port."""
        self._port = self._port or free_port()
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._run(self._accept, self._listener)

    def hang_up(self) -> None:
        """End all connections."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.fault = honest
        self.refuse()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the proxy is stuck"
        assert self._errors == []

    def _run(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        def run() -> None:
            try:
                work(connection)
            except OSError:
                pass  # somebody hung up
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            self.accepted += 1
            self._open.add(connection)
            self._run(self._serve, connection)

    def _serve(self, client: socket.socket) -> None:
        host, _, port = self._upstream.rpartition(":")
        try:
            with client, socket.create_connection((host, int(port)), 10) as server:
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pass_on(client, server)
        finally:
            self._open.discard(client)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        buffer = bytearray()
        with server.makefile("rb") as lines:

            def ask(request: bytes) -> bytes:
                pretended = self._pretend(request) if self._pretend else None
                if pretended is not None:
                    return pretended
                server.sendall(request + b"mn\r\n")
                return read_answer(lines, request)

            while received := client.recv(1 << 20):
                buffer += received
                requests = tuple(requests_in(buffer))
                if not requests:
                    continue
                exchange = Exchange(next(self._numbers), requests, ask)
                self.exchanges.append(exchange)
                if not _deliver(client, self.fault(exchange)):
                    return


def _deliver(client: socket.socket, sent: Sent) -> bool:
    """Send it; whether the connection goes on."""
    if isinstance(sent, Cut):
        client.sendall(sent.data)
        return False
    for piece in [sent] if isinstance(sent, bytes) else sent:
        client.sendall(piece)
    return True
