"""A tiny memcached whose answers a test may spoil, and plain access to a real one."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Self


class Cut(NamedTuple):
    """An answer of which only *data* arrives, because the connection ends there."""

    data: bytes


Spoil = Callable[[bytes, bytes], bytes | Cut]


def honest(_request: bytes, answer: bytes) -> bytes:
    return answer


class Peer:
    """Keeps items like a server; ``spoil(request, answer)`` makes what is really sent.

    *request* is the line of the command. Threads: one for each connection.
    """

    def __init__(self, spoil: Spoil = honest) -> None:
        self.spoil = spoil
        self.items: dict[bytes, tuple[bytes, int]] = {}
        self.accepted = 0
        self.requests: list[bytes] = []
        self._serials = itertools.count(1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the peer is stuck"

    def hang_up(self) -> None:
        """End all connections, as a server does that is restarted."""
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was faster

    def rewrite(self, key: bytes, data: bytes | None = None) -> None:
        """What another client does that writes *key*: *data*, or what is there once more."""
        if data is None and key not in self.items:
            return
        self.items[key] = (self.items[key][0] if data is None else data, next(self._serials))

    def say(self, words: bytes) -> None:
        """Send *words*, which nobody asked for, over all connections."""
        for connection in self._open:
            connection.sendall(words)

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # Or unasked words would wait for the client to acknowledge the answer before.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self._open.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                while line := lines.readline():
                    request = line.strip()
                    answer = self._answer(request, lines)
                    self.requests.append(request)
                    sent = self.spoil(request, answer)
                    connection.sendall(sent.data if isinstance(sent, Cut) else sent)
                    if isinstance(sent, Cut):
                        return
            except OSError:
                return

    def _answer(self, request: bytes, lines: BinaryIO) -> bytes:
        command, *words = request.split()
        if command == b"gets":
            found = [(key, *self.items[key]) for key in words if key in self.items]
            values = [
                b"VALUE %b 0 %d %d\r\n%b\r\n" % (key, len(data), serial, data)
                for key, data, serial in found
            ]
            return b"".join(values) + b"END\r\n"
        if command == b"delete":
            return b"NOT_FOUND\r\n" if self.items.pop(words[0], None) is None else b"DELETED\r\n"
        if command == b"stats":
            return b"STAT bytes 5\r\nSTAT limit_maxbytes 64\r\nEND\r\n"
        key, data = words[0], lines.read(int(words[3]) + 2)[:-2]
        held = self.items.get(key)
        if (command == b"add" and held) or (
            command == b"cas" and (held is None or held[1] != int(words[4]))
        ):
            return b"NOT_STORED\r\n" if command == b"add" else b"EXISTS\r\n"
        self.items[key] = (data, next(self._serials))
        if command == b"cas" and words[2] == b"-1":
            del self.items[key]
        return b"STORED\r\n"


class Raw:
    """Does to a server what no client of ours does."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 5)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def _ask(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        return self._file.readline()

    def get(self, wire: str) -> bytes | None:
        line = self._ask(f"mg {wire} v\r\n".encode())
        if line == b"EN\r\n":
            return None
        data = self._file.read(int(line.split()[1]) + 2)
        return data[:-2]

    def set(self, wire: str, data: bytes) -> None:
        answer = self._ask(f"set {wire} 0 0 {len(data)}\r\n".encode() + data + b"\r\n")
        assert answer == b"STORED\r\n"

    def life(self, wire: str) -> int:
        """Seconds that the server will keep the item; -1 for always."""
        answer = self._ask(f"mg {wire} t\r\n".encode()).split()
        assert answer[0] == b"HD"
        return int(answer[1].removeprefix(b"t"))

    def figure(self, name: str) -> int:
        """One of the server's own counters."""
        line = self._ask(b"stats\r\n")
        found = 0
        while line != b"END\r\n":
            _, known, value = line.decode().split()
            if known == name:
                found = int(value)
            line = self._file.readline()
        return found
