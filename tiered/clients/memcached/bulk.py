"""Many keys at once: pieces of bounded size, and the one bulk read that every server knows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from tiered.acceleration import core
from tiered.clients.memcached.replies import number, refuse
from tiered.clients.memcached.stream import Stream
from tiered.errors import BackendError, ServerRefusal

__all__ = [
    "python_split_items",
    "read_each",
    "read_items",
    "split_items",
    "weight_of_item",
    "windows",
]

T = TypeVar("T")

_WINDOW_BYTES: Final = 512 * 1024
_WINDOW_COUNT: Final = 512
_READ_BYTES: Final = 48 * 1024
"""Of keys in one request. A server that cannot send its answer stops reading; the request must
fit into the buffers on the way, or both sides would wait for each other."""


def windows(
    items: Sequence[T],
    weight: Callable[[T], int],
    most: int = _WINDOW_BYTES,
) -> Iterator[Sequence[T]]:
    """*items* in pieces of up to *most* bytes (one item at least) and 512 items."""
    start = total = 0
    for place, item in enumerate(items):
        heavy = weight(item)
        if place > start and (total + heavy > most or place - start >= _WINDOW_COUNT):
            yield items[start:place]
            start, total = place, 0
        total += heavy
    if start < len(items):
        yield items[start:]


def weight_of_item(item: tuple[bytes, bytes]) -> int:
    """Bytes that a key and its data take in a request, about."""
    return len(item[0]) + len(item[1]) + 40


def read_each(asked: Iterable[T], read: Callable[[T], bool]) -> list[bool]:
    """What *read* makes of the answer to each of those *asked*.

    Raises:
        ServerRefusal: the first refusal, when all answers have been read: what was left on
            the way would be taken for the answers to what comes next.
    """
    answers: list[bool] = []
    refusal: ServerRefusal | None = None
    for one in asked:
        try:
            answers.append(read(one))
        except ServerRefusal as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    return answers


def read_items(stream: Stream, keys: Sequence[bytes]) -> Generator[None, None, dict[bytes, bytes]]:
    """The data under those of *keys* that are there; stops between question and answer.

    Raises:
        ServerRefusal: the server could not answer.
        BackendError: an answer to something else.
    """
    found: dict[bytes, bytes] = {}
    for window in windows([*dict.fromkeys(keys)], len, _READ_BYTES):
        stream.send(b"get " + b" ".join(window) + b"\r\n")
        yield
        asked = set(window)
        ended = False
        while not ended:
            data, at = stream.unread()
            at, ended = split_items(data, at, asked, found)
            stream.skip_to(at)
            # What is not whole yet, or no item, one at a time; then there is more to split.
            ended = ended or _read_item(stream, asked, found)
    return found


def _read_item(stream: Stream, asked: set[bytes], found: dict[bytes, bytes]) -> bool:
    """Read one item, or the end of them; whether it was the end."""
    line = stream.line()
    if line == b"END":
        return True
    if not line.startswith(b"VALUE "):
        refuse(line)
    head = line.split(b" ")
    if len(head) != 4 or head[1] not in asked:
        raise BackendError(f"{line[:80]!r} answers another question")
    asked.remove(head[1])  # or an answer could go on for ever
    data = stream.block(number(head[3]))
    if data:  # a stub is no value
        found[head[1]] = data
    return False


def python_split_items(
    data: bytes, at: int, asked: set[bytes], found: dict[bytes, bytes]
) -> tuple[int, bool]:
    """Move the items that lie in *data* from *at* on into *found*.

    Args:
        asked: their keys; each is taken out with its item. Others are left where they are,
            as is all that is no item.

    Returns:
        Where it stopped, and whether that was the end of the answer.
    """
    while data.startswith(b"VALUE ", at):
        end = data.find(b"\r\n", at)
        head = data[at + 6 : end].split(b" ") if end > 0 else ()
        if len(head) != 3 or head[0] not in asked or not (head[2].isdigit() and len(head[2]) < 11):
            break
        start = end + 2
        stop = start + int(head[2])
        if data[stop : stop + 2] != b"\r\n":
            break
        asked.remove(head[0])
        if stop > start:  # a stub is no value
            found[head[0]] = data[start:stop]
        at = stop + 2
    if data.startswith(b"END\r\n", at):
        return at + 5, True
    return at, False


split_items = python_split_items if core is None else core.split_items
