"""What passes on the bus, as data: events, and the messages that nodes and brokers exchange.

An *event* says that something under one name of one topic has changed. Nodes publish events,
the broker puts them in order and sends them to every node, and never looks into them: a
:class:`Publish` and a :class:`Block` carry them as they are encoded (:func:`packed`).

Everything else keeps the order whole. A node and a broker find out with these messages who
is there, what one of them has missed, and until when silence means that nothing has changed.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from tiered.acceleration import core

__all__ = [
    "ALL_TOPICS",
    "MOST_NAME",
    "NOBODY",
    "NODE_SIZE",
    "TOPIC_SIZE",
    "Block",
    "BrokerMessage",
    "Bye",
    "ClaimKey",
    "Event",
    "Granted",
    "Held",
    "Hello",
    "Inquire",
    "Kind",
    "Leave",
    "Lost",
    "NodeMessage",
    "Ping",
    "Pong",
    "Publish",
    "ReleaseKey",
    "Replay",
    "Report",
    "Row",
    "Settled",
    "Stranger",
    "Tell",
    "Told",
    "Welcome",
    "made",
    "packed",
    "packed_names",
    "unpacked",
    "without",
]

TOPIC_SIZE: Final = 8
NODE_SIZE: Final = 8
MOST_NAME: Final = 255
"""Bytes of a name."""

ALL_TOPICS: Final = bytes(TOPIC_SIZE)
NOBODY: Final = bytes(NODE_SIZE)
"""The origin of what brokers themselves have to say."""


made: Final = tuple.__new__
"""``made(Event, (kind, topic, name))`` is ``Event(kind, topic, name)``, without the call of a
function: for messages and effects of which there is one in each change."""


class Kind(enum.IntEnum):
    """What has happened to what lies under an event's name."""

    DELETE = 1
    """It is gone."""
    EXPIRE = 2
    """It is stale, and kept."""
    CLEAR = 3
    """All of the topic is gone; the name is empty."""
    STORED = 4
    """It was replaced: older copies are out of date."""
    DONE = 5
    """It was computed: whoever waits for that can read it."""
    ABORT = 6
    """Its computation was given up: whoever waits for that may do it."""
    CHANGED = 7
    """What all have agreed on under this name is another thing now."""
    DISTRUST = 8
    """Events may be missing: what is held of the topic is to be confirmed; no name."""
    PROBE = 9
    """A question to all who hold it: is it this version? The name tells which one."""


class Event(NamedTuple):
    """Something has changed.

    Attributes:
        kind: what.
        topic: 8 bytes that stand for the namespace; ``ALL_TOPICS`` for all of them.
        name: of the key, up to 255 bytes (:mod:`tiered.coherence.names`).
    """

    kind: Kind
    topic: bytes
    name: bytes


_HEAD: Final = struct.Struct(f">B{TOPIC_SIZE}sB")
_KINDS: Final = {int(kind): kind for kind in Kind}


def packed(events: Iterable[Event]) -> bytes:
    """*events*, one after the other."""
    return b"".join(
        [_HEAD.pack(kind, topic, len(name)) + name for kind, topic, name in events],
    )


def packed_names(kind: Kind, topic: bytes, names: Sequence[bytes]) -> bytes:
    """The same for events of one *kind* and *topic*."""
    if len(names) == 1:
        name = names[0]
        return b"%c%b%c%b" % (kind, topic, len(name), name)
    return packed([Event(kind, topic, name) for name in names])


def _unpacked(size: int, data: bytes) -> Iterable[Event]:
    at, end, head, read = 0, len(data), _HEAD.size, _HEAD.unpack_from
    for _ in range(size):
        if at + head > end:
            raise ValueError(f"{size} events do not fit into {end} bytes")
        number, topic, length = read(data, at)
        at += head
        name = data[at : at + length]
        at += length
        if at > end:
            raise ValueError(f"{size} events do not fit into {end} bytes")
        yield made(Event, (_KINDS.get(number, Kind.DISTRUST), topic, name))
    if at != end:
        raise ValueError(f"{end - at} bytes after {size} events")


unpacked: Callable[[int, bytes], Iterable[Event]] = (
    _unpacked if core is None else core.EventsReader(Event, _KINDS, _unpacked)
)
"""``unpacked(size, data)``: the *size* events in *data*. What is of an unknown kind, a newer
node's, is distrust.

Raises:
    ValueError: that is not what *data* holds. What comes before the fault is given first.
"""


def without(skipped: int, events: bytes) -> bytes:
    """*events* without the first *skipped*.

    Raises:
        ValueError: there are not as many.
    """
    at, head = 0, _HEAD.size
    for _ in range(skipped):
        if at + head > len(events):
            raise ValueError(f"{len(events)} bytes hold no {skipped} events")
        at += head + events[at + head - 1]
    if at > len(events):
        raise ValueError(f"{len(events)} bytes hold no {skipped} events")
    return events[at:]


# -- From a node to a broker ---------------------------------------------------------


class Hello(NamedTuple):
    """A node wants to follow.

    Attributes:
        node: who.
        nonce: to be given back in the :class:`Welcome`.
        epoch: that it has followed until now; 0 for none.
        seq: up to which it has applied that epoch's events.
        serial: of its first event that no broker has acknowledged yet.
        label: for people: host, process.
    """

    node: bytes
    nonce: int
    epoch: int
    seq: int
    serial: int
    label: str


class Publish(NamedTuple):
    """Events of a node, with consecutive serials from *first* on.

    Attributes:
        node, epoch: who, and in which order of things.
        first: serial of the first event.
        size: of events in *events*.
        events: as :func:`packed` has them.
        urgent: have everybody tell at once when it is applied, and tell me then.
    """

    node: bytes
    epoch: int
    first: int
    size: int
    events: bytes
    urgent: bool


class Ping(NamedTuple):
    """A sign of life; *seq* is what is applied. Answered by a ``Pong``, unless *nonce* is 0."""

    node: bytes
    epoch: int
    nonce: int
    seq: int


class Replay(NamedTuple):
    """Send again what comes after *after*."""

    node: bytes
    epoch: int
    after: int


class ClaimKey(NamedTuple):
    """May I compute this? For *ttl* milliseconds. Answered by ``Granted`` or ``Held``."""

    node: bytes
    epoch: int
    question: int
    topic: bytes
    name: bytes
    ttl: int


class ReleaseKey(NamedTuple):
    """The claim that was granted with *token* is over."""

    node: bytes
    epoch: int
    topic: bytes
    name: bytes
    token: int


class Tell(NamedTuple):
    """Pass *payload* on to the node *to*."""

    node: bytes
    epoch: int
    to: bytes
    payload: bytes


class Inquire(NamedTuple):
    """Who is there? From anybody, member or not; answered by a :class:`Report`."""

    node: bytes
    nonce: int


class Bye(NamedTuple):
    """The node leaves, and serves nothing on this broker's word any more."""

    node: bytes
    epoch: int


# -- From a broker to a node ---------------------------------------------------------


class Welcome(NamedTuple):
    """You are heard of. Events after *seq* will come by themselves.

    Attributes:
        nonce: of the ``Hello``.
        epoch: of this broker.
        seq: of the newest event.
        serial: up to which the node's own events are known here.
    """

    nonce: int
    epoch: int
    seq: int
    serial: int


class Block(NamedTuple):
    """Events in their order, the first of them number *first* of *epoch*.

    Attributes:
        node: whose they are; ``NOBODY`` if the broker's own.
        serial: of the first one, as that node counts.
        size, events: as in ``Publish``.
        urgent: whether to tell at once when it is applied (by a ``Ping`` with nonce 0).
    """

    epoch: int
    first: int
    node: bytes
    serial: int
    size: int
    events: bytes
    urgent: bool


class Pong(NamedTuple):
    """The answer to the ping *nonce*: *seq* was the newest event then.

    With nonce 0, it ends what one ``Replay`` brings: there may be more.
    """

    epoch: int
    nonce: int
    seq: int


class Lost(NamedTuple):
    """What you ask for is not kept any more; events after *seq* will come."""

    epoch: int
    seq: int


class Granted(NamedTuple):
    """The key is yours to compute, under *token*."""

    epoch: int
    question: int
    token: int


class Held(NamedTuple):
    """Somebody else computes it, for *left* milliseconds more at most."""

    epoch: int
    question: int
    left: int


class Settled(NamedTuple):
    """All live nodes have applied your urgent events, up to the one with *serial*."""

    epoch: int
    serial: int


class Told(NamedTuple):
    """*payload* from *node*."""

    epoch: int
    node: bytes
    payload: bytes


class Row(NamedTuple):
    """One node in a :class:`Report`: *seq* is what it has applied, *silent* milliseconds."""

    node: bytes
    label: str
    seq: int
    silent: int


class Report(NamedTuple):
    """Who is there, and how far; *age* of the epoch in milliseconds, *oldest* kept event."""

    epoch: int
    nonce: int
    seq: int
    oldest: int
    age: int
    claims: int
    rows: tuple[Row, ...]


class Stranger(NamedTuple):
    """I do not know you (any more): say hello."""

    epoch: int


class Leave(NamedTuple):
    """This broker is about to end: look for another."""

    epoch: int


NodeMessage: TypeAlias = (
    Hello | Publish | Ping | Replay | ClaimKey | ReleaseKey | Tell | Inquire | Bye
)
BrokerMessage: TypeAlias = (
    Welcome | Block | Pong | Lost | Granted | Held | Settled | Told | Report | Stranger | Leave
)
