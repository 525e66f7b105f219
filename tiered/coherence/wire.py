"""Messages to bytes and back: one frame each, the same for every transport.

::

    magic (2)  version (1)  code (1)  fields of fixed size  rest  [signature (16)]

The code tells the kind of message and, by its highest bit, who speaks: what a broker says is
refused where a node is expected, so that nothing can be sent back to where it came from. With
a key, a keyed BLAKE2b over everything before it ends the frame, and is looked at before
anything else is. Nothing here executes or guesses what it reads: a frame is a message, exactly,
or a :class:`ForeignFrame`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from tiered.acceleration import core
from tiered.codec.sign import Signer
from tiered.coherence.messages import (
    MOST_NAME,
    NODE_SIZE,
    TOPIC_SIZE,
    Block,
    BrokerMessage,
    Bye,
    ClaimKey,
    Granted,
    Held,
    Hello,
    Inquire,
    Leave,
    Lost,
    NodeMessage,
    Ping,
    Pong,
    Publish,
    ReleaseKey,
    Replay,
    Report,
    Row,
    Settled,
    Stranger,
    Tell,
    Told,
    Welcome,
    made,
)
from tiered.errors import CodecError, CorruptValue

__all__ = ["MAX_FRAME", "ForeignFrame", "Wire"]

MAX_FRAME: Final = 1024 * 1024
"""Bytes of the longest frame that is sent or taken."""

_MAGIC: Final = b"\xc4t"
_VERSION: Final = 1
_HEAD: Final = struct.Struct(">2sBB")
_OF_BROKERS: Final = 0x80
_MOST_LABEL: Final = 255

_EVENT_HEAD: Final = 1 + TOPIC_SIZE + 1
"""Bytes of an event without its name."""
_MOST_EVENTS: Final = MAX_FRAME // 2
"""Bytes of events in a frame: what a broker takes in one, it can send on in one."""


class ForeignFrame(CodecError):
    """What came is none of ours, or not whole, or not signed by somebody who has the key."""


# -- What is not of fixed size -------------------------------------------------------


class _Rest(NamedTuple):
    """The one field of a message that ends it, and is as long as it is.

    Attributes:
        field: its name.
        written: to bytes; ``None`` where it is bytes.
        read: from bytes and the fields of fixed size; raises ``ValueError``.
    """

    field: str
    written: Callable[[Any], bytes] | None
    read: Callable[[bytes, tuple[Any, ...]], Any]
    most: int = MAX_FRAME
    """Bytes."""


def _events(data: bytes, fixed: tuple[Any, ...]) -> bytes:
    """Packed events; only whether there can be as many as *fixed* says is looked at."""
    size = fixed[-2]
    length = len(data)
    if not size * _EVENT_HEAD <= length <= size * (_EVENT_HEAD + MOST_NAME) or not size:
        raise ValueError(f"{size} events cannot be {length} bytes")
    if length > _MOST_EVENTS:
        raise ValueError(f"{length} bytes of events; a frame takes {_MOST_EVENTS}")
    return data


def _name(data: bytes, _fixed: tuple[Any, ...]) -> bytes:
    if len(data) > MOST_NAME:
        raise ValueError(f"a name of {len(data)} bytes")
    return data


def _label(data: bytes, _fixed: tuple[Any, ...]) -> str:
    if len(data) > _MOST_LABEL:
        raise ValueError(f"a label of {len(data)} bytes")
    return data.decode()


def _as_is(data: bytes, _fixed: tuple[Any, ...]) -> bytes:
    return data


def _label_bytes(label: str) -> bytes:
    # Cut where it is too long: it is for people, and never compared. The name of a program can be
    # one that is no text.
    return label.encode(errors="backslashreplace")[:_MOST_LABEL].decode(errors="ignore").encode()


_ROW: Final = struct.Struct(f">{NODE_SIZE}sQQB")


def _row_bytes(row: Row) -> bytes:
    label = _label_bytes(row.label)
    return _ROW.pack(row.node, row.seq, row.silent, len(label)) + label


def _rows_bytes(rows: Sequence[Row]) -> bytes:
    return b"".join([_row_bytes(row) for row in rows])


def _rows(data: bytes, _fixed: tuple[Any, ...]) -> tuple[Row, ...]:
    rows = []
    at = 0
    while at < len(data):
        if at + _ROW.size > len(data):
            raise ValueError("half a row")
        node, seq, silent, length = _ROW.unpack_from(data, at)
        at += _ROW.size
        label = data[at : at + length]
        if len(label) != length:
            raise ValueError("half a label")
        at += length
        rows.append(Row(node, label.decode(), seq, silent))
    return tuple(rows)


_EVENTS: Final = _Rest("events", None, _events, _MOST_EVENTS)
_NAME: Final = _Rest("name", None, _name)
_LABEL: Final = _Rest("label", _label_bytes, _label)
_PAYLOAD: Final = _Rest("payload", None, _as_is)
_ROWS: Final = _Rest("rows", _rows_bytes, _rows)


# -- The layout of each message ------------------------------------------------------


class _Layout:
    """How one kind of message lies in a frame: its fields in their order, *rest* at the end."""

    def __init__(self, kind: Any, code: int, fixed: str, rest: _Rest | None = None) -> None:
        self.kind = kind
        self.head = _HEAD.pack(_MAGIC, _VERSION, code)
        self.fixed = struct.Struct(">" + fixed)
        self.starts = _HEAD.size + self.fixed.size
        self.rest = rest
        self.at = kind._fields.index(rest.field) if rest else len(kind._fields)


_N: Final = f"{NODE_SIZE}s"
_T: Final = f"{TOPIC_SIZE}s"

_LAYOUTS: Final = {
    layout.kind: layout
    for layout in (
        _Layout(Hello, 0x01, f"{_N}QQQQ", _LABEL),
        _Layout(Publish, 0x02, f"{_N}QQI?", _EVENTS),
        _Layout(Ping, 0x03, f"{_N}QQQ"),
        _Layout(Replay, 0x04, f"{_N}QQ"),
        _Layout(ClaimKey, 0x05, f"{_N}QQ{_T}Q", _NAME),
        _Layout(ReleaseKey, 0x06, f"{_N}Q{_T}Q", _NAME),
        _Layout(Tell, 0x07, f"{_N}Q{_N}", _PAYLOAD),
        _Layout(Inquire, 0x08, f"{_N}Q"),
        _Layout(Bye, 0x09, f"{_N}Q"),
        _Layout(Welcome, 0x81, "QQQQ"),
        _Layout(Block, 0x82, f"QQ{_N}QI?", _EVENTS),
        _Layout(Pong, 0x83, "QQQ"),
        _Layout(Lost, 0x84, "QQ"),
        _Layout(Granted, 0x85, "QQQ"),
        _Layout(Held, 0x86, "QQQ"),
        _Layout(Settled, 0x87, "QQ"),
        _Layout(Told, 0x88, f"Q{_N}", _PAYLOAD),
        _Layout(Report, 0x89, "QQQQQQ", _ROWS),
        _Layout(Stranger, 0x8A, "Q"),
        _Layout(Leave, 0x8B, "Q"),
    )
}
_BY_HEAD: Final = {layout.head: layout for layout in _LAYOUTS.values()}
_NODES: Final = {head: one for head, one in _BY_HEAD.items() if not head[3] & _OF_BROKERS}
_BROKERS: Final = {head: one for head, one in _BY_HEAD.items() if head[3] & _OF_BROKERS}


class Wire:
    """Writes and reads frames.

    Args:
        keys: the secret that all of a bus share; of several, the first signs and all are
            accepted. None: frames are not signed, and those with a signature are foreign.
        max_frame: bytes of the longest frame.

    Attributes:
        of_node, of_broker: ``of_node(frame)`` is what a node says in *frame*, ``of_broker(frame)``
            what a broker says; both raise :class:`ForeignFrame`.
        pack: ``pack(message)`` is the frame of *message*; raises ``ValueError`` if that would be
            longer than a frame can be, or a number in it larger.

    Threads: safe, nothing changes after construction.
    """

    def __init__(self, keys: Sequence[str | bytes] = (), *, max_frame: int = MAX_FRAME) -> None:
        signer = Signer(keys, purpose=b"tiered.bus.1", name="key")
        self._signer = signer if keys else None
        self._tail = Signer.SIZE if keys else 0
        self.max_frame = max_frame
        self.of_node: Callable[[bytes], NodeMessage] = partial(self._parse, _NODES)
        self.of_broker: Callable[[bytes], BrokerMessage] = partial(self._parse, _BROKERS)
        self.pack: Callable[[NodeMessage | BrokerMessage], bytes] = self._pack
        if core is not None:
            self._compile()

    def _compile(self) -> None:
        """What carries events is the most of what there is, and has a compiled way."""
        first = self._signer.prepared[0] if self._signer is not None else None
        heads = [_LAYOUTS[kind].head for kind in (Publish, Block)]
        limits = first, self.max_frame, _MOST_EVENTS
        self.of_node = core.FrameReader(Publish, heads[0], False, *limits, self.of_node)
        self.of_broker = core.FrameReader(Block, heads[1], True, *limits, self.of_broker)
        self.pack = core.FrameWriter(Publish, Block, heads, *limits, self.pack)

    def _pack(self, message: NodeMessage | BrokerMessage) -> bytes:
        # In one function, as each one costs some microseconds where caches are cold.
        layout = _LAYOUTS[type(message)]
        last = layout.rest
        frame: bytes
        try:
            if last is None:
                frame = layout.head + layout.fixed.pack(*message)
            else:
                at = layout.at
                fields: tuple[Any, ...] = tuple(message)
                rest = fields[at] if last.written is None else last.written(fields[at])
                if len(rest) > last.most:
                    raise ValueError(
                        f"{len(rest)} bytes of {last.field}; a frame takes {last.most}"
                    )
                frame = layout.head + layout.fixed.pack(*fields[:at], *fields[at + 1 :]) + rest
        except struct.error as error:
            raise ValueError(f"a {type(message).__name__} that fits no frame: {error}") from error
        if len(frame) + self._tail > self.max_frame:
            raise ValueError(
                f"a {type(message).__name__} of {len(frame)} bytes; a frame is up to "
                f"{self.max_frame}"
            )
        if self._signer is not None:
            frame += self._signer.sign(frame)
        return frame

    def _parse(self, expected: dict[bytes, _Layout], frame: bytes) -> Any:
        if len(frame) > self.max_frame:
            raise ForeignFrame(f"{len(frame)} bytes; a frame is up to {self.max_frame}")
        end = len(frame) - self._tail
        if end < _HEAD.size:
            raise ForeignFrame(f"{len(frame)} bytes are too few")
        if self._signer is not None:
            try:
                self._signer.verify(frame[end:], memoryview(frame)[:end])
            except CorruptValue as error:
                raise ForeignFrame("not signed with this bus's key") from error
        layout = expected.get(frame[: _HEAD.size])
        if layout is None:
            raise ForeignFrame(_why(frame))
        starts, last, at = layout.starts, layout.rest, layout.at
        if end < starts or (last is None and end != starts):
            raise ForeignFrame(f"{end} bytes are no {layout.kind.__name__}")
        fixed = layout.fixed.unpack_from(frame, _HEAD.size)
        if last is None:
            return made(layout.kind, fixed)
        try:
            rest = last.read(frame[starts:end], fixed)
        except ValueError as error:
            raise ForeignFrame(str(error)) from error
        return made(layout.kind, (*fixed[:at], rest, *fixed[at:]))


def _why(frame: bytes) -> str:
    """What is wrong with the head of *frame*."""
    magic, version, code = _HEAD.unpack_from(frame)
    if magic != _MAGIC:
        return "not of a coherence bus"
    if version != _VERSION:
        return f"version {version} of the format, not {_VERSION}"
    if frame[: _HEAD.size] in _BY_HEAD:
        return "from the wrong side"
    return f"the unknown code {code}"
