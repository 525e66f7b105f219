"""From a URL to tiers."""

from __future__ import annotations

from typing import Any, Final

from tiered.clients.base import CacheClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clock import SYSTEM_CLOCK
from tiered.errors import MissingDependency
from tiered.typing import Clock
from tiered.urls.parts import Part, has_loose_at, parse_part, shown

__all__ = ["from_url"]

_DIVIDER: Final = "|"


def from_url(url: str, *, clock: Clock = SYSTEM_CLOCK) -> CacheClient:
    """The client that *url* names, or tiers of several.

    Parts are divided by ``|``, the nearest tier first: ``"inproc:10000 | files:///path?size=1GB"``,
    ``"inproc:10000 | memcached://h1,h2?checksum_key=env:NAME"``. One part is that client, several
    are a :class:`tiered.TieredInclusiveClient`. Nothing is opened or asked before the first use;
    only secrets are read now, from where the URL says that they are.

    Args:
        url: one part or more. Each is ``scheme:what?option=value&option=value``; what stands for
            something else than itself is percent-encoded. No secret stands in it.
        clock: the source of time of all clients.

    Raises:
        TypeError: *url* is no text.
        ValueError: it cannot be right; the message has the number of the part, its text without
            what may be a secret, and what would be right.
        MissingDependency: a part needs a package that is not there.

    Threads: safe.
    """
    if not isinstance(url, str):
        # Not itself: whatever it is may hold a secret.
        raise TypeError(f"url must be text such as 'inproc:1000', not {type(url).__name__}")
    _check_characters(url)
    texts = [text.strip() for text in url.split(_DIVIDER)]
    # In all parts first: a | in a password makes two of them, and the first shows the half of it.
    for number, text in enumerate(texts, 1):
        if has_loose_at(text):
            raise _refusal(
                number,
                text,
                "an @ must be written as %40; a user and a password are the options "
                "username=NAME and password=env:NAME",
            )
    clients: list[CacheClient] = []
    common: list[dict[str, Any]] = []
    for number, text in enumerate(texts, 1):
        try:
            part = parse_part(text)
            _check_place(part, number, len(texts))
            clients.append(part.scheme.make(part.body, part.arguments, clock))
        except MissingDependency as error:
            raise MissingDependency(f"part {number} ({shown(text)!r}): {error}") from error
        except (TypeError, ValueError) as error:
            raise _refusal(number, text, str(error)) from None
        common.append(part.common)
    return _whole(clients, common)


def _check_characters(url: str) -> None:
    try:
        url.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"url has a character that is no text, at {error.start}") from None


def _check_place(part: Part, number: int, parts: int) -> None:
    """Refuse what only some parts may have."""
    if "namespace" in part.common and number < parts:
        raise ValueError("namespace is for the whole, and must stand in the last part")
    fraction = part.common.get("ttl_fraction")
    if fraction is None:
        return
    if parts == 1:
        raise ValueError("ttl_fraction is for tiers, and there is one part only")
    if not 0 < fraction <= 1:
        raise ValueError(f"ttl_fraction must be above 0 and at most 1, not {fraction!r}")


def _whole(clients: list[CacheClient], common: list[dict[str, Any]]) -> CacheClient:
    client = clients[0]
    if len(clients) > 1:
        fractions = [options.get("ttl_fraction", 1.0) for options in common]
        client = TieredInclusiveClient(*clients, ttl_fractions=fractions)
    namespace = common[-1].get("namespace")
    return client if namespace is None else NamespaceWrapper(namespace, client)


def _refusal(number: int, text: str, problem: str) -> ValueError:
    return ValueError(f"part {number} ({shown(text)!r}): {problem}")
