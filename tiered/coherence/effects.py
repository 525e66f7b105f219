"""What the roles of the protocol want done, as data, and what befalls a node besides messages."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, TypeAlias

from tiered.coherence.messages import Block, BrokerMessage, NodeMessage, Report

__all__ = [
    "Accepted",
    "Answered",
    "Apply",
    "BrokerEffect",
    "Distrust",
    "Extend",
    "Found",
    "Gone",
    "NodeEffect",
    "Overdue",
    "Passed",
    "Reported",
    "Route",
    "Seek",
    "Send",
    "SendAll",
    "SendTo",
    "SettledUpTo",
    "Time",
]

Route: TypeAlias = Hashable
"""How the transport knows the way to a node."""


# -- What happens to a node besides messages ------------------------------------------


class Found(NamedTuple):
    """There is a way to a broker (again): messages will reach it, as far as is known."""


class Gone(NamedTuple):
    """The way to the broker is gone."""


class Time(NamedTuple):
    """Time has passed."""


# -- What a node wants done ------------------------------------------------------------


class Send(NamedTuple):
    """Send *message* to the broker; to whom a route leads, where a broker sends."""

    message: NodeMessage


class Apply(NamedTuple):
    """Have the members hear the events of *block*."""

    block: Block


class Distrust(NamedTuple):
    """Events may be missing: have all that is held confirmed."""

    reason: str


class Extend(NamedTuple):
    """What is held may be served until *until* (monotonic) while *epoch* is followed.

    ``-inf`` ends it now.
    """

    epoch: int
    until: float


class Accepted(NamedTuple):
    """The broker has our events up to *serial* in its order."""

    serial: int


class SettledUpTo(NamedTuple):
    """All live nodes have applied our urgent events up to *serial*."""

    serial: int


class Answered(NamedTuple):
    """The claim *question* was granted under *token*, or (0) is held by another for *left* s."""

    question: int
    token: int
    left: float


class Passed(NamedTuple):
    """*payload* came from *node*."""

    node: bytes
    payload: bytes


class Reported(NamedTuple):
    """The broker's answer to an ``Inquire``."""

    report: Report


class Overdue(NamedTuple):
    """Our events wait for a broker's acceptance for longer than half the detection time.

    Said once of each of them; it is as true of those that were published since.
    """


class Seek(NamedTuple):
    """Look for a broker: ``Found`` is expected then."""


NodeEffect: TypeAlias = (
    Send
    | Apply
    | Distrust
    | Extend
    | Accepted
    | SettledUpTo
    | Answered
    | Passed
    | Reported
    | Overdue
    | Seek
)


# -- What a broker wants done ----------------------------------------------------------


class SendTo(NamedTuple):
    """Send *message* along *route*."""

    route: Route
    message: BrokerMessage


class SendAll(NamedTuple):
    """Send *message* along each of *routes*."""

    routes: tuple[Route, ...]
    message: BrokerMessage


BrokerEffect: TypeAlias = SendTo | SendAll
