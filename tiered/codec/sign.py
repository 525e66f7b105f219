"""Signatures: keyed BLAKE2b.

Without a key the same construction is a plain digest: it finds bytes that were
damaged or moved to another key, but anybody can make one. Where damage is all that is
to be found, a CRC does it in a quarter of the time.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from collections.abc import Sequence
from typing import Final

from tiered.errors import CorruptValue

__all__ = ["Checksum", "Signer"]


class Checksum:
    """CRC-32, with the methods of a hash object that a :class:`Signer` uses.

    Its digest has 16 bytes as signatures have, of which the last 12 are 0.
    """

    _LAYOUT: Final = struct.Struct(">I12x")

    __slots__ = ("_sum",)

    def __init__(self, crc: int = 0) -> None:
        self._sum = crc

    def copy(self) -> Checksum:
        return Checksum(self._sum)

    def update(self, data: bytes | memoryview) -> None:
        self._sum = zlib.crc32(data, self._sum)

    def digest(self) -> bytes:
        return self._LAYOUT.pack(self._sum)


class Signer:
    """Signs with the first key, accepts any of them.

    What is signed are the parts, one after the other; where one ends is for the caller to
    write into them.

    Args:
        keys: secrets, newest first; ``str`` is taken as UTF-8. None makes plain digests.
        purpose: of the signatures, up to 16 bytes: one made for another is worth nothing here.
        name: of the argument that holds the keys, for messages.
        light: without a key, look for damage only.

    Attributes:
        keyed: whether there is a secret.
        prepared: for each key, a hash object that has taken it in; to be copied, not used.

    Raises:
        TypeError: a key is neither ``str`` nor ``bytes``.
        ValueError: a key is empty.

    Threads: safe; the prepared hash objects are only ever copied.
    """

    SIZE: Final = 16

    def __init__(
        self,
        keys: Sequence[str | bytes] = (),
        *,
        purpose: bytes = b"tiered.value.1",
        name: str = "checksum_key",
        light: bool = False,
    ) -> None:
        self.keyed = bool(keys)
        self._purpose = purpose
        self._name = name
        self.prepared: tuple[hashlib.blake2b | Checksum, ...]
        if light and not keys:
            self.prepared = (Checksum(zlib.crc32(purpose)),)
        else:
            self.prepared = tuple(self._prepare(key) for key in keys or [b""])

    def _prepare(self, key: str | bytes) -> hashlib.blake2b:
        if self.keyed:
            if not isinstance(key, (str, bytes)):
                # The key itself stays out of the message: messages end up in logs.
                raise TypeError(
                    f"{self._name} must be str or bytes (or a list of them), "
                    f"not {type(key).__name__}"
                )
            if not key:
                raise ValueError(f"{self._name} must not be empty, it is the signing secret")
        secret = key.encode() if isinstance(key, str) else key
        if len(secret) > hashlib.blake2b.MAX_KEY_SIZE:
            secret = hashlib.blake2b(secret, person=self._purpose).digest()
        return hashlib.blake2b(digest_size=self.SIZE, key=secret, person=self._purpose)

    def sign(self, *parts: bytes | memoryview) -> bytes:
        """The signature of *parts*."""
        return self._digest(self.prepared[0], parts)

    def verify(self, signature: bytes, *parts: bytes | memoryview, skip: int = 0) -> None:
        """Accept *signature* if one of the keys, but for the *skip* newest, made it for *parts*.

        Raises:
            CorruptValue: none did.
        """
        for prepared in self.prepared[skip:]:
            if hmac.compare_digest(self._digest(prepared, parts), signature):
                return
        raise CorruptValue("the signature does not match the value and the key it lies under")

    @staticmethod
    def _digest(prepared: hashlib.blake2b | Checksum, parts: Sequence[bytes | memoryview]) -> bytes:
        digest = prepared.copy()
        for part in parts:
            digest.update(part)
        return digest.digest()
