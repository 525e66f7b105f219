"""Values with large buffers in them: an array, a view of bytes, a dict of arrays.

Pickle (protocol 5) leaves buffers out of its stream; they lie beside it in the file, in a
*region*, and are read as views of the mapped file, without a copy.

::

    sheet, the payload of the envelope      region, from a multiple of 64 in the file
    offset  size  field                     size  field
         0    16  signature of all below    16 n  of each part: where in the region, and size
        16     8  where it is in the file      s  part 0: the pickle
        24     8  its size                     b  the others: buffers, each at a multiple of 64
        32     4  parts in it, n
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, NoReturn

from tiered.errors import CorruptValue, UnserializableValue

__all__ = [
    "Sheet",
    "SheetSerializer",
    "apart",
    "joined",
    "laid_out",
    "pickled_part",
    "region_start",
    "restored_view",
]

_APART_FROM: Final = 16 * 1024
"""Bytes of a buffer from which it lies apart: mapping a file costs as much as copying these."""

_ALIGNMENT: Final = 64
"""Bytes: a line of the processor's cache; arrays are best there."""

_SHEET: Final = struct.Struct(">16sQQI")
_PART: Final = struct.Struct(">QQ")
_MOST_PARTS: Final = 1 << 20


class Sheet(NamedTuple):
    """Where the parts of a value are, and what they are signed with."""

    signature: bytes
    offset: int
    size: int
    parts: int

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # Else somebody's value could be one, and be taken for the sheet of itself.
        raise TypeError("a sheet is not a value, and cannot be pickled")


class SheetSerializer:
    """Reads and writes sheets, as the payload of an envelope."""

    number: Final = 64
    executes: Final = True  # a region holds a pickle

    SIZE: Final = _SHEET.size

    def require(self) -> None:
        pass

    def dumps(self, value: Any) -> bytes:
        return _SHEET.pack(*value)

    def loads(self, data: bytes | memoryview) -> Sheet:
        return Sheet(*_SHEET.unpack(data))


class _Pickler(pickle.Pickler):
    """Knows views of memory, too."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is memoryview:
            return restored_view, (pickle.PickleBuffer(value), value.format, value.shape)
        return NotImplemented


def restored_view(data: Any, form: Any, shape: Sequence[int]) -> memoryview[Any]:
    """A view of *data*, as it was; pickles name this function."""
    flat: Any = memoryview(data).cast("B")
    if 0 in shape:
        view: memoryview[Any] = flat.cast(form)  # there is no other shape for nothing
    else:
        view = flat.cast(form, tuple(shape))
    return view


def apart(value: Any) -> tuple[bytes, list[memoryview]]:
    """The pickle of *value*, and the large buffers in it, which are not in the pickle.

    Raises:
        UnserializableValue: it cannot be pickled.
    """
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # not in one piece: pickle copies it
        if raw.nbytes < _APART_FROM or len(buffers) >= _MOST_PARTS - 1:
            return True
        buffers.append(raw)
        return False

    try:
        try:
            return pickle.dumps(value, 5, buffer_callback=keep_inside), buffers
        except TypeError:  # views of memory, perhaps
            buffers.clear()
            stream = io.BytesIO()
            _Pickler(stream, 5, buffer_callback=keep_inside).dump(value)
            return stream.getvalue(), buffers
    except Exception as error:  # reducers are user code: they raise anything
        raise UnserializableValue(f"cannot pickle {type(value).__name__}: {error}") from error


def laid_out(stream: bytes, buffers: Sequence[memoryview]) -> list[bytes | memoryview]:
    """The parts of a region, to be written one after the other."""
    parts: list[bytes | memoryview] = [stream, *buffers]
    at = _PART.size * len(parts)
    table: list[bytes] = []
    body: list[bytes | memoryview] = []
    for number, part in enumerate(parts):
        if number:
            gap = -at % _ALIGNMENT
            body.append(bytes(gap))
            at += gap
        table.append(_PART.pack(at, len(part)))
        body.append(part)
        at += len(part)
    return [b"".join(table), *body]


def region_start(before: int) -> int:
    """Where in a file a region begins, after *before* bytes of other things."""
    return before + -before % _ALIGNMENT


def pickled_part(sheet: Sheet, region: memoryview) -> bytes:
    """A copy of the beginning of a *region*, up to the end of the pickle in it.

    What is unpickled has to be what was verified, and others may be able to write the file: so
    it is verified, and read, from this copy.

    Raises:
        CorruptValue: there is none.
    """
    start = _PART.size * sheet.parts
    if not _PART.size <= start <= len(region):
        raise CorruptValue("the table of parts lies outside the file")
    at, size = _PART.unpack_from(region)
    if at != start or at + size > len(region):
        raise CorruptValue("the pickle lies outside the file")
    return bytes(region[: at + size])


def joined(sheet: Sheet, head: bytes, region: memoryview) -> Any:
    """The value in a *region* that begins with *head*; its buffers are views of the region.

    Both were verified; see :func:`pickled_part`.

    Raises:
        CorruptValue: it is none.
    """
    try:
        spans = [_PART.unpack_from(head, _PART.size * number) for number in range(sheet.parts)]
        at, size = spans[0]
        stream = memoryview(head)[at : at + size]
        buffers = [region[at : at + size] for at, size in spans[1:]]
        if any(
            len(part) != size for part, (_, size) in zip((stream, *buffers), spans, strict=True)
        ):
            raise CorruptValue("a part of the value lies outside the file")
        return pickle.loads(stream, buffers=buffers)  # noqa: S301 - signed, or ours alone
    except CorruptValue:
        raise
    except Exception as error:  # the reader of a pickle is anybody's code
        raise CorruptValue(f"the value cannot be read: {type(error).__name__}: {error}") from error
