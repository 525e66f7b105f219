"""The one thread of a bus: it owns all sockets, and tells the node what happens there."""

from __future__ import annotations

import logging
import math
import random
import secrets
import traceback
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import zmq

from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import Found, Gone, Time
from tiered.coherence.messages import BrokerMessage, Inquire, NodeMessage, Report
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import BusAddress
from tiered.coherence.zeromq.desk import Desk
from tiered.coherence.zeromq.election import Bind, BindResult, Election, Follow, Prospect
from tiered.coherence.zeromq.foreign import LOGGER, ForeignCount
from tiered.coherence.zeromq.inherited import close_copies, keep_for_ever
from tiered.coherence.zeromq.link import Link
from tiered.coherence.zeromq.listener import CannotBind, Listener
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.security import CurveKeys
from tiered.coherence.zeromq.tuning import Context
from tiered.stats.reports import Reports
from tiered.typing import Clock

if TYPE_CHECKING:
    from tiered.coherence.zeromq.bus import ZmqBus

__all__ = ["Driver", "Settings"]

_log: Final = logging.getLogger(LOGGER)

_AT_ONCE: Final = 256
"""Messages that are taken before other sockets have their turn."""
_LINGER: Final = 0.3
"""Seconds for which what was sent last may take to leave."""
_PATIENCE: Final = 0.5
"""Seconds after which an address that says neither yes nor no is taken to be vacant."""
_SOON: Final = 0.2
_SLOWLY: Final = 1.0
"""Seconds between attempts to reach an address: at most, and where that is not urgent."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a bus was made with; see :class:`tiered.coherence.zeromq.bus.ZmqBus`."""

    addresses: tuple[BusAddress, ...]
    wire: Wire
    curve: CurveKeys | None
    detection: float
    candidate: bool
    clock: Clock
    foreign: ForeignCount


class Driver:
    """Looks for a broker or becomes one, and carries the messages of one node.

    Args:
        bus: what it drives; it ends when that is gone.

    Attributes:
        desk: the broker of this thread, if it is one.

    Threads: :meth:`run` is the thread; :meth:`wake` and :meth:`stop` are for others.
    """

    def __init__(self, bus: weakref.ref[ZmqBus], settings: Settings) -> None:
        self._bus = bus
        self._settings = settings
        self._now = settings.clock.monotonic
        self._reports = Reports(LOGGER, settings.clock)
        self._readiness = Readiness()
        self._context: Context
        self.desk: Desk | None = None
        self._own = -1
        self._inward: deque[BrokerMessage] = deque()
        self._links: dict[int, Link] = {}
        self._absent: dict[int, float] = {}
        self._following: int | None = None
        self._election = Election(
            len(settings.addresses),
            candidate=settings.candidate,
            patience=_PATIENCE,
            chance=random.Random(),  # noqa: S311 - spreads attempts, keeps no secret
        )
        self._sleeping = False
        self._stop_at = math.inf
        self._tick_at = self._elect_at = self._inquire_at = -math.inf

    @property
    def followed(self) -> str:
        """The address of the broker that is followed, or ""."""
        following = self._following
        return "" if following is None else str(self._settings.addresses[following])

    # -- For other threads ---------------------------------------------------------

    def wake(self) -> None:
        """Have the thread look at what callers have left. Never waits."""
        if self._sleeping:
            self._sleeping = False
            self._readiness.bell.ring()

    def stop(self, patience: float) -> None:
        """Have the thread end: when all is accepted, or after *patience* seconds."""
        self._stop_at = self._now() + patience
        self._readiness.bell.ring()

    def forget(self) -> None:
        """In a forked child: all of this is the parent's."""
        keep_for_ever(self)
        if self.desk is not None:
            close_copies(self.desk.listener.located)

    # -- The thread ----------------------------------------------------------------

    def run(self) -> None:
        """Drive the bus, until it is gone or :meth:`stop` was called."""
        self._context = zmq.Context()
        try:
            while self._turn():
                pass
        finally:
            self._end()

    def _turn(self) -> bool:
        ready = self._wait()
        bus = self._bus()
        if bus is None or bus.carrier is not self:
            return False
        try:
            self._work(bus, ready)
        except Exception:
            # A member that raises, or a mistake of ours: what was to be applied may not be.
            what = "a turn of the bus was cut short, all copies are distrusted:\n%s"
            self._reports.warn("turn", what, traceback.format_exc())
            bus.lost_track()
        if self._stop_at == math.inf:
            return True
        return bus.owed > 0 and self._now() < self._stop_at

    def _wait(self) -> list[zmq.Socket[bytes] | int]:
        # Said before looking for the last time: whoever leaves something after that rings.
        self._sleeping = True
        bus = self._bus()
        if bus is None or bus.has_work:
            seconds = 0.0
        else:
            seconds = min(self._tick_at, self._elect_at, self._stop_at) - self._now()
        del bus
        ready = self._readiness.wait(seconds)
        self._sleeping = False
        return ready

    def _work(self, bus: ZmqBus, ready: list[zmq.Socket[bytes] | int]) -> None:
        self._readiness.act(ready)
        bus.pump(self._now())
        self._deliver(bus)
        now = self._now()
        if now >= self._tick_at:
            self._tick(bus, now)
        if self._following is None:
            self._look(bus, now)
        elif len(self._links) > 1 and self.desk is None and bus.in_step:
            self._close_links(index for index in self._links if index != self._following)
        self._deliver(bus)

    def _tick(self, bus: ZmqBus, now: float) -> None:
        self._tick_at = now + bus.wakes
        if self.desk is not None:
            if self.desk.listener.in_place:
                self.desk.tick()
            else:
                where = self._settings.addresses[self._own]
                _log.warning("the files of %s were removed or replaced: it is given up", where)
                self._step_down()
                self.seek()
        bus.happened(Time(), now)
        for index, link in list(self._links.items()):
            if link.is_refused:
                self._settings.foreign.refuse(str(link.address), "no common key or language")
                self._close_links([index])
                self._absent[index] = now + _SLOWLY
        for index in [index for index, at in self._absent.items() if now >= at]:
            self._open_link(index)
        if self.desk is not None and self._links and now >= self._inquire_at:
            self._inquire_at = now + self._settings.detection
            for link in self._links.values():
                if link.prospect is Prospect.THERE:
                    link.send(Inquire(bus.node, secrets.randbits(63)))

    # -- Messages ------------------------------------------------------------------

    def send(self, message: NodeMessage) -> None:
        """Send *message* to the broker. What finds no way is lost, and sent again if it matters."""
        try:
            if self.desk is not None:
                self.desk.take(message)
            elif self._following is not None:
                self._links[self._following].send(message)
        except ValueError as error:
            self._reports.warn("too long", "a message was not sent: %s", error)

    def _deliver(self, bus: ZmqBus) -> None:
        """What the broker of this thread has for its node."""
        while self._inward:
            bus.happened(self._inward.popleft(), self._now())

    def _receive(self, index: int) -> None:
        bus = self._bus()
        link = self._links[index]
        for message in link.receive(_AT_ONCE):
            if index == self._following and bus is not None:
                bus.happened(message, self._now())
                if self._links.get(index) is not link:
                    return
            elif self._is_another_broker(message):
                _log.info("another broker is at %s, and comes first", link.address)
                self._step_down()
                self.seek()
                return

    def _is_another_broker(self, message: BrokerMessage) -> bool:
        """Whether it is from one at an earlier address than ours, which is not ours as well."""
        if self.desk is None or not isinstance(message, Report):
            return False
        return message.epoch != self.desk.protocol.epoch

    # -- Looking for a broker ------------------------------------------------------

    def seek(self) -> None:
        """The node needs a broker, or another one."""
        now = self._now()
        following, self._following = self._following, None
        if self.desk is not None:
            return  # its own, from which it has not heard for a while
        if following is not None:
            link = self._links.get(following)
            if link is not None and link.prospect is Prospect.THERE:
                self._election.failed(following, now)
                # Anew: who dials where nobody listens can come to be connected with himself.
                self._close_links([following])
        self._election.begin(now)
        self._open_all(range(len(self._settings.addresses)))

    def _look(self, bus: ZmqBus, now: float) -> None:
        if self.desk is not None:
            self._follow(bus, self._own)
        elif not self._links and not self._absent:
            self.seek()  # for the first time
        while self._following is None:
            decision = self._election.decide(self._prospects(), now)
            if isinstance(decision, Follow):
                self._follow(bus, decision.place)
            elif isinstance(decision, Bind):
                self._election.tried(decision.place, self._begin(decision.place), now)
                if self.desk is not None:
                    bus.takeovers += 1
                    self._follow(bus, decision.place)
            else:
                self._elect_at = decision.until
                return
        self._elect_at = math.inf

    def _prospects(self) -> list[Prospect]:
        return [
            self._links[index].prospect if index in self._links else Prospect.VACANT
            for index in range(len(self._settings.addresses))
        ]

    def _follow(self, bus: ZmqBus, index: int) -> None:
        self._following = index
        bus.happened(Found(), self._now())

    def _watch(self, index: int) -> None:
        """Something has happened to a connection."""
        if self._links[index].watch():
            self._election.renewed(index)
            bus = self._bus()
            if index == self._following and bus is not None:
                bus.happened(Gone(), self._now())
        self._elect_at = -math.inf

    # -- Being the broker ----------------------------------------------------------

    def _begin(self, index: int) -> BindResult:
        """Try to be the broker at the address number *index*."""
        settings = self._settings
        address = settings.addresses[index]
        try:
            listener = Listener(
                [address],
                wire=settings.wire,
                curve=settings.curve,
                foreign=settings.foreign,
                clock=settings.clock,
            )
        except CannotBind as error:
            if not error.expected:
                self._reports.warn(index, "%s", error)
            return error.result
        epoch = secrets.randbits(63) | 1
        protocol = BrokerProtocol(epoch, self._now(), detection=settings.detection)
        desk = Desk(protocol, listener, settings.wire, settings.clock, self._inward.append)
        _log.info("became the broker at %s", address)
        self.desk, self._own = desk, index
        for socket in listener.sockets:
            self._readiness.add(socket, listener.attend)
        self._readiness.add(listener.socket, desk.serve)
        # Those after it are left to others; at those before it, a broker may appear.
        self._close_links(list(self._links))
        self._open_all(range(index))
        return BindResult.BOUND

    def _step_down(self) -> None:
        """Be no broker any more: all look for another, and so do we."""
        desk, self.desk = self.desk, None
        if desk is not None:
            for socket in desk.listener.sockets:
                self._readiness.remove(socket)
            desk.close(_LINGER)
            self._following = None

    # -- Links ---------------------------------------------------------------------

    def _open_all(self, indices: Iterable[int]) -> None:
        for index in indices:
            if index not in self._links and index not in self._absent:
                self._open_link(index)

    def _open_link(self, index: int) -> None:
        settings = self._settings
        self._absent.pop(index, None)
        try:
            link = Link(
                self._context,
                settings.addresses[index],
                wire=settings.wire,
                curve=settings.curve,
                foreign=settings.foreign,
                longest=_SOON if self.desk is None else _SLOWLY,
            )
        except OSError as error:
            self._reports.warn(index, "%s: %s", settings.addresses[index], error)
            self._absent[index] = self._now() + _SLOWLY
            return
        self._links[index] = link
        self._readiness.add(link.socket, partial(self._receive, index))
        self._readiness.add(link.monitor, partial(self._watch, index))

    def _close_links(self, indices: Iterable[int], linger: float = 0.0) -> None:
        for index in list(indices):
            link = self._links.pop(index)
            self._readiness.remove(link.socket)
            self._readiness.remove(link.monitor)
            link.close(linger)

    def _end(self) -> None:
        bus = self._bus()
        try:
            if bus is not None and bus.carrier is self:
                bus.depart()
                bus.carrier = None
        finally:
            del bus
            self._step_down()
            self._inward.clear()
            self._close_links(self._links, _LINGER)
            self._context.term()
