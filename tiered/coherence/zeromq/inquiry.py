"""Asks a broker who is there, without taking part."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import zmq

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.messages import NODE_SIZE, Inquire, Report
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import parse_bus_address
from tiered.coherence.zeromq.election import Prospect
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.link import Link
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.security import CurveKeys, checked_keys, require_protection
from tiered.coherence.zeromq.tuning import Context
from tiered.typing import Clock

__all__ = ["inquire"]


def inquire(
    address: str,
    *,
    key: str | bytes | Sequence[str | bytes] | None = None,
    curve: CurveKeys | None = None,
    timeout: float = 2.0,
    clock: Clock = SYSTEM_CLOCK,
) -> Report | None:
    """What the broker at *address* says of itself and its nodes.

    Args:
        key, curve: as the nodes of the bus have them.
        timeout: seconds to wait for an answer.

    Returns:
        its report; ``None`` if nobody has answered, or nobody who has the key.

    Raises:
        TypeError, ValueError: an argument that cannot be right.
        OSError: the address is a name that cannot be resolved.
    """
    parsed = parse_bus_address(address)
    keys = checked_keys(key)
    require_protection([parsed], keys, curve)
    context: Context = zmq.Context()
    try:
        link = Link(context, parsed, wire=Wire(keys), curve=curve, foreign=ForeignCount(clock))
        try:
            return _answer(link, clock, clock.monotonic() + timeout)
        finally:
            link.close()
    finally:
        context.term()


def _answer(link: Link, clock: Clock, until: float) -> Report | None:
    question = Inquire(secrets.token_bytes(NODE_SIZE), secrets.randbits(63))
    readiness = Readiness()
    readiness.add(link.socket, lambda: None)
    readiness.add(link.monitor, link.watch)
    asked = False
    while clock.monotonic() < until:
        readiness.act(readiness.wait(until - clock.monotonic()))
        if not asked and link.prospect is Prospect.THERE:
            asked = link.send(question)
        for message in link.receive(1):
            if isinstance(message, Report) and message.nonce == question.nonce:
                return message
    return None
