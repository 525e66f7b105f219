"""Secrets of a URL: named in it, and never part of it.

URLs end up in logs, in lists of processes and in error reports. So a URL says where a secret is,
``env:NAME`` or ``file:/path``, and one that holds the secret itself is refused, without
repeating it.
"""

from __future__ import annotations

import os
import re
from typing import Final

from tiered.urls.texts import unquoted

__all__ = ["check_references", "read_secret", "read_secrets"]

_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:(?:/|%2[Ff]).*", re.DOTALL)
_LARGEST: Final = 65_536
"""Bytes of a file that may be a secret: a wrong path may name anything."""


def check_references(name: str, text: str) -> None:
    """Refuse *text* as the option *name* unless all of it says where secrets are.

    Raises:
        ValueError: it does not; the message does not hold it.
    """
    if not all(_REFERENCE.fullmatch(one) for one in text.split(",")):
        raise ValueError(
            f"{name} is a secret, which must not stand in a URL: URLs end up in logs. Write "
            f"{name}=env:NAME for an environment variable, or {name}=file:/path for a file"
        )


def read_secrets(name: str, text: str) -> list[bytes]:
    """The secrets that *text* names for the option *name*, in its order.

    Raises:
        ValueError: one is not there, or empty.
    """
    return [_read(name, unquoted(reference)) for reference in text.split(",")]


def read_secret(name: str, text: str) -> str:
    """The one secret that *text* names, which is text itself. Raises as :func:`read_secrets`."""
    if "," in text:
        raise ValueError(f"{name} must name one secret, not several")
    try:
        return _read(name, unquoted(text)).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name}={text} holds something else than UTF-8 text") from None


def _read(name: str, reference: str) -> bytes:
    kind, _, place = reference.partition(":")
    if kind == "file":
        return _content(name, place)
    value = os.environ.get(place)
    if not value:
        state = "not set" if value is None else "empty"
        raise ValueError(f"{name} names the environment variable {place!r}, which is {state}")
    # As bytes it is what was set, whatever the locale: not all of it may be text.
    return os.fsencode(value)


def _content(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(
            f"{name} names the file {path!r}, which cannot be read: {error.strerror}"
        ) from None
    if len(content) > _LARGEST:
        raise ValueError(
            f"{name} names the file {path!r}, which has more than {_LARGEST} bytes: that is no key"
        )
    # Editors and echo end a line; nobody means that end to be part of the secret.
    content = content.removesuffix(b"\r\n" if content.endswith(b"\r\n") else b"\n")
    if not content:
        raise ValueError(f"{name} names the file {path!r}, which is empty")
    return content
