"""Canonical bytes to the key that a memcached server is given.

A server takes 1 to 250 bytes without spaces and control characters, and treats
anything else as part of a command. Short safe keys stay readable, for whoever
looks at a server with a debugger; the rest are hashed to 160 bits. The two
never meet: canonical bytes start with a letter, hashed ones with ``#``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = ["wire_key"]

MAX_READABLE: Final = 120
_UNSAFE: Final = re.compile(rb"[^\x21-\x7e]")


def wire_key(prefix: bytes, name: bytes) -> bytes:
    """The server's key for the canonical bytes *name*, after the safe *prefix*."""
    if len(name) <= MAX_READABLE and not _UNSAFE.search(name):
        return prefix + name
    return prefix + b"#" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()
