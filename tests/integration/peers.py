"""A tiny memcached whose answers a test may spoil, and plain access to a real one."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Self


class Cut(NamedTuple):
    """An answer of which only *data* arrives, because the connection ends there."""

    data: bytes


Spoil = Callable[[bytes, bytes], bytes | Cut]


def honest(_request: bytes, answer: bytes) -> bytes:
    return answer


FIXED: dict[bytes, bytes] = {
    b"stats": b"STAT bytes 5\r\nSTAT limit_maxbytes 64\r\nEND\r\n",
}


class Peer:
    """Keeps items like a server, in the meta commands or only the old ones.

    ``spoil(request, answer)`` makes what is really sent; *request* is the line of the
    command. Threads: one for each connection.
    """

    def __init__(
        self,
        spoil: Spoil = honest,
        *,
        speaks_meta: bool = True,
        listener: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.spoil = spoil
        self.speaks_meta = speaks_meta
        self.items: dict[bytes, tuple[bytes, int]] = {}
        self.stubs: set[bytes] = set()
        self.flags: dict[bytes, bytes] = {}
        self.accepted = 0
        self.requests: list[bytes] = []
        self._serials = itertools.count(1)
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        name = self._listener.getsockname()
        if self._listener.family is socket.AF_UNIX:
            return str(name)
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

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
            if connection.family is not socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self._open.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        if self._tls is not None:
            self._open.remove(connection)
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return  # the client does not like us
            self._open.append(connection)
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
        if command in FIXED:
            return FIXED[command]
        if command == b"version":
            return b"VERSION 1.6.18\r\n" if self.speaks_meta else b"VERSION 1.4.33\r\n"
        if command.startswith(b"m") and not self.speaks_meta:
            return b"ERROR\r\n"
        if command == b"mn":
            return b"MN\r\n"
        if command.startswith(b"m"):
            return self._meta(command, words[0], words[1:], lines)
        if command in (b"get", b"gets"):
            return self._read(words, serials=command == b"gets")
        if command == b"touch":
            return b"TOUCHED\r\n" if words[0] in self.items else b"NOT_FOUND\r\n"
        if command == b"delete":
            return b"NOT_FOUND\r\n" if self.items.pop(words[0], None) is None else b"DELETED\r\n"
        data = lines.read(int(words[3]) + 2)[:-2]
        token = int(words[4]) if command == b"cas" else None
        if command == b"append":
            data = self.items[words[0]][0] + data if words[0] in self.items else data
        mode = {b"add": b"E", b"append": b"A"}.get(command, b"S")
        outcome = self._write(words[0], data, mode, token, expired=words[2] == b"-1")
        if outcome == b"HD" and command != b"append":
            self.flags[words[0]] = words[1]
        return {b"HD": b"STORED", b"NS": b"NOT_STORED", b"EX": b"EXISTS", b"NF": b"NOT_FOUND"}[
            outcome
        ] + b"\r\n"

    def _read(self, keys: list[bytes], *, serials: bool) -> bytes:
        answer = b""
        for key in keys:
            if key in self.items:
                data, serial = self.items[key]
                flags = self.flags.get(key, b"0")
                head = b"VALUE %b %b %d" % (key, flags, len(data)) + (b" %d" % serial) * serials
                answer += head + b"\r\n" + data + b"\r\n"
        return answer + b"END\r\n"

    def _write(
        self, key: bytes, data: bytes, mode: bytes, token: int | None, *, expired: bool = False
    ) -> bytes:
        held = self.items.get(key)
        if (mode == b"E" and held) or (mode == b"A" and not held):
            return b"NS"
        if token is not None and held is None:
            return b"NF"
        if token is not None and held is not None and held[1] != token:
            return b"EX"
        self.items[key] = (data, next(self._serials))
        self.stubs.discard(key)
        self.flags.pop(key, None)
        if expired:
            del self.items[key]
        return b"HD"

    def _meta(self, command: bytes, key: bytes, flags: list[bytes], lines: BinaryIO) -> bytes:
        data = lines.read(int(flags.pop(0)) + 2)[:-2] if command == b"ms" else b""
        given = {flag[:1]: flag[1:] for flag in flags}
        opaque = b" O" + given[b"O"] if b"O" in given else b""
        token = int(given[b"C"]) if b"C" in given else None
        if command == b"mg":
            return self._meta_get(key, given, opaque)
        if command == b"ms":
            if given.get(b"M") == b"A" and key in self.items:
                data = self.items[key][0] + data
            outcome = self._write(key, data, given.get(b"M", b"S"), token)
        elif key not in self.items:
            outcome = b"NF"
        elif token is not None and self.items[key][1] != token:
            outcome = b"EX"
        else:
            del self.items[key]
            self.stubs.discard(key)
            outcome = b"HD"
        return b"" if b"q" in given and outcome == b"HD" else outcome + opaque + b"\r\n"

    def _meta_get(self, key: bytes, given: dict[bytes, bytes], opaque: bytes) -> bytes:
        won = key not in self.items and b"N" in given
        if won:
            self._write(key, b"", b"S", None)
            self.stubs.add(key)
        if key not in self.items:
            return b"EN" + opaque + b"\r\n"
        data, serial = self.items[key]
        told = {b"c": b" c%d" % serial, b"s": b" s%d" % len(data), b"t": b" t-1"}
        line = b"".join(told[flag] for flag in given if flag in told) + opaque
        line += b" W" if won else b" Z" if key in self.stubs else b""
        if b"v" in given:
            return b"VA %d" % len(data) + line + b"\r\n" + data + b"\r\n"
        return b"HD" + line + b"\r\n"


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
