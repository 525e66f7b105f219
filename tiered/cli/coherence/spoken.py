"""What a bus says, one line each: for people, or as JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from typing import Any, Final

from tiered.coherence.messages import NODE_SIZE, Event, Kind
from tiered.coherence.names import topic_of
from tiered.keys.readable import readable

__all__ = ["Phrasing", "unanswered"]

_KIND_WIDTH: Final = max(len(kind.name) for kind in Kind)


def unanswered(addresses: Iterable[str]) -> str:
    """That no broker answers at *addresses*."""
    where = ", ".join(addresses)
    return f"no broker answers at {where}; nobody is there, or the key is another one"


class Phrasing:
    """Puts events, and what becomes of the broker, into words.

    Args:
        namespaces: those whose names are known; of others only a hash is on the bus.
        as_json: give JSON.
    """

    def __init__(self, namespaces: Iterable[str], *, as_json: bool) -> None:
        self._namespaces = {topic_of(namespace): namespace for namespace in namespaces}
        self._as_json = as_json

    def event(self, when: float, event: Event) -> str:
        """Something has changed; *when* is seconds since 1970."""
        kind, topic, name = event
        # A probe's name tells who asks, and then what about.
        key = readable(name[NODE_SIZE:] if kind is Kind.PROBE else name) if name else ""
        namespace = self._namespaces.get(topic)
        if not self._as_json:
            where = namespace if namespace is not None else topic.hex()
            shown = where if where.isprintable() else ascii(where)
            return f"{_time(when)}  {kind.name.lower():<{_KIND_WIDTH}}  {shown}  {key}".rstrip()
        return _line(
            when,
            kind.name.lower(),
            namespace=namespace,
            topic=topic.hex(),
            key=key,
            name=name.hex(),
        )

    def news(self, when: float, what: str, words: str = "", **facts: Any) -> str:
        """Something has become of the broker, told by *words* or by *facts*."""
        if self._as_json:
            return _line(when, what, **facts)
        return f"{_time(when)}  -- {what}{': ' * bool(words)}{words}"


def _line(when: float, what: str, **facts: Any) -> str:
    return json.dumps({"time": round(when, 6), "event": what, **facts})


def _time(when: float) -> str:
    moment = datetime.datetime.fromtimestamp(when, datetime.UTC).astimezone()
    return moment.replace(tzinfo=None).isoformat(" ", "milliseconds")
