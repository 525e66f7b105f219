"""One part of a URL: cut into its scheme, what follows, and options; and how it may be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tiered.urls.options import Option
from tiered.urls.schemes import COMMON, SCHEMES, Scheme
from tiered.urls.secret import check_references
from tiered.urls.texts import meant

__all__ = ["Part", "has_loose_at", "parse_part", "shown"]

_SHOWN: Final = 100
"""Characters of a part in a message."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one part says.

    Attributes:
        scheme: the kind of client.
        body: what stands between the scheme and the options, encoded still.
        common: the options that are none of the client's, by their names.
        arguments: for the client, by their names there.
    """

    scheme: Scheme
    body: str
    common: dict[str, Any]
    arguments: dict[str, Any]


def parse_part(text: str) -> Part:
    """The part that *text* is, with its options read and its secrets fetched.

    Raises:
        ValueError: it is none; the message says why, and holds no secret.
    """
    if not text:
        raise ValueError("it is empty; parts are divided by one |, as in 'inproc:1000 | null:'")
    head, question, query = text.partition("?")
    scheme, body = _scheme(head)
    if "#" in text:
        raise ValueError("a # must be written as %23")
    known = {**scheme.options, **COMMON}
    texts = _texts(query, known, scheme) if question else {}
    read = {name: known[name].read(value) for name, value in texts.items()}
    common = {name: read.pop(name) for name in COMMON if name in read}
    arguments = {known[name].argument or name: value for name, value in read.items()}
    return Part(scheme, body, common, arguments)


def _scheme(head: str) -> tuple[Scheme, str]:
    """The scheme that *head* begins with, and the rest of it without ``//``."""
    name, colon, rest = head.partition(":")
    scheme = SCHEMES.get(name.lower()) if colon else None
    if scheme is None:
        forms = ", ".join(each.form for each in SCHEMES.values())
        what = f"{name!r} is no scheme" if colon else "it has no scheme"
        raise ValueError(f"{what}{meant(name.lower(), SCHEMES)} (parts are written {forms})")
    return scheme, rest.removeprefix("//")


def _texts(query: str, known: dict[str, Option], scheme: Scheme) -> dict[str, str]:
    """What stands behind each name in *query*, encoded still."""
    pairs = [one.partition("=") for one in query.split("&")]
    # These first: what else is wrong may be the rest of a secret that was cut at a & in it.
    for name, _, text in pairs:
        if name in known and known[name].is_secret:
            check_references(name, text)
    texts: dict[str, str] = {}
    for name, equals, text in pairs:
        if not name:
            raise ValueError("an option has no name; options are written ?name=value&name=value")
        if name not in known:
            raise ValueError(_unknown(name, known, scheme))
        if not equals or not text:
            raise ValueError(f"{name} has no value; write {name}=..., {known[name].kind.right}")
        if name in texts:
            raise ValueError(f"{name} is given twice")
        texts[name] = text
    return texts


def _unknown(name: str, known: dict[str, Option], scheme: Scheme) -> str:
    others = [other.name for other in SCHEMES.values() if name in other.options]
    elsewhere = f", which is one of {', '.join(others)}" if others else ""
    return (
        f"{scheme.name} has no option {name!r}{elsewhere or meant(name, known)} "
        f"(its options are {', '.join(sorted(known))})"
    )


# -- For messages ------------------------------------------------------------------


def has_loose_at(text: str) -> bool:
    """Whether there is an ``@`` where other URLs have a password before it."""
    name, _, rest = text.partition(":")
    is_path = name.strip().lower() == "files" and rest.removeprefix("//").startswith("/")
    return "@" in text and not is_path


def shown(text: str) -> str:
    """*text* as a message may show it: with nothing in it that may be a secret."""
    head, question, query = text.partition("?")
    name, _, rest = head.partition(":")
    if has_loose_at(text):
        # What stands before a : may be the half of a password that has a | in it.
        return f"{name}://***" if rest.startswith("//") and "@" not in name else "***"
    if question:
        scheme = SCHEMES.get(name.lower())
        known = COMMON if scheme is None else {**scheme.options, **COMMON}
        options = (_shown_option(*one.partition("="), known) for one in query.split("&"))
        head = f"{head}?{'&'.join(options)}"
    return head if len(head) <= _SHOWN else f"{head[:_SHOWN]}..."


def _shown_option(name: str, equals: str, text: str, known: dict[str, Option]) -> str:
    option = known.get(name)
    if option is None:
        # The name may be a misspelt one of a secret, or the rest of one.
        return "***" if name or text else equals
    if option.is_secret:
        try:
            check_references(name, text)
        except ValueError:
            text = "***"
    return f"{name}{equals}{text}"
