"""LZ4: longer than zlib, in a fifth of the time."""

from __future__ import annotations

from typing import Any, Final

from tiered.codec.optional import optional_module
from tiered.errors import CorruptValue

__all__ = ["Lz4Compressor"]

_MAX_RATIO: Final = 255
"""The format's own: each byte of a length stands for so many bytes."""


class Lz4Compressor:
    """One LZ4 frame that tells its size.

    Threads: safe, nothing is kept between calls.
    """

    number: Final = 3

    def require(self) -> None:
        _lz4()

    def compress(self, data: bytes) -> bytes:
        result: bytes = _lz4().compress(data, store_size=True)
        return result

    def decompress(self, data: bytes | memoryview, limit: int) -> bytes:
        lz4 = _lz4()
        try:
            size = lz4.get_frame_info(data)["content_size"]
            if size > limit:
                raise CorruptValue(f"decompresses to more than {limit} bytes")
            # The library makes room for as much as it is told. Nothing is told by 0.
            if not 0 < size <= len(data) * _MAX_RATIO:
                raise CorruptValue(f"{len(data)} bytes of LZ4 data cannot hold {size}")
            result, used = lz4.decompress(data, return_bytes_read=True)
        except RuntimeError as error:
            raise CorruptValue(f"not LZ4 data: {error}") from error
        if used != len(data):
            raise CorruptValue(f"{len(data) - used} bytes follow the LZ4 data")
        return bytes(result)


def _lz4() -> Any:
    return optional_module("lz4.frame", "compress='lz4'", "lz4")
