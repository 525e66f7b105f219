"""Asking brokers who is there, without taking part."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import zmq

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.messages import NODE_SIZE, Inquire, Report
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import parse_bus_addresses
from tiered.coherence.zeromq.election import Prospect
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.link import Link
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.security import CurveKeys, checked_keys, require_protection
from tiered.coherence.zeromq.tuning import Context
from tiered.typing import Clock
from tiered.validation import check_number

__all__ = ["Inquiry", "Reported"]

_AT_ONCE: Final = 64


class Reported(NamedTuple):
    """What the broker at *address* says."""

    address: str
    report: Report


class Inquiry:
    """Asks the brokers at *addresses*, all of them.

    Args:
        addresses, key, curve: as its nodes have them (:class:`ZmqBus
            <tiered.coherence.zeromq.bus.ZmqBus>`).
        timeout: seconds for which an address may take to answer.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: one.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        key: str | bytes | Sequence[str | bytes] | None = None,
        curve: CurveKeys | None = None,
        timeout: float = 2.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._addresses = parse_bus_addresses(addresses)
        keys = checked_keys(key)
        require_protection(self._addresses, keys, curve)
        self._wire = Wire(keys)
        self._curve = curve
        self._timeout = check_number("timeout", timeout, low=0.0, hint="seconds, 0 or more")
        self._clock = clock

    def ask(self) -> list[Reported]:
        """Who answers, in the order of the addresses."""
        context: Context = zmq.Context()
        asking = _Asking(context, ForeignCount(self._clock))
        try:
            for number, address in enumerate(self._addresses):
                try:
                    link = Link(
                        context,
                        address,
                        wire=self._wire,
                        curve=self._curve,
                        foreign=asking.foreign,
                    )
                except OSError:
                    continue  # a name that has no address: nobody is there
                asking.add(number, link)
            self._wait(asking)
            return [
                Reported(str(self._addresses[number]), report)
                for number, report in sorted(asking.reports.items())
            ]
        finally:
            asking.close()
            context.term()

    def _wait(self, asking: _Asking) -> None:
        now = self._clock.monotonic
        until = now() + self._timeout
        while asking.is_open and now() < until:
            asking.readiness.act(asking.readiness.wait(until - now()))


class _Asking:
    """The connections of one round."""

    def __init__(self, context: Context, foreign: ForeignCount) -> None:
        self.foreign = foreign
        self.readiness = Readiness()
        self.reports: dict[int, Report] = {}
        self._node = secrets.token_bytes(NODE_SIZE)
        self._nonce = secrets.randbits(63)
        self._links: dict[int, Link] = {}

    def add(self, number: int, link: Link) -> None:
        self._links[number] = link
        self.readiness.add(link.monitor, partial(self._watch, number))
        self.readiness.add(link.socket, partial(self._receive, number))

    @property
    def is_open(self) -> bool:
        """Whether an answer may come."""
        return any(
            number not in self.reports and link.prospect is not Prospect.VACANT
            for number, link in self._links.items()
        )

    def _watch(self, number: int) -> None:
        link = self._links[number]
        link.watch()
        if link.prospect is Prospect.THERE:
            link.send(Inquire(self._node, self._nonce))

    def _receive(self, number: int) -> None:
        for message in self._links[number].receive(_AT_ONCE):
            if isinstance(message, Report) and message.nonce == self._nonce:
                self.reports[number] = message

    def close(self) -> None:
        for link in self._links.values():
            self.readiness.remove(link.monitor)
            self.readiness.remove(link.socket)
            link.close()
