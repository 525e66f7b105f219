"""A bus within one process, for tests: the real protocol, with faults at the turn of a switch.

``LocalHub`` is the broker and all the ways to it; each :class:`LocalBus` is a node of its own.
Messages arrive at once, in the thread that sends them, unless a switch says otherwise. Time
is a manual clock's: :meth:`LocalHub.advance` moves it on, and everybody's heartbeats with it.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import BrokerEffect, Found, Gone, SendAll, Time
from tiered.coherence.messages import NodeMessage, Publish
from tiered.coherence.nodebus import NodeBus
from tiered.testing.clock import ManualClock

__all__ = ["LocalBus", "LocalHub"]


class LocalHub:
    """A broker, and the ways to it.

    Args:
        clock: everybody's; a new one by default.
        detection: seconds, of all nodes.
        neighbours: whether the nodes tell each other of changes ahead of the broker.

    Attributes:
        broker: the protocol of the one that lives; ``None`` after :meth:`kill`.
        notices: what neighbours have told each other, and whom, that has not arrived.
        held: whether it is not to arrive until :meth:`deliver`.

    Threads: safe. Whoever sends a message delivers it, and those that follow from it.
    """

    def __init__(
        self,
        clock: ManualClock | None = None,
        *,
        detection: float = 1.0,
        neighbours: bool = False,
    ) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.neighbours = neighbours
        self.notices: deque[tuple[LocalBus, Publish]] = deque()
        self.held = False
        self.detection = detection
        self.broker: BrokerProtocol | None = None
        self._epochs = itertools.count(1)
        self._buses: list[LocalBus] = []
        self._lock = threading.RLock()
        self._queue: deque[tuple[LocalBus, Any, bool]] = deque()
        self._running = False
        self.begin()

    def begin(self) -> None:
        """A new broker, in the place of any that there was."""
        now = self.clock.monotonic()
        self.broker = BrokerProtocol(next(self._epochs), now, detection=self.detection)
        for bus in self._buses:
            bus.sought = True
        self.run()

    def kill(self) -> None:
        """The broker dies, and is not replaced until :meth:`begin`."""
        self.broker = None
        for bus in self._buses:
            self._happen(bus, Gone())
        self.run()

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass, in steps in which everybody's timers run."""
        while seconds > 1e-9:
            self.clock.advance(min(step, seconds))
            seconds -= step
            self.tick()

    def tick(self) -> None:
        """Let all timers run once."""
        with self._lock:
            now = self.clock.monotonic()
            if self.broker is not None:
                self._perform(self.broker.tick(now))
            for bus in self._buses:
                self._happen(bus, Time())
            self.run()

    def connect(self, bus: LocalBus) -> None:
        """*bus* takes part."""
        with self._lock:
            self._buses.append(bus)
            bus.sought = True
            self.run()

    def disconnect(self, bus: LocalBus) -> None:
        """*bus* does so no more."""
        with self._lock:
            if bus in self._buses:
                self._buses.remove(bus)

    def others(self, bus: LocalBus) -> list[LocalBus]:
        """Whom *bus* tells of its changes ahead of the broker."""
        with self._lock:
            return [other for other in self._buses if other is not bus] if self.neighbours else []

    def notice(self, bus: LocalBus, notice: Publish) -> None:
        """*notice* of *bus*, to all others."""
        with self._lock:
            self.notices.extend((other, notice) for other in self.others(bus))
            if not self.held:
                self.deliver()

    def deliver(self) -> None:
        """Have the notices arrive that neighbours have sent."""
        with self._lock:
            while self.notices:
                bus, notice = self.notices.popleft()
                bus.noticed(notice)

    def send(self, bus: LocalBus, message: NodeMessage) -> None:
        """*message* of *bus*, to the broker."""
        if not bus.cut:
            self._queue.append((bus, message, True))

    def run(self) -> None:
        """Deliver all there is to deliver."""
        with self._lock:
            if self._running:
                return
            self._running = True
            try:
                while self._step():
                    pass
            finally:
                self._running = False

    def _step(self) -> bool:
        now = self.clock.monotonic()
        for bus in self._buses:
            if bus.sought and not bus.cut and self.broker is not None:
                bus.sought = False
                self._happen(bus, Found())
            bus.pump(now)
        if not self._queue:
            return False
        bus, message, up = self._queue.popleft()
        if not up:
            bus.happened(message, now)
        elif self.broker is not None:
            self._perform(self.broker.receive(bus, message, now))
        return True

    def _perform(self, effects: Sequence[BrokerEffect]) -> None:
        for effect in effects:
            routes = effect.routes if isinstance(effect, SendAll) else (effect.route,)
            for bus in routes:
                assert isinstance(bus, LocalBus)
                if bus.deaf:
                    bus.deaf -= 1
                elif not bus.cut:
                    self._happen(bus, effect.message)

    def _happen(self, bus: LocalBus, message: Any) -> None:
        self._queue.append((bus, message, False))


class LocalBus(NodeBus):
    """One node of a :class:`LocalHub`.

    Args:
        hub: where it takes part once it is started.
        label: for people.

    Attributes:
        cut: nothing passes between it and the broker while this is true; notices do.
        deaf: so many of the next messages to this node are lost.
        sole: as of :class:`tiered.coherence.bus.Bus`.
    """

    def __init__(self, hub: LocalHub, label: str = "test", *, sole: bool = True) -> None:
        super().__init__(detection=hub.detection, label=label, clock=hub.clock)
        self.hub = hub
        self.sole = sole
        self.cut = False
        self.deaf = 0
        self.sought = False
        self._taking_part = self._left = False
        self.neighbours = _Neighbours(self)

    def start(self) -> None:
        if not self._taking_part:
            self._taking_part, self._left = True, False
            self.hub.connect(self)

    def close(self) -> None:
        if self._taking_part:
            self._taking_part, self._left = False, True
            self.pump(self.clock.monotonic())
            self._perform(self._protocol.leave(), self.clock.monotonic())
            self.hub.run()
            self.hub.disconnect(self)

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._left

    def _wake(self) -> None:
        if self._taking_part:
            self.hub.run()

    def _send(self, message: NodeMessage) -> None:
        self.hub.send(self, message)

    def _seek(self) -> None:
        self.sought = True


class _Neighbours:
    def __init__(self, bus: LocalBus) -> None:
        self._bus = bus

    @property
    def others(self) -> list[LocalBus]:
        return self._bus.hub.others(self._bus)

    def tell(self, notice: Publish) -> None:
        self._bus.hub.notice(self._bus, notice)
