"""The one thread of a bus: it owns all sockets, and tells the node what happens there.

While it sleeps, who publishes may send by himself (:mod:`tiered.coherence.zeromq.turns`).
"""

from __future__ import annotations

import logging
import math
import random
import secrets
import traceback
import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import zmq

from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import Found, Gone, Time
from tiered.coherence.messages import BrokerMessage, Inquire, NodeMessage, Publish, Report
from tiered.coherence.receipts import Lock
from tiered.coherence.zeromq.desk import Desk
from tiered.coherence.zeromq.election import Bind, BindResult, Election, Follow, Prospect
from tiered.coherence.zeromq.foreign import LOGGER
from tiered.coherence.zeromq.inherited import close_copies, keep_for_ever
from tiered.coherence.zeromq.links import SLOWLY, SOON, Links
from tiered.coherence.zeromq.listener import CannotBind, Listener
from tiered.coherence.zeromq.meeting import Meeting
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.settings import Settings
from tiered.coherence.zeromq.tuning import Context, Socket
from tiered.coherence.zeromq.turns import Turns
from tiered.stats.reports import Reports

if TYPE_CHECKING:
    from tiered.coherence.zeromq.bus import ZmqBus

__all__ = ["Driver"]

_log: Final = logging.getLogger(LOGGER)

_AT_ONCE: Final = 256
"""Messages that are taken before other sockets have their turn."""
_LINGER: Final = 0.3
"""Seconds for which what was sent last may take to leave."""
_PATIENCE: Final = 0.5
"""Seconds after which an address that says neither yes nor no is taken to be vacant."""
_FEW: Final = 8
"""Nodes to which a caller sends by himself, where the broker is in this process."""


class Driver:
    """Looks for a broker or becomes one, and carries the messages of one node.

    Args:
        bus: what it drives; it ends when that is gone.
        lock: held by whoever uses the sockets, this thread or a caller.

    Attributes:
        desk: the broker of this thread, if it is one.
        wake: have what callers have left be sent, if possible by this thread. Never waits.

    Threads: :meth:`run` is the thread; :meth:`wake` and :meth:`stop` are for others.
    """

    def __init__(self, bus: weakref.ref[ZmqBus], settings: Settings, lock: Lock) -> None:
        self._bus = bus
        self._settings = settings
        self._now = settings.clock.monotonic
        self._reports = Reports(LOGGER, settings.clock)
        self._readiness = Readiness()
        self._links: Links
        self.desk: Desk | None = None
        self._own = -1
        self._meeting = Meeting(settings, self._readiness, self._hear_notice)
        self._inward: deque[BrokerMessage] = deque()
        self._following: int | None = None
        self._election = Election(
            len(settings.addresses),
            candidate=settings.candidate,
            patience=_PATIENCE,
            chance=random.Random(),  # noqa: S311 - spreads attempts, keeps no secret
        )
        self._turns = Turns(lock, self._readiness, self._now, self._send_left, self._reports)
        self.wake = self._turns.wake
        self._unsent = ""
        """Why a message was not sent, if that is still to be told."""
        self._stop_at = math.inf
        self._tick_at = self._elect_at = self._inquire_at = -math.inf

    @property
    def followed(self) -> str:
        """The address of the broker that is followed, or ""."""
        following = self._following
        return "" if following is None else str(self._settings.addresses[following])

    # -- For other threads ---------------------------------------------------------

    def _send_left(self, now: float) -> bool:
        """Send what callers have left, in a caller's thread; whether ours may sleep on.

        Calls what packs and sends, and nothing else: who is to be told is told by our thread.
        """
        bus = self._bus()
        if bus is None or bus.carrier is not self or self._following is None:
            return False
        if self.desk is not None and self.desk.protocol.nodes > _FEW:
            return False
        bus.publish_left(now)
        # Sending may have taken from a socket the word that something has come.
        return not (self._inward or self._unsent or bus.has_work or self._readiness.ready())

    def stop(self, patience: float) -> None:
        """Have the thread end: when all is accepted, or after *patience* seconds."""
        self._stop_at = self._now() + patience
        self._readiness.bell.ring()

    def forget(self) -> None:
        """In a forked child: all of this is the parent's."""
        keep_for_ever(self)
        self._meeting.forget()
        if self.desk is not None:
            close_copies(self.desk.listener.located)

    # -- The thread ----------------------------------------------------------------

    def run(self) -> None:
        """Drive the bus, until it is gone or :meth:`stop` was called."""
        context: Context = zmq.Context()
        self._links = Links(
            context, self._settings, self._readiness, receive=self._receive, watch=self._watch
        )
        try:
            stirred: Sequence[Socket | int] = []
            while True:
                with self._turns.lock:
                    if not self._turn(stirred):
                        break
                    seconds, stirred = self._until_next()
                if seconds > 0:
                    stirred = self._readiness.sleep(seconds)
        finally:
            with self._turns.lock:
                self._turns.sleeping = False
                self._end()
            context.term()

    def _turn(self, stirred: Sequence[Socket | int]) -> bool:
        self._turns.sleeping = False
        bus = self._bus()
        if bus is None or bus.carrier is not self:
            return False
        try:
            if self._turns.cut_short:
                self._put_right(bus)
            self._readiness.act(stirred)
            self._work(bus)
        except Exception:
            # A member that raises, or a mistake of ours: what was to be applied may not be.
            what = "a turn of the bus was cut short, all copies are distrusted:\n%s"
            self._reports.warn("turn", what, traceback.format_exc())
            bus.lost_track()
        if self._stop_at == math.inf:
            return True
        return bus.owed > 0 and self._now() < self._stop_at

    def _until_next(self) -> tuple[float, Sequence[Socket | int]]:
        """Seconds to sleep, as who leaves something after this wakes us; or what can be read."""
        # Said before looking for the last time.
        self._turns.sleeping = True
        bus = self._bus()
        ready = self._readiness.ready()
        if bus is None or bus.has_work or ready:
            return 0.0, ready
        return min(self._tick_at, self._elect_at, self._stop_at) - self._now(), ready

    def _put_right(self, bus: ZmqBus) -> None:
        """A caller's sending was cut short: what he had in hand may be lost, or half done."""
        _log.warning("a thread was stopped while it published: all nodes confirm what they hold")
        bus.publish_distrust()  # whatever becomes of the rest
        if self.desk is not None:
            # What it has counted it may not have told anybody.
            self._step_down()
            self.seek()
        self._turns.cut_short = False

    def _work(self, bus: ZmqBus) -> None:
        self._deliver(bus)  # before anything that can wait
        bus.pump(self._now())
        self._deliver(bus)
        now = self._now()
        if now >= self._tick_at:
            self._tick(bus, now)
        if self._following is None:
            self._look(bus, now)
        elif len(self._links) > 1 and self.desk is None and bus.in_step:
            self._links.close_all(but=self._following)
        self._deliver(bus)
        if self._unsent:
            why, self._unsent = self._unsent, ""
            self._reports.warn("too long", "a message was not sent: %s", why)

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
        self._links.renew()
        self._meeting.keep(bus.node, now)
        bus.neighbours = self._meeting.neighbours
        if self.desk is not None and now >= self._inquire_at:
            self._inquire_at = now + self._settings.detection
            for link in self._links:
                if link.prospect is Prospect.THERE:
                    link.send(Inquire(bus.node, secrets.randbits(63)))

    # -- Messages ------------------------------------------------------------------

    def send(self, message: NodeMessage) -> None:
        """Send *message* to the broker. What finds no way is lost, and sent again if it matters."""
        try:
            if self.desk is not None:
                self.desk.take(message)
            elif self._following is not None:
                link = self._links.get(self._following)
                if link is not None:
                    link.send(message)
        except ValueError as error:
            self._unsent = str(error)  # for our thread to tell: this may be a caller's

    def _deliver(self, bus: ZmqBus) -> None:
        """What the broker of this thread has for its node."""
        while self._inward:
            bus.happened(self._inward.popleft(), self._now())
        if self.desk is not None:
            self.desk.flush()

    def _receive(self, index: int) -> None:
        bus = self._bus()
        link = self._links.get(index)
        for message in () if link is None else link.receive(_AT_ONCE):
            if index == self._following and bus is not None:
                bus.happened(message, self._now())
                if self._links.get(index) is not link:
                    return
            elif self._is_another_broker(message):
                _log.info("another broker comes first: %s", self._settings.addresses[index])
                self._step_down()
                self.seek()
                return

    def _is_another_broker(self, message: BrokerMessage) -> bool:
        """Whether it is from one at an earlier address than ours, which is not ours as well."""
        if self.desk is None or not isinstance(message, Report):
            return False
        return message.epoch != self.desk.protocol.epoch

    def _hear_notice(self, notice: Publish) -> None:
        bus = self._bus()
        if bus is not None:
            bus.noticed(notice)

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
                self._links.close(following)
        self._election.begin(now)
        self._links.open(range(len(self._settings.addresses)), SOON)

    def _look(self, bus: ZmqBus, now: float) -> None:
        if self.desk is not None:
            self._follow(bus, self._own)
        elif not self._links:
            self.seek()  # for the first time
        while self._following is None:
            decision = self._election.decide(self._links.prospects, now)
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

    def _follow(self, bus: ZmqBus, index: int) -> None:
        self._following = index
        bus.happened(Found(), self._now())

    def _watch(self, index: int) -> None:
        """Something has happened to a connection."""
        link = self._links.get(index)
        if link is None:
            return
        lost = link.watch()
        if lost or link.prospect is Prospect.VACANT:
            self._election.renewed(index)
        bus = self._bus()
        if lost and index == self._following and bus is not None:
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
        desk.open(self._readiness)
        # Those after it are left to others; at those before it, a broker may appear.
        self._links.close_all()
        self._links.open(range(index), SLOWLY)
        return BindResult.BOUND

    def _step_down(self) -> None:
        """Be no broker any more: all look for another, and so do we."""
        desk, self.desk = self.desk, None
        if desk is not None:
            desk.close(self._readiness, _LINGER)
            self._following = None

    def _end(self) -> None:
        bus = self._bus()
        try:
            if bus is not None and bus.carrier is self:
                bus.neighbours = None
                bus.depart()
                bus.carrier = None
        finally:
            del bus
            self._meeting.part()
            self._step_down()
            self._inward.clear()
            self._links.close_all(linger=_LINGER)
