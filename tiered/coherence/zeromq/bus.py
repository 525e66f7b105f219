"""A bus of processes over ZeroMQ."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import logging
import os
import socket
import sys
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.bus import BusStats
from tiered.coherence.effects import Overdue
from tiered.coherence.messages import NodeMessage
from tiered.coherence.nodebus import NodeBus
from tiered.coherence.receipts import is_held_here
from tiered.coherence.state import Phase
from tiered.coherence.wire import Wire
from tiered.coherence.zeromq.addresses import parse_bus_addresses
from tiered.coherence.zeromq.driver import Driver
from tiered.coherence.zeromq.foreign import LOGGER, ForeignCount
from tiered.coherence.zeromq.security import CurveKeys, checked_keys, require_protection
from tiered.coherence.zeromq.settings import Settings
from tiered.typing import Clock

__all__ = ["ZmqBus"]

_PATIENCE: Final = 1.0
"""Seconds for which ``close`` waits until all that was published is accepted."""
_EXTRA: Final = 2.0
"""Seconds more for the thread to end, on a machine that is busy."""

_IN_STEP: Final = (Phase.FOLLOWING, Phase.CATCHING_UP)
_log: Final = logging.getLogger(LOGGER)

_started: Final[weakref.WeakSet[ZmqBus]] = weakref.WeakSet()


class ZmqBus(NodeBus):
    """Takes part in a bus, whose broker is at the first of *addresses* where one answers.

    Where none answers, the processes that are candidates begin one themselves: the one that
    binds the first address that is its machine's. A broker at a later address gives way to
    one at an earlier address as soon as it hears of it.

    Constructed without doing anything; a thread is started by :meth:`start`. It ends with
    :meth:`close`, with the object, and with the interpreter.

    Args:
        addresses: where the broker may be, in the order of preference, the same for all:
            ``"tcp://host:port"``, ``"ipc:///path"`` or ``"ipc://@name"``.
        key: the secret that all of the bus share, ``str`` or ``bytes``, or a list of them:
            the first signs what is sent, all are accepted. It keeps others from taking
            part; what they can hear on the network, they can read.
        curve: keys for CURVE, which encrypts too.
        detection: seconds after which nothing is served on the word of a broker that is
            silent; the same for all.
        candidate: whether this process may become the broker.
        neighbours: whether processes of this host and user tell each other of changes
            straight, ahead of the bus (:mod:`tiered.coherence.zeromq.neighbours`).
        label: what people know this process by; its host, program and number by default.
        clock: of all deadlines.

    Attributes:
        takeovers: how often this process became the broker.
        carrier: the driver whose thread may call what is for drivers.

    Raises:
        TypeError, ValueError: an argument that cannot be right; addresses that others can
            reach, without a key or curve.

    Threads: safe. A forked child is a node of its own; it takes part once it uses the bus.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        key: str | bytes | Sequence[str | bytes] | None = None,
        curve: CurveKeys | None = None,
        detection: float = 1.0,
        candidate: bool = True,
        neighbours: bool = True,
        label: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        parsed = parse_bus_addresses(addresses)
        keys = checked_keys(key)
        require_protection(parsed, keys, curve)
        self.takeovers = 0
        self.carrier: Driver | None = None
        self._driver: Driver | None = None
        self._thread: threading.Thread | None = None
        self._resume = self._was_closed = False
        self._dropped: weakref.finalize[..., ZmqBus] | None = None
        self._starting = threading.RLock()  # a signal's handler may close what is being closed
        super().__init__(
            detection=detection, label=_label() if label is None else label, clock=clock
        )
        self._settings = Settings(
            addresses=parsed,
            wire=Wire(keys),
            curve=curve,
            detection=self.detection,
            candidate=bool(candidate),
            neighbours=bool(neighbours),
            clock=clock,
            foreign=ForeignCount(clock),
        )

    @property
    def closed(self) -> bool:
        """Whether it has been closed: what is published then reaches nobody."""
        return self._was_closed

    @property
    def sole(self) -> bool:
        """Whether there can only ever be one broker at a time: at the only address."""
        return len(self._settings.addresses) == 1

    # -- Its life ------------------------------------------------------------------

    def start(self) -> None:
        """Take part. A second call does nothing, and costs next to nothing."""
        if self._driver is not None:
            return
        with self._starting:
            if not self._is_over():
                return
            if self._was_closed:
                self._begin_again()
            self._was_closed = self._resume = False
            driver = Driver(weakref.ref(self), self._settings, self._carrying)
            thread = threading.Thread(target=driver.run, name="tiered-bus", daemon=True)
            self._dropped = weakref.finalize(self, driver.stop, 0.0)
            self._dropped.atexit = False
            self._thread, self._driver, self.carrier = thread, driver, driver
            try:
                thread.start()
            except RuntimeError:  # the machine has no more, or the interpreter exits
                self._thread = self._driver = self.carrier = None
                raise
            _started.add(self)
            _close_at_exit()

    def close(self) -> None:
        """Leave, once what was published is accepted or a second is over.

        A closed bus may be started again; it is another node then. In a callback of the bus's
        thread, and in a signal's handler that has interrupted a caller who sends, nothing is
        waited for: the bus leaves as soon as it can, and is started again after that only.
        """
        with self._starting:
            driver, self._driver = self._driver, None
            self._resume = False
            if driver is not None:
                self._was_closed = True
                if self._dropped is not None:
                    self._dropped.detach()
                driver.stop(_PATIENCE)
            if self._is_over():
                _started.discard(self)

    def _is_over(self) -> bool:
        """Whether no thread takes part. Waits for one that was told to stop, unless in vain."""
        thread = self._thread
        if thread is None or self._driver is not None:
            return self._driver is None
        if thread is threading.current_thread() or is_held_here(self._carrying):
            return False
        if thread.ident is not None:  # else a signal's handler closes what is being started
            thread.join(_PATIENCE + _EXTRA)
        if self._thread is thread:  # a handler that came while it was waited for may start anew
            self._thread = self.carrier = None
        return self._driver is None

    def __enter__(self) -> ZmqBus:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """The parent's thread and sockets are not here; a new node begins on next use."""
        driver, self._driver = self._driver, None
        self._thread = self.carrier = None
        self._starting = threading.RLock()
        super().after_fork()
        if driver is not None:
            self._resume = True
            if self._dropped is not None:
                self._dropped.detach()
            driver.forget()

    # -- For the driver ------------------------------------------------------------

    @property
    def wakes(self) -> float:
        """Seconds between two ``Time`` that the node needs."""
        return self._protocol.wakes

    @property
    def has_work(self) -> bool:
        """Whether callers have left something."""
        return bool(self._outbox or self._asides or self._newcomers)

    @property
    def in_step(self) -> bool:
        """Whether a broker has welcomed the node."""
        return self._protocol.phase in _IN_STEP

    @property
    def owed(self) -> int:
        """Events that no broker has accepted yet."""
        return self._serial - self._progress.accepted

    def lost_track(self) -> None:
        """Something went wrong in this process: whatever is held is to be confirmed."""
        for member in self._members.all:
            try:
                member.distrust("an error in this process")
            except Exception:
                _log.exception("a member of the bus cannot be told to distrust its copies")

    def depart(self) -> None:
        """Say goodbye; nothing is served on the broker's word any more."""
        now = self.clock.monotonic()
        if self.owed:
            _log.warning("%d events were not accepted by any broker in time", self.owed)
            self._warn_members(Overdue(), now)
        self._perform(self._protocol.leave(), now)
        self._progress.end()

    def _wake(self) -> None:
        driver = self._driver
        if driver is not None:
            driver.wake()
        elif self._resume:
            self.start()

    def _send(self, message: NodeMessage) -> None:
        if self.carrier is not None:
            self.carrier.send(message)

    def _seek(self) -> None:
        if self.carrier is not None:
            self.carrier.seek()

    @property
    def stats(self) -> BusStats:
        """What this node knows and has counted."""
        stats = super().stats
        driver = self._driver if self.in_step else None
        # Not before its own node follows it: it has only just begun.
        desk = None if driver is None else driver.desk
        return dataclasses.replace(
            stats,
            role=stats.role if desk is None else "broker",
            broker="" if driver is None else driver.followed,
            nodes=0 if desk is None else desk.protocol.nodes,
            foreign=self._settings.foreign.count,
            takeovers=self.takeovers,
        )

    def __repr__(self) -> str:
        addresses = ", ".join(map(str, self._settings.addresses))
        return f"<ZmqBus at {addresses}: {self._protocol.phase.value}>"


def _label() -> str:
    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    return f"{socket.gethostname()}/{program}/{os.getpid()}"


@functools.cache
def _close_at_exit() -> None:
    """Have all be closed before the finalisers run that the interpreter calls at its exit.

    What is registered last is called first, and they are registered with the first of them.
    """
    atexit.register(_close_all)


def _close_all() -> None:
    for bus in list(_started):
        bus.close()
