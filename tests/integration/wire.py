"""Where requests to a memcached and its answers begin and end, in both protocols."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["read_answer", "requests_in"]

_STORES: Final = {b"set", b"add", b"replace", b"append", b"prepend", b"cas"}
_VALUE: Final = re.compile(rb"VALUE \S+ \d+ (\d+)")
_META_VALUE: Final = re.compile(rb"VA (\d+)")


def requests_in(buffer: bytearray) -> Iterator[bytes]:
    """The whole requests at the start of *buffer*, each with its data; they are removed."""
    while (end := buffer.find(b"\n") + 1) > 0:
        end += _data_after(bytes(buffer[:end]).split())
        if len(buffer) < end:
            return
        request = bytes(buffer[:end])
        del buffer[:end]
        yield request


def _data_after(words: list[bytes]) -> int:
    place = 4 if words and words[0] in _STORES else 2 if words and words[0] == b"ms" else None
    if place is None or len(words) <= place or not words[place].isdigit():
        return 0
    return int(words[place]) + 2


def read_answer(lines: BinaryIO, request: bytes) -> bytes:
    """What a server says to *request*, which it was sent together with an ``mn``.

    The answer to that, ``MN``, tells where the one to *request* ends, whether that is
    one line, many, or none.
    """
    answer = b""
    ends = 2 if request.split()[:1] == [b"mn"] else 1
    while line := lines.readline():
        if line == b"MN\r\n":
            ends -= 1
            if not ends:
                return answer
        answer += line
        value = _VALUE.match(line) or _META_VALUE.match(line)
        if value:
            answer += lines.read(int(value[1]) + 2)
    raise ConnectionError("the server has closed the connection")
