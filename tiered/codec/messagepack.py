"""MessagePack, as two packages read and write it.

Each has a number of its own on the wire: they agree on the bytes, but not on every limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from tiered.codec.exact import ExactTypes
from tiered.codec.optional import optional_module

__all__ = ["MsgpackSerializer", "MsgspecSerializer"]

_LEAVES: Final = frozenset({type(None), bool, int, float, str, bytes})
_EXACT: Final = ExactTypes("MessagePack", _LEAVES, _LEAVES)

_WALKED_FROM: Final = 256
"""Bytes from which on what arrays claim to hold is counted before any is made."""


class MsgpackSerializer:
    """None, bool, int of 64 bits, float, str, bytes, list, and dict; by the package ``msgpack``.

    Threads: safe.
    """

    number: Final = 4
    executes: Final = False

    def require(self) -> None:
        _msgpack()

    def dumps(self, value: Any) -> bytes:
        pack = _msgpack().packb
        try:
            data: bytes = pack(value, strict_types=True)
        except Exception as error:  # of many kinds, one for each fault
            raise _EXACT.refusal(value, error) from error
        if not _EXACT.holds(value):
            raise _EXACT.refusal(value)
        return data

    def loads(self, data: bytes | memoryview) -> Any:
        msgpack = _msgpack()
        if len(data) > _WALKED_FROM:
            # Room for an array is made when its length is read. A few bytes that tell of a
            # thousand long arrays, one in the other, would take gigabytes before their end is
            # missed: so look for the end first, which makes nothing.
            walk = msgpack.Unpacker(max_buffer_size=len(data))
            walk.feed(data)
            walk.skip()
        return msgpack.unpackb(data, strict_map_key=False, ext_hook=_refuse_extension)


class MsgspecSerializer:
    """The same types; by the package ``msgspec``, in half the time.

    Threads: safe; encoder and decoder keep nothing between calls.
    """

    number: Final = 5
    executes: Final = False

    def require(self) -> None:
        _msgspec()

    def dumps(self, value: Any) -> bytes:
        encode = _msgspec()[0]
        try:
            data = encode(value)
        except Exception as error:  # of many kinds, one for each fault
            raise _EXACT.refusal(value, error) from error
        if not _EXACT.holds(value):
            raise _EXACT.refusal(value)
        return data

    def loads(self, data: bytes | memoryview) -> Any:
        return _msgspec()[1](data)


def _msgpack() -> Any:
    return optional_module("msgpack", "serializer='msgpack'", "msgpack")


@cache
def _msgspec() -> tuple[Callable[[Any], bytes], Callable[[bytes | memoryview], Any]]:
    msgpack = optional_module("msgspec.msgpack", "serializer='msgspec'", "msgspec")
    return msgpack.Encoder().encode, msgpack.Decoder(ext_hook=_refuse_extension).decode


def _refuse_extension(code: int, data: bytes | memoryview) -> Any:
    raise ValueError(f"extension type {code} is never written")
