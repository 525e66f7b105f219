"""A value in a pack: its name and its envelope.

::

    offset  size  field
         0     4  "tPr1"
         4     4  length of the name
         8     4  length of the envelope
        12     4  nothing
        16     n  name: what the envelope is signed for, 0 and the canonical key
    16 + n     e  envelope (see ``codec.values``)
                  nothing, up to a multiple of 16 bytes

There is no sum over all of it: the envelope's signature covers itself and the name.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = ["HEAD", "Record", "pack_record", "record_size", "unpack_record"]

_MAGIC: Final = b"tPr1"
_LAYOUT: Final = struct.Struct(">4sII4x")
HEAD: Final = _LAYOUT.size
_UNIT: Final = 16


class Record(NamedTuple):
    """What a pack holds of a key; nothing of it is verified."""

    name: bytes
    envelope: bytes


def record_size(name: bytes, envelope: int) -> int:
    """What an envelope of so many bytes takes."""
    return -(-(HEAD + len(name) + envelope) // _UNIT) * _UNIT


def pack_record(name: bytes, envelope: bytes) -> bytes:
    """The record of a value."""
    data = _LAYOUT.pack(_MAGIC, len(name), len(envelope)) + name + envelope
    return data + bytes(-len(data) % _UNIT)


def unpack_record(data: bytes | memoryview) -> Record | None:
    """The record that *data* is; ``None`` if it is none, or not all of one."""
    if len(data) < HEAD:
        return None
    magic, name, envelope = _LAYOUT.unpack_from(data)
    end = HEAD + name + envelope
    if magic != _MAGIC or end > len(data):
        return None
    return Record(bytes(data[HEAD : HEAD + name]), bytes(data[HEAD + name : end]))
