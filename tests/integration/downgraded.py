"""Servers of other ages, made of a modern one and a proxy that answers in its place."""

from __future__ import annotations

from typing import Final

from tests.integration.proxy import Pretence, Proxy

__all__ = ["KINDS", "downgraded"]

INVALID: Final = b"CLIENT_ERROR invalid flag\r\n"
_META: Final = (b"mg", b"ms", b"md", b"mn", b"ma", b"me")


def _text_only(request: bytes) -> bytes | None:
    """1.4: no meta command, and a value that comes with one is taken for commands too."""
    command = request.split()[:1]
    if command == [b"version"]:
        return b"VERSION 1.4.33\r\n"
    if not command or command[0] not in _META:
        return None
    return b"ERROR\r\n" * request.count(b"\n")


def _early_meta(request: bytes) -> bytes | None:
    """1.6.9: ``OK`` for ``HD``, and ``ms`` told the length in a flag."""
    command, *words = request.partition(b"\r\n")[0].split() or [b""]
    if command == b"version":
        return b"VERSION 1.6.9\r\n"
    if command == b"ms":
        lines = request.count(b"\n") - 1
        return b"CLIENT_ERROR bad command line format\r\n" + b"ERROR\r\n" * lines
    if command in (b"mg", b"md"):
        return b"EN\r\n" if b"v" in words else b"OK\r\n"
    return None


def _few_flags(request: bytes) -> bytes | None:
    """1.6.18, as Debian 12 has it: no ``E``, ``x`` or ``mg C``."""
    command, *words = request.partition(b"\r\n")[0].split() or [b""]
    if command == b"version":
        return b"VERSION 1.6.18\r\n"
    unknown = {b"mg": b"ExC", b"ms": b"Ex", b"md": b"Ex"}.get(command, b"")
    flags = {word[:1] for word in words[2 if command == b"ms" else 1 :]}
    return INVALID if any(flag in unknown for flag in flags) else None


KINDS: Final[dict[str, Pretence | None]] = {
    "modern": None,
    "text": _text_only,
    "early meta": _early_meta,
    "few flags": _few_flags,
}


def downgraded(address: str, kind: str) -> Proxy:
    """A proxy that makes the memcached at *address* look like one of another age."""
    return Proxy(address, KINDS[kind])
