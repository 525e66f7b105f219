"""Values that are larger than an item on a server may be: cut into pages.

The pages lie under keys of their own, and under the value's key lies a manifest, which tells
how many there are. Pages are written first and the manifest last, so a reader finds all of a
version or misses. A version's pages have its token, which is random, in their keys and at
their heads: those of another version are never taken for them.

::

    manifest             page
    offset  size  field  offset  size  field
         0    16  token       0    16  token
        16     4  pages      16     4  index, from 0
        20     8  size       20     n  bytes of the sealed value
        28     4  page size
        32    16  digest

The digest of a manifest is the signature of the sealed value that it stands for, so what is
joined is verified twice: here to be that one, and by the codec to be unharmed.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

from tiered.codec.sign import Signer
from tiered.errors import CorruptValue

__all__ = ["MIN_PAGE_SIZE", "PAGE_OVERHEAD", "Manifest", "join", "page_key", "split"]

TOKEN_SIZE: Final = 16

_MANIFEST: Final = struct.Struct(f">{TOKEN_SIZE}sIQI{Signer.SIZE}s")
_HEAD: Final = struct.Struct(f">{TOKEN_SIZE}sI")

PAGE_OVERHEAD: Final = _HEAD.size
"""Bytes of a page that are not the value's."""

MIN_PAGE_SIZE: Final = 512
"""Bytes that a page has at least, but for the last. No server takes fewer, and a forged
manifest cannot make a reader ask for pages by the million."""


class Manifest(NamedTuple):
    """What lies under the key of a value in pages.

    Attributes:
        token: 16 random bytes, the version.
        pages: how many pages there are.
        size: bytes of the sealed value.
        page_size: bytes of a page with its head; the last one may have fewer.
        digest: the signature of the sealed value.
    """

    token: bytes
    pages: int
    size: int
    page_size: int
    digest: bytes

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # Else somebody's value could be one, and be taken for the manifest of itself.
        raise TypeError("a manifest is not a value, and cannot be pickled")

    def pack(self) -> bytes:
        """The bytes for an envelope."""
        return _MANIFEST.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | memoryview, *, max_size: int) -> Manifest:
        """The manifest in *data*.

        Args:
            max_size: bytes that a sealed value may have.

        Raises:
            CorruptValue: it is none, its figures do not fit each other, or it tells of more
                than *max_size*. Nobody needs to make room for what it claims before.
        """
        if len(data) != _MANIFEST.size:
            raise CorruptValue(f"a manifest has {_MANIFEST.size} bytes, not {len(data)}")
        manifest = cls._make(_MANIFEST.unpack(data))
        _, pages, size, page_size, _ = manifest
        if (
            page_size < MIN_PAGE_SIZE
            or not Signer.SIZE < size <= max_size
            or pages != _page_count(size, page_size)
        ):
            raise CorruptValue(
                f"a manifest of {pages} pages of {page_size} bytes for a value of {size}, "
                f"the limit is {max_size}"
            )
        return manifest


def split(
    sealed: bytes, page_size: int, *, token: bytes | None = None
) -> tuple[Manifest, list[bytes]]:
    """The manifest and the pages of the envelope *sealed*.

    Args:
        page_size: bytes that each page may have, with its head.
        token: the version, 16 bytes; random if not given.

    Raises:
        ValueError: *page_size* is below ``MIN_PAGE_SIZE``, or *token* of another length.
    """
    if page_size < MIN_PAGE_SIZE:
        raise ValueError(f"page_size must be {MIN_PAGE_SIZE} bytes or more, not {page_size!r}")
    if token is None:
        token = secrets.token_bytes(TOKEN_SIZE)
    elif len(token) != TOKEN_SIZE:
        raise ValueError(f"token must be {TOKEN_SIZE} bytes, not {token!r}")
    view, step = memoryview(sealed), page_size - PAGE_OVERHEAD
    pages = [
        b"".join((_HEAD.pack(token, index), view[start : start + step]))
        for index, start in enumerate(range(0, len(sealed), step))
    ]
    return Manifest(token, len(pages), len(sealed), page_size, sealed[: Signer.SIZE]), pages


def join(manifest: Manifest, pages: Sequence[bytes | None]) -> bytes:
    """The sealed value that *manifest* stands for; its signature is not verified here.

    Args:
        pages: what lay under the keys of the pages, in their order; ``None`` for nothing.

    Raises:
        CorruptValue: a page is missing, has another length, or is of another place or version.
    """
    if len(pages) != manifest.pages:
        raise CorruptValue(f"{len(pages)} pages are there, not {manifest.pages}")
    parts: list[memoryview] = []
    left = manifest.size
    for index, page in enumerate(pages):
        if page is None:
            raise CorruptValue(f"page {index} of {manifest.pages} is missing")
        size = min(left + PAGE_OVERHEAD, manifest.page_size)
        if len(page) != size:
            raise CorruptValue(f"page {index} has {len(page)} bytes, not {size}")
        if _HEAD.unpack_from(page) != (manifest.token, index):
            raise CorruptValue(f"page {index} is of another place or version")
        parts.append(memoryview(page)[PAGE_OVERHEAD:])
        left -= size - PAGE_OVERHEAD
    sealed = b"".join(parts)
    if not sealed.startswith(manifest.digest):
        raise CorruptValue("the pages hold another value than the manifest stands for")
    return sealed


def page_key(prefix: bytes, token: bytes, index: int) -> bytes:
    """The server's key of a page, after the safe *prefix* of at most 200 bytes.

    It meets no key of a value: after the prefix, these start with a letter or ``#``.
    """
    return b"%b%%%b.%d" % (prefix, token.hex().encode(), index)


def _page_count(size: int, page_size: int) -> int:
    return -(-size // (page_size - PAGE_OVERHEAD))
