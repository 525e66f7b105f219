"""Zstandard: shorter than zlib, in a third of the time."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from tiered.codec.optional import optional_module
from tiered.errors import CorruptValue

__all__ = ["ZstdCompressor"]

_MAX_WINDOW: Final = 8 * 1024 * 1024
"""Bytes of history that a frame may ask a reader to keep; the format's own recommendation."""

_MAX_RATIO: Final = 32 * 1024
"""A block has four bytes at least, and stands for 128 KiB at most."""

_KEPT: Final = 8
"""Contexts of each kind that wait for their next use. Each holds up to a few megabytes."""


class ZstdCompressor:
    """One Zstandard frame that tells its size, at the library's default level.

    Threads: safe. A context serves one thread at a time, and costs more than a small value
    to make, so those that are not in use are kept.
    """

    number: Final = 2

    def __init__(self) -> None:
        self._writers: deque[Any] = deque(maxlen=_KEPT)
        self._readers: deque[Any] = deque(maxlen=_KEPT)

    def require(self) -> None:
        _zstandard()

    def compress(self, data: bytes) -> bytes:
        try:
            context = self._writers.pop()
        except IndexError:
            context = _zstandard().ZstdCompressor()
        result: bytes = context.compress(data)
        self._writers.append(context)
        return result

    def decompress(self, data: bytes | memoryview, limit: int) -> bytes:
        zstandard = _zstandard()
        try:
            size = zstandard.frame_content_size(data)
        except zstandard.ZstdError as error:
            raise CorruptValue(f"not Zstandard data: {error}") from error
        # -1 is for a frame that does not tell; in one that tells 0, the library does not look.
        if size < 1:
            raise CorruptValue("the Zstandard data do not tell their size, or are of nothing")
        if size > limit:
            raise CorruptValue(f"decompresses to more than {limit} bytes")
        # The library makes room for as much as it is told.
        if size > len(data) * _MAX_RATIO:
            raise CorruptValue(f"{len(data)} bytes of Zstandard data cannot hold {size}")
        try:
            context = self._readers.pop()
        except IndexError:
            context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        try:
            result: bytes = context.decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptValue(f"not Zstandard data: {error}") from error
        finally:
            self._readers.append(context)
        return result


def _zstandard() -> Any:
    return optional_module("zstandard", "compress='zstd'", "zstd")
