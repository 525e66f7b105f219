"""What namespaces and keys are called on the bus: bytes that are the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from tiered.acceleration import core
from tiered.coherence.messages import MOST_NAME, TOPIC_SIZE
from tiered.keys.canonical import canonical
from tiered.typing import Key

__all__ = ["name_of", "topic_of"]

_HASHED: Final = b"#"
"""Canonical bytes begin with a letter, so that the two forms never meet."""
_PREFIX: Final = b"\0"
"""As on a server without a prefix: a digest is what a client of files calls the key's file."""


def topic_of(namespace: str) -> bytes:
    """The topic of *namespace*, of fixed size: one is never the beginning of another."""
    return hashlib.blake2b(namespace.encode(), digest_size=TOPIC_SIZE).digest()


def _name_of(key: Key) -> bytes:
    name = canonical(key)
    if len(name) <= MOST_NAME:
        return name
    return _HASHED + hashlib.blake2b(_PREFIX + name, digest_size=20).digest()


class _General:
    """What the compiled way asks for names that are not plain texts."""

    sign = staticmethod(_name_of)


# Canonical bytes with nothing before them are what it makes to be signed.
name_of: Callable[[Key], bytes] = core.KeyNames(b"", b"", _General, None).sign if core else _name_of
"""The name of a key: its canonical bytes, or a hash of them if they are too long.

Raises:
    KeyEncodingError: the key has no canonical form.
"""
