"""What can go wrong between a client and its server."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.integration.peers import Cut
from tests.integration.proxy import Exchange, Fault, Proxy, Sent, honest
from tiered.clients.memcached import MemcachedClient

__all__ = [
    "FAULTS",
    "STALLS",
    "Endless",
    "Frozen",
    "at",
    "cut",
    "drip",
    "flipped",
    "impatient",
    "instead",
    "late",
]

_VALUE: Final = re.compile(rb"(?:VALUE \S+ \d+|VA) (\d+)[^\n]*\n")
_KEY: Final = re.compile(rb"(?<=^VALUE )\S+|(?<= k)\S+", re.MULTILINE)
_OPAQUE: Final = re.compile(rb"(?<= O)\S+")


@contextmanager
def impatient(client: MemcachedClient, seconds: float) -> Iterator[None]:
    """For this block, *client* waits so long for an answer.

    Where nothing goes wrong it has its usual patience: a machine that stalls must not look like
    a server that does.
    """
    servers = client._servers.fleet.servers
    usual = [server.pool._connect()._terms.timeout for server in servers]
    for server in servers:
        _wait_for(server, seconds)
    try:
        yield
    finally:
        for server, timeout in zip(servers, usual, strict=True):
            _wait_for(server, timeout)


def _wait_for(server: Any, seconds: float) -> None:
    """From now on."""
    terms = server.pool._connect()._terms  # one for all servers of a client
    object.__setattr__(terms, "timeout", seconds)  # of connections that are made
    for connection in list(server.pool._idle):
        if connection._socket is not None:
            connection.stream._timeout = seconds
            connection._socket.settimeout(seconds)


def at(place: int, fault: Fault) -> Fault:
    """*fault* in one exchange only: the one *place* after this was made."""
    numbers = itertools.count()
    return lambda exchange: (fault if next(numbers) == place else honest)(exchange)


def cut(length: int) -> Fault:
    """The connection ends after *length* bytes of the answer."""
    return lambda exchange: Cut(exchange.answer[:length])


def unasked(exchange: Exchange) -> Sent:
    """The connection ends, and the server has seen nothing."""
    return Cut(b"")


def instead(line: bytes) -> Fault:
    """The server sees nothing; *line* is the answer to each request."""
    return lambda exchange: line * len(exchange.requests)


def garbage(words: bytes) -> Fault:
    """*words* come before the answer."""
    return lambda exchange: words + exchange.answer


def reversed_answers(exchange: Exchange) -> Sent:
    """The answers to requests that came together, in the other order."""
    return b"".join(reversed(exchange.answers))


def swapped_data(exchange: Exchange) -> Sent:
    """The first and the last value of an answer, each under the other's name."""
    answer = exchange.answer
    found = list(_VALUE.finditer(answer))
    if len(found) < 2:
        return answer
    first, last = found[0], found[-1]
    ends = [one.end() + int(one[1]) for one in (first, last)]
    data = [answer[one.end() : end] for one, end in zip((first, last), ends, strict=True)]
    heads = [
        answer[one.start() : one.start(1)] + one_length + answer[one.end(1) : one.end()]
        for one, one_length in zip((first, last), (last[1], first[1]), strict=True)
    ]
    between, after = answer[ends[0] : last.start()], answer[ends[1] :]
    return b"".join((answer[: first.start()], heads[0], data[1], between, heads[1], data[0], after))


def repeated(proxy: Proxy) -> Fault:
    """The answer to what was asked before, over whatever connection."""

    def fault(exchange: Exchange) -> Sent:
        before = proxy.exchanges[-2].answer
        return before if exchange.answer else b""

    return fault


def twice(exchange: Exchange) -> Sent:
    """The answer, and the answer."""
    return exchange.answer * 2


def drip(seconds: float) -> Fault:
    """A byte at a time, *seconds* apart."""

    def pieces(answer: bytes) -> Iterator[bytes]:
        for place in range(len(answer)):
            yield answer[place : place + 1]
            time.sleep(seconds)

    return lambda exchange: pieces(exchange.answer)


def late(seconds: float) -> Fault:
    """The whole answer, after *seconds*."""

    def fault(exchange: Exchange) -> Sent:
        answer = exchange.answer
        time.sleep(seconds)
        return answer

    return fault


class Frozen:
    """No answer until :meth:`thaw`; the server does its part at once."""

    def __init__(self) -> None:
        self._thawed = threading.Event()

    def thaw(self) -> None:
        """Let all answers go."""
        self._thawed.set()

    def __call__(self, exchange: Exchange) -> Sent:
        answer = exchange.answer
        assert self._thawed.wait(20)
        return answer


def replaced(pattern: re.Pattern[bytes], words: bytes) -> Fault:
    """What *pattern* finds in the first lines of answers becomes *words*."""

    def fault(exchange: Exchange) -> Sent:
        return b"".join(_in_first_line(answer, pattern, words) for answer in exchange.answers)

    return fault


def _in_first_line(answer: bytes, pattern: re.Pattern[bytes], words: bytes) -> bytes:
    line, end, rest = answer.partition(b"\r\n")
    return pattern.sub(words, line) + end + rest


def flipped(place: int) -> Fault:
    """One byte of the answer is another one: counted from its end, if *place* is negative."""

    def fault(exchange: Exchange) -> Sent:
        answer = bytearray(exchange.answer)
        if -len(answer) <= place < len(answer):
            answer[place] ^= 1
        return bytes(answer)

    return fault


class Endless:
    """A line that does not end, for a client that would read it for ever.

    Attributes:
        bytes: taken so far.
    """

    LIMIT: Final = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, exchange: Exchange) -> Sent:
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        piece = b"VALUE " * 10_000
        while self.bytes < self.LIMIT:
            yield piece
            self.bytes += len(piece)
        raise ConnectionError("it would have gone on")


STALLS: Final[dict[str, Callable[[Proxy], Fault]]] = {
    "late": lambda proxy: late(0.4),
    "slow drip": lambda proxy: drip(0.004),
}
"""Faults that take time; of a client whose timeout is shorter."""

FAULTS: Final[dict[str, Callable[[Proxy], Fault]]] = {
    "cut at once": lambda proxy: cut(0),
    "cut in the first line": lambda proxy: cut(3),
    "cut in the last line": lambda proxy: lambda exchange: Cut(exchange.answer[:-1]),
    "cut in the middle": lambda proxy: lambda e: Cut(e.answer[: len(e.answer) // 2]),
    "closed unasked": lambda proxy: unasked,
    "empty line": lambda proxy: garbage(b"\r\n"),
    "garbage": lambda proxy: garbage(b"\xff\x00 HELLO\r\n"),
    "garbage without an end": lambda proxy: garbage(b"\x00" * 100),
    "a long line": lambda proxy: lambda exchange: Cut(b"VALUE " * 100_000),
    "another value": lambda proxy: garbage(b"VALUE another 0 5 1\r\nvalue\r\n"),
    "a length that is none": lambda proxy: garbage(b"VALUE k 0 x 1\r\nVA -1 c1\r\n"),
    "answers reversed": lambda proxy: reversed_answers,
    "values swapped": lambda proxy: swapped_data,
    "the last answer repeated": repeated,
    "answered twice": lambda proxy: twice,
    "wrong opaque": lambda proxy: replaced(_OPAQUE, b"999999"),
    "wrong key": lambda proxy: replaced(_KEY, b"another"),
    "first byte changed": lambda proxy: flipped(0),
    "byte 8 changed": lambda proxy: flipped(8),
    "last byte of a value changed": lambda proxy: flipped(-8),
    "out of memory": lambda proxy: instead(b"SERVER_ERROR out of memory storing object\r\n"),
    "too large": lambda proxy: instead(b"SERVER_ERROR object too large for cache\r\n"),
    "bad chunk": lambda proxy: instead(b"CLIENT_ERROR bad data chunk\r\n"),
    "unknown command": lambda proxy: instead(b"ERROR\r\n"),
    "the answer to a touch": lambda proxy: instead(b"TOUCHED\r\n"),
}
