"""Canonical bytes to the key that a memcached server is given.

A server takes 1 to 250 bytes without spaces and control characters, and treats
anything else as part of a command. Short safe keys stay readable, for whoever
looks at a server with a debugger; the rest are hashed to 160 bits. The two
never meet: canonical bytes start with a letter, hashed ones with ``#``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from tiered.acceleration import core
from tiered.keys.canonical import canonical
from tiered.typing import Key

__all__ = ["KeyName", "PythonKeyNames", "key_names", "wire_key"]

MAX_READABLE: Final = 120
_UNSAFE: Final = re.compile(rb"[^\x21-\x7e]")


def wire_key(prefix: bytes, name: bytes) -> bytes:
    """The server's key for the canonical bytes *name*, after the safe *prefix*."""
    if len(name) <= MAX_READABLE and not _UNSAFE.search(name):
        return prefix + name
    return prefix + b"#" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()


class KeyName(NamedTuple):
    """A key in the two forms that matter outside the process.

    Attributes:
        signed: prefix and canonical key, as they are bound into a value's signature.
        wire: the server's key.
    """

    signed: bytes
    wire: bytes


_new: Final = tuple.__new__
"""Makes a name in half the time of its own constructor."""


class PythonKeyNames:
    """Gives keys their names.

    Args:
        prefix: before every key on the server; up to 64 bytes that it takes in a key.

    Threads: safe, nothing changes after construction.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self.signed = bytes([len(prefix)]) + prefix

    def __call__(self, key: Key) -> KeyName:
        """The names of *key*. Raises ``KeyEncodingError`` if it has no canonical form."""
        name = canonical(key)
        # The signature covers the prefix too: a value is not to be moved between those.
        return _new(KeyName, (self.signed + name, wire_key(self._prefix, name)))

    def sign(self, key: Key) -> bytes:
        """The first of the names of *key* alone: for who asks no server. Raises as a call."""
        return self.signed + canonical(key)

    def index(self, keys: Iterable[Key]) -> dict[bytes, tuple[Key, KeyName]]:
        """By the server's key: each of *keys*, and its names."""
        names = [(key, self(key)) for key in keys]
        return {pair[1][1]: pair for pair in names}


def key_names(prefix: bytes) -> PythonKeyNames:
    """What gives keys their names, as fast as there is."""
    general = PythonKeyNames(prefix)
    if core is None:
        return general
    names: PythonKeyNames = core.KeyNames(general.signed, prefix, general, KeyName)
    return names
