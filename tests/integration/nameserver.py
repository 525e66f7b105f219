"""A small DNS server on loopback, whose answers and faults a test may change at any time."""

from __future__ import annotations

import enum
import socket
import threading
import time
from collections.abc import Iterable
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

__all__ = ["Fault", "Nameserver"]


class Fault(enum.Enum):
    """What may happen instead of an answer."""

    DROP = "no answer at all"
    DROP_ONCE = "no answer to the first question"
    HOLD = "the answer, when .go is set; .holds tells that it waits for that"
    DELAY = "the answer, after .delay seconds"
    SERVFAIL = "the server failed"
    REFUSED = "not to you"
    NXDOMAIN = "no such name"
    TRUNCATE_UDP = "an empty answer with the TC bit; whole over TCP"
    TRUNCATE = "half of the answer with the TC bit, over TCP as well"
    OTHER_QUESTION = "the answer to another question"
    OTHER_ID = "an answer with another id"
    OTHER_PORT = "the answer, from a port that was not asked"
    GARBAGE = "bytes that are no message"
    CUT = "the first half of the message"


class Nameserver:
    """Answers over UDP and TCP, on a free port of 127.0.0.1.

    It follows CNAMEs in one answer, as a resolver does; with ``lone_aliases`` it gives the
    first of them alone, as a server does that does not know the rest.

    Threads: one for UDP, one for TCP; ``put`` and the attributes may be used in any.
    """

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        """By the type of the question, such as "A"; "*" for any."""
        self.delay = 0.0
        self.holds, self.go = threading.Event(), threading.Event()
        self.lone_aliases = False
        self.asked: list[tuple[str, str, str]] = []
        """Each question: "udp" or "tcp", the name, the type."""
        self._records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._udp, self._tcp = self._sockets()
        self._stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._stranger.bind(("127.0.0.1", 0))
        self._closing = False
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _sockets() -> tuple[socket.socket, socket.socket]:
        """One port for both, which takes a few tries where the second one has it taken."""
        while True:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind(("127.0.0.1", 0))
            try:
                return udp, socket.create_server(udp.getsockname())
            except OSError:
                udp.close()

    @property
    def address(self) -> str:
        host, port = self._udp.getsockname()
        return f"{host}:{port}"

    def put(self, name: str, kind: str, texts: Iterable[str], ttl: int = 60) -> None:
        """From now on, *name* has the records *texts*; none, and there are none."""
        self._records[name.lower(), kind] = (ttl, list(texts))

    def close(self) -> None:
        """Be gone: questions meet a closed port from now on."""
        self._closing = True
        self.go.set()
        host, port = self._udp.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", (host, port))
        with socket.create_connection((host, port)):
            pass
        for thread in self._threads:
            thread.join(5)
        for one in (self._udp, self._tcp, self._stranger):
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._closing:
            self.close()

    # -- The two transports ------------------------------------------------------------

    def _serve_udp(self) -> None:
        while True:
            request, peer = self._udp.recvfrom(65535)
            if self._closing:
                return
            fault, answer = self._reply(request, "udp")
            sender = self._stranger if fault is Fault.OTHER_PORT else self._udp
            if answer is not None:
                sender.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection, connection.makefile("rb") as stream:
                if self._closing:
                    return
                try:
                    request = stream.read(int.from_bytes(stream.read(2), "big"))
                    _, answer = self._reply(request, "tcp") if request else (None, None)
                    if answer is not None:
                        connection.sendall(len(answer).to_bytes(2, "big") + answer)
                except OSError:
                    pass  # who asked has given up

    # -- Answers -----------------------------------------------------------------------

    def _reply(self, request: bytes, transport: str) -> tuple[Fault | None, bytes | None]:
        query = dns.message.from_wire(request)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((transport, name, kind))
        fault = self.faults.get(kind, self.faults.get("*"))
        response = self._answered(query, name, kind)
        match fault:
            case Fault.DROP:
                return fault, None
            case Fault.DROP_ONCE:
                self.faults.clear()
                return fault, None
            case Fault.HOLD:
                self.holds.set()
                self.go.wait(20)
            case Fault.DELAY:
                time.sleep(self.delay)
            case Fault.SERVFAIL | Fault.REFUSED | Fault.NXDOMAIN:
                response.answer.clear()
                response.set_rcode(dns.rcode.from_text(fault.name))
            case Fault.TRUNCATE_UDP if transport == "udp":
                response.answer.clear()
                response.flags |= dns.flags.TC
            case Fault.TRUNCATE:
                response.flags |= dns.flags.TC
            case Fault.OTHER_QUESTION:
                response = self._answered(
                    dns.message.make_query("other.example", question.rdtype, id=query.id),
                    "other.example",
                    kind,
                )
            case Fault.OTHER_ID:
                response.id ^= 1
            case Fault.GARBAGE:
                return fault, b"\xff" * 40
            case Fault.CUT:
                wire = response.to_wire()
                return fault, wire[: len(wire) // 2]
            case _:
                pass
        return fault, response.to_wire(max_size=65535)

    def _answered(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        if not any(known == name for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            ttl, texts = self._records.get((name, kind), (0, []))
            if texts:
                response.answer.append(_rrset(name, ttl, kind, texts))
                break
            ttl, aliases = self._records.get((name, "CNAME"), (0, []))
            if not aliases:
                break
            response.answer.append(_rrset(name, ttl, "CNAME", aliases))
            if self.lone_aliases:
                break
            name = aliases[0].rstrip(".").lower()
        return response


def _rrset(name: str, ttl: int, kind: str, texts: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(f"{name}.", ttl, dns.rdataclass.IN, kind, texts)
