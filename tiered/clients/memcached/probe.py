"""What a server is: its release, its limits, its clock, and which run of it this is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from tiered.clients.memcached.meta import EARLY_META, META, MetaDialect
from tiered.clients.memcached.replies import refuse
from tiered.clients.memcached.stream import Stream
from tiered.clients.memcached.text import TEXT, TextDialect
from tiered.clock import SYSTEM_CLOCK
from tiered.errors import BackendError, ServerRefusal

__all__ = [
    "USUAL_ITEM_LIMIT",
    "Dialect",
    "Knowledge",
    "Profile",
    "ask_stats",
    "authenticate",
    "probe",
]

Dialect: TypeAlias = MetaDialect | TextDialect

_META_SINCE: Final = (1, 6, 10)
_TOKENS_SINCE: Final = (1, 6, 18)
"""Releases that are known to answer a write with its token; earlier ones may refuse to."""

_RELEASE: Final = re.compile(rb"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
USUAL_ITEM_LIMIT: Final = 1024 * 1024
"""Bytes; servers are started with another by ``-I``."""

_MAX_FIGURES: Final = 10_000


class Profile(NamedTuple):
    """A server as a connection found it.

    Attributes:
        release: what it calls its version.
        dialect: the commands to use with it.
        run: tells one run of the server from the next; ``None`` if it does not say.
        clock_offset: seconds that its clock is ahead of ours.
        item_limit: bytes of the largest item.
    """

    release: str
    dialect: Dialect
    run: tuple[str, ...] | None = None
    clock_offset: float = 0.0
    item_limit: int = USUAL_ITEM_LIMIT


class Knowledge:
    """What was last found out about a server.

    Attributes:
        profile: by the last connection that was opened; ``None`` before the first.
        on_news: called when it has changed.

    Threads: safe; the last one to find out is right.
    """

    __slots__ = ("on_news", "profile")

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.on_news: Callable[[], None] | None = None

    def learn(self, profile: Profile) -> None:
        """*profile* was found out just now."""
        is_news = profile is not self.profile
        self.profile = profile
        if is_news and self.on_news is not None:
            self.on_news()


def probe(stream: Stream, known: Profile | None = None) -> Profile:
    """Find out what is at the other end; of a run that is *known*, only what may change.

    Raises:
        BackendError: nothing that a memcached would say.
    """
    stream.send(b"version\r\nmn\r\nstats\r\n")
    said = stream.line()
    if b"unauthenticated" in said:  # all that it says, whatever else it is asked
        raise BackendError(f"the server wants a user and password: {said[:80]!r}")
    meta = stream.line() == b"MN"
    figures = _figures(stream)
    stream.settle()
    release = said.removeprefix(b"VERSION ").decode("ascii", "replace")
    if said.startswith(b"VERSION ") and known is not None:
        dialect = _dialect(said, meta)
        if (release, dialect, run := _run(figures)) == (known.release, known.dialect, known.run):
            return known
    elif not said.startswith((b"VERSION ", b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
        raise BackendError(f"{said[:80]!r} is not what a memcached says of its version")
    dialect = _dialect(said, meta)
    run = _run(figures)
    return Profile(release, dialect, run, _clock_offset(figures), _item_limit(stream))


def _dialect(said: bytes, meta: bool) -> Dialect:
    """Of a server that has *said* its version, and may know ``mn``."""
    match = _RELEASE.search(said)
    if not meta:
        return TEXT
    if match is None:
        return EARLY_META  # a release of somebody's own
    release = tuple(int(part or 0) for part in match.groups())
    if release < _META_SINCE:
        return TEXT  # before the meta commands became what they are
    return META if release >= _TOKENS_SINCE else EARLY_META


def ask_stats(stream: Stream, about: str = "") -> dict[str, str]:
    """The server's own counters, or those *about* one thing, by name.

    Raises:
        ServerRefusal: it has none.
    """
    stream.send(f"stats {about}".strip().encode() + b"\r\n")
    return _figures(stream, strict=True)


def _figures(stream: Stream, *, strict: bool = False) -> dict[str, str]:
    figures: dict[str, str] = {}
    for _ in range(_MAX_FIGURES):
        line = stream.line()
        if line == b"END":
            return figures
        if not line.startswith(b"STAT "):
            if line.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
                if strict:
                    raise ServerRefusal(f"the server answers {line[:80]!r}")
                return {}  # a proxy, say
            refuse(line)
        _, name, value = [*line.decode("utf-8", "replace").split(" ", 2), ""][:3]
        figures[name] = value
    raise BackendError("the server's statistics have no end")


def _run(figures: dict[str, str]) -> tuple[str, ...] | None:
    try:
        started = int(figures["time"]) - int(figures["uptime"])
        return figures["pid"], str(started)
    except (KeyError, ValueError):
        return None


def _clock_offset(figures: dict[str, str]) -> float:
    try:
        offset = int(figures["time"]) - SYSTEM_CLOCK.wall()
    except (KeyError, ValueError, OverflowError):
        return 0.0
    # Less is the second that was not over yet, the way, and a server on a busy machine, which
    # counts its seconds late.
    return offset if abs(offset) > 3.0 else 0.0


def _item_limit(stream: Stream) -> int:
    stream.send(b"stats settings\r\n")
    figures = _figures(stream)
    stream.settle()
    try:
        limit = int(figures["item_size_max"])
    except (KeyError, ValueError):
        return USUAL_ITEM_LIMIT
    return limit if limit >= 1024 else USUAL_ITEM_LIMIT


def authenticate(stream: Stream, credentials: tuple[str, str]) -> None:
    """Say who we are, as servers that were started with ``-Y`` want it.

    Raises:
        BackendError: user or password are not right.
    """
    secret = " ".join(credentials).encode()
    stream.send(b"set auth 0 0 %d\r\n%b\r\n" % (len(secret), secret))
    if (line := stream.line()) != b"STORED":
        raise BackendError(f"the server does not accept the user and password: {line[:80]!r}")
    stream.settle()
