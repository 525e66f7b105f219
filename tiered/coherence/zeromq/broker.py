"""A broker in a process of its own."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.bus import BusStats
from tiered.coherence.messages import BrokerMessage, Row
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import parse_bus_addresses
from tiered.coherence.zeromq.desk import Desk
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.inherited import close_copies, keep_for_ever
from tiered.coherence.zeromq.listener import Listener
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.security import CurveKeys, checked_keys, require_protection
from tiered.concurrency import fork
from tiered.typing import Clock
from tiered.validation import check_count, check_number

__all__ = ["ZmqBroker"]

_LINGER: Final = 0.3
"""Seconds for which what was sent last may take to leave."""


class ZmqBroker:
    """A broker and nothing else: nodes come and go, it stays.

    Constructed without doing anything.

    Args:
        addresses: where to be found; ``"tcp://*:port"`` is all addresses of this machine.
        key, curve, detection: as its nodes have them (:class:`ZmqBus
            <tiered.coherence.zeromq.bus.ZmqBus>`).
        journal_events, journal_bytes: what is kept for nodes that missed events.
        clock: of all deadlines.

    Raises:
        TypeError, ValueError: an argument that cannot be right; addresses that others can
            reach, without a key or curve.

    Threads: :meth:`run` is for one; the rest is safe.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        key: str | bytes | Sequence[str | bytes] | None = None,
        curve: CurveKeys | None = None,
        detection: float = 1.0,
        journal_events: int = 100_000,
        journal_bytes: int = 16 * 1024 * 1024,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._addresses = parse_bus_addresses(addresses, wildcard=True)
        keys = checked_keys(key)
        require_protection(self._addresses, keys, curve)
        self._wire = Wire(keys)
        self._curve = curve
        self._detection = check_number("detection", detection, low=0.01, hint="0.01 s or more")
        self._journal_events = check_count("journal_events", journal_events, low=1)
        self._journal_bytes = check_count("journal_bytes", journal_bytes, low=1)
        self._clock = clock
        self._foreign = ForeignCount(clock)
        self._readiness: Readiness | None = None
        self._stopped = False
        self._desk: Desk | None = None
        fork.register(self)

    def after_fork(self) -> None:
        """The sockets are the parent's."""
        desk, self._desk = self._desk, None
        readiness, self._readiness = self._readiness, None
        if desk is not None:
            keep_for_ever((desk, readiness))
            close_copies(desk.listener.located)

    def run(self) -> None:
        """Be the broker until :meth:`stop`.

        Raises:
            OSError: an address cannot be bound, or the file of a local one was removed or
                replaced since; the message names it.
        """
        readiness = self._readiness = Readiness()
        listener = Listener(
            self._addresses,
            wire=self._wire,
            curve=self._curve,
            foreign=self._foreign,
            clock=self._clock,
        )
        desk = self._desk = Desk(self._protocol(), listener, self._wire, self._clock, _nobody)
        desk.open(readiness)
        now, pause = self._clock.monotonic, self._detection / 8
        tick_at = now()
        try:
            while not self._stopped:
                readiness.act(readiness.wait(tick_at - now()))
                if now() >= tick_at:
                    tick_at = now() + pause
                    if not listener.in_place:
                        where = ", ".join(map(str, self._addresses))
                        raise OSError(f"the files of {where} were removed or replaced")
                    desk.tick()
        finally:
            self._desk = self._readiness = None
            self._stopped = False
            desk.close(readiness, _LINGER)

    def stop(self) -> None:
        """Have :meth:`run` tell all nodes to look for another broker, and return.

        From any thread, and from a signal's handler. Before :meth:`run`, it returns at once.
        """
        self._stopped = True
        readiness = self._readiness
        if readiness is not None:
            readiness.bell.ring()

    def _protocol(self) -> BrokerProtocol:
        return BrokerProtocol(
            secrets.randbits(63) | 1,
            self._clock.monotonic(),
            detection=self._detection,
            journal_events=self._journal_events,
            journal_bytes=self._journal_bytes,
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """Who follows, and how far each has come; none while it does not run."""
        desk = self._desk
        return () if desk is None else tuple(desk.protocol.rows(self._clock.monotonic()))

    @property
    def stats(self) -> BusStats:
        """What is known and counted; of the bus, not of a node."""
        desk = self._desk
        if desk is None:
            return BusStats(foreign=self._foreign.count)
        protocol = desk.protocol
        return BusStats(
            role="broker",
            phase=protocol.phase.value,
            broker=", ".join(map(str, self._addresses)),
            epoch=protocol.epoch,
            seq=protocol.seq,
            nodes=protocol.nodes,
            foreign=self._foreign.count,
        )


def _nobody(message: BrokerMessage) -> None:
    """There is no node in this thread."""
