"""The options of a memcached client, checked: each returns what is right, or raises and says it."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Sequence
from typing import Any, Final

from tiered.routing.discovery import CallableDiscovery, Discovery, StaticDiscovery
from tiered.validation import check_number

__all__ = [
    "checked_context",
    "checked_prefix",
    "checked_seconds",
    "credentials_of",
    "discovery_of",
]

_PREFIX: Final = re.compile(r"[\x21-\x7e]{0,64}")


def discovery_of(addresses: Any, weights: Sequence[int] | None) -> Discovery:
    """What tells the servers, from what users give as their addresses."""
    if callable(addresses):
        found: Discovery = CallableDiscovery(addresses)
    elif hasattr(addresses, "find") and not isinstance(addresses, str | bytes):
        found = addresses
    else:
        return StaticDiscovery(addresses, weights)
    if weights is not None:
        raise TypeError("weights are for a list of addresses; a discovery tells them itself")
    return found


def checked_context(context: Any) -> ssl.SSLContext | None:
    """*context* if it is one, or ``None``."""
    if context is not None and not isinstance(context, ssl.SSLContext):
        raise TypeError(f"tls_context must be an ssl.SSLContext, not {context!r}")
    return context


def credentials_of(username: Any, password: Any) -> tuple[str, str] | None:
    """User and password, if they are given and can be sent."""
    if username is None and password is None:
        return None
    for name, given in (("username", username), ("password", password)):
        # The password itself stays out of the message: messages end up in logs.
        if not isinstance(given, str) or not given or re.search(r"[\s\x00]", given):
            raise ValueError(
                f"{name} must be text without spaces, and go together with the other of "
                f"username and password"
            )
    return username, password


def checked_prefix(prefix: Any) -> bytes:
    """*prefix* as it stands in a server's keys."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"prefix must be up to 64 printable characters without spaces, not {prefix!r}"
        )
    return prefix.encode()


def checked_seconds(name: str, value: float) -> float:
    """*value* if it is a time that a call may take."""
    seconds = check_number(name, value, low=0.0, hint="a positive number of seconds")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a positive, finite number of seconds, not {value!r}")
    return seconds
