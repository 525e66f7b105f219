"""Signatures: keyed BLAKE2b, bound to the key that the bytes are stored under.

Without a key the same construction is a plain digest: it finds bytes that were
damaged or moved to another key, but anybody can make one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from tiered.errors import CorruptValue

__all__ = ["Signer"]

_PERSON: Final = b"tiered.value.1"


class Signer:
    """Signs with the first key, accepts any of them.

    Args:
        keys: secrets, newest first; ``str`` is taken as UTF-8. None makes plain digests.

    Raises:
        TypeError: a key is neither ``str`` nor ``bytes``.
        ValueError: a key is empty.

    Threads: safe; the prepared hash objects are only ever copied.
    """

    SIZE: Final = 16

    def __init__(self, keys: Sequence[str | bytes] = ()) -> None:
        self.keyed = bool(keys)
        self._prepared = [self._prepare(key) for key in keys] or [self._prepare(b"")]

    def _prepare(self, key: str | bytes) -> hashlib.blake2b:
        if self.keyed:
            if not isinstance(key, (str, bytes)):
                # The key itself stays out of the message: messages end up in logs.
                raise TypeError(
                    f"checksum_key must be str or bytes (or a list of them), "
                    f"not {type(key).__name__}"
                )
            if not key:
                raise ValueError("checksum_key must not be empty, it is the signing secret")
        secret = key.encode() if isinstance(key, str) else key
        if len(secret) > hashlib.blake2b.MAX_KEY_SIZE:
            secret = hashlib.blake2b(secret, person=_PERSON).digest()
        return hashlib.blake2b(digest_size=self.SIZE, key=secret, person=_PERSON)

    def sign(self, name: bytes, message: bytes) -> bytes:
        """The signature of *message* stored under *name*."""
        return self._digest(self._prepared[0], name, message)

    def verify(self, name: bytes, message: bytes, signature: bytes) -> None:
        """Accept *signature* if one of the keys made it for *name* and *message*.

        Raises:
            CorruptValue: none did.
        """
        for prepared in self._prepared:
            if hmac.compare_digest(self._digest(prepared, name, message), signature):
                return
        raise CorruptValue("the signature does not match the value and the key it lies under")

    @staticmethod
    def _digest(prepared: hashlib.blake2b, name: bytes, message: bytes) -> bytes:
        digest = prepared.copy()
        # The length first, so that no byte can move between name and message.
        digest.update(len(name).to_bytes(4, "big") + name)
        digest.update(message)
        return digest.digest()
