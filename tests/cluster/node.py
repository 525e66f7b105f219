"""A process of a simulated cluster: the protocol of a node, and a private tier on top of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.cluster.agenda import Clock
from tests.cluster.oracle import Addresses
from tiered.coherence.effects import (
    Accepted,
    Answered,
    Apply,
    Distrust,
    Extend,
    Found,
    Gone,
    NodeEffect,
    Overdue,
    Seek,
    Send,
    SettledUpTo,
    Time,
)
from tiered.coherence.messages import (
    ClaimKey,
    Event,
    Kind,
    NodeMessage,
    Publish,
    ReleaseKey,
    packed,
    unpacked,
)
from tiered.coherence.node import NODE_TABLE, NodeProtocol
from tiered.coherence.notices import Notices
from tiered.coherence.state import Phase
from tiered.coherence.witness import Witness

if TYPE_CHECKING:
    from tests.cluster.world import World

__all__ = ["TOPIC", "SimNode", "Thread"]

TOPIC = b"a topic."


class Thread:
    """What one thread of a process still has to do, while it is stopped."""

    def __init__(self) -> None:
        self.stopped = False
        self._waiting: deque[Callable[[], None]] = deque()

    def do(self, what: Callable[[], None]) -> None:
        if self.stopped:
            self._waiting.append(what)
        else:
            what()

    def go_on(self) -> None:
        self.stopped = False
        while self._waiting and not self.stopped:
            self._waiting.popleft()()


class SimNode:
    """One node.

    Attributes:
        hindered: when it was last kept from reading or writing the record, or from noticing
            that it should; ``inf`` while it is.
        strict_since: since when it knows that there can be two brokers.
    """

    def __init__(self, world: World, number: int, clock: Clock, most_owed: int) -> None:
        self.world = world
        self.number = number
        self.id = number.to_bytes(8, "big")
        self.clock = clock
        self.connection: tuple[int, int] | None = None
        self.copies: dict[int, tuple[int, bool]] = {}
        """By key: version, and whether it is believed while the lease lasts."""
        self.claims: dict[int, int] = {}
        self.alive = True
        self.bus = Thread()
        self.other = Thread()
        self.protocol = NodeProtocol(
            self.id,
            f"node {number}",
            detection=world.detection,
            nonce=world.rng.randrange(2**32),
            most_owed=most_owed,
        )
        self.witness = Witness(
            detection=world.detection,
            sole=world.addresses is not Addresses.TWO,
            fresh=world.fresh,
            spread=world.rng.random,
        )
        self.strict_since = -math.inf if not self.witness.sole else math.inf
        self._serial = 0
        self._notices = Notices()
        self.skipped = 0
        self._fills: dict[int, list[int]] = {}
        self._settling: list[tuple[int, float]] = []
        self._looking = False
        self._cut = False
        self._hindered = -math.inf
        self._seeking = False
        self.bus.do(lambda: self._perform((Seek(),)))
        self._tick()

    def __repr__(self) -> str:
        return f"node {self.number}"

    @property
    def hindered(self) -> float:
        if not self.alive or self._cut or self.bus.stopped or self.other.stopped:
            return math.inf
        return self._hindered

    def _hinder(self, seconds: float = 0.0) -> None:
        self._hindered = max(self._hindered, self.world.agenda.now + seconds)

    # -- What befalls it -----------------------------------------------------------

    def stop(self, *, whole: bool) -> None:
        """Its bus's thread stalls, or all of it."""
        self.bus.stopped = True
        self.other.stopped = self.other.stopped or whole

    def go_on(self) -> None:
        if self.bus.stopped or self.other.stopped:
            self._hinder()
        self.bus.stopped = self.other.stopped = False
        threads = [self.bus, self.other]
        self.world.rng.shuffle(threads)
        for thread in threads:
            thread.go_on()

    @property
    def cut(self) -> bool:
        """Whether it does not reach the shared tier."""
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        if self._cut and not cut:
            self._hinder()
        self._cut = cut

    def crash(self) -> None:
        self.alive = False

    def leave(self) -> None:
        self._perform(self.protocol.leave())
        self.alive = False

    # -- Its users -----------------------------------------------------------------

    def fill(self, key: int, takes: float) -> None:
        """Read a key from the shared tier now, and hold the copy in *takes* seconds."""
        if self.other.stopped or self._cut or key in self._fills:
            return
        fill = self._fills[key] = [self.world.oracle.read(key)]

        def store() -> None:
            if self._fills.get(key) is fill:
                del self._fills[key]
                self.copies[key] = (fill[0], True)

        self._later(takes, self.other, store)

    def delete(self, keys: Sequence[int], urgent: bool) -> None:
        """Delete *keys*, and publish that in one message."""
        if self.other.stopped or self._cut:
            return
        first = self._serial + 1
        for key in keys:
            self._serial += 1
            self.world.oracle.delete(key, self, self._serial, urgent, self.world.agenda.now)
            self._drop(key)
        events = packed([Event(Kind.DELETE, TOPIC, bytes([key])) for key in keys])
        self.world.say(f"{self} deletes {list(keys)} as {first}")

        def publish() -> None:
            before = self.protocol.phase
            now = self.clock.now
            effects = self.protocol.publish(first, len(keys), events, now, urgent=urgent)
            after = self.protocol.phase
            assert after is before or (before is not Phase.DETACHED and after is Phase.JOINING)
            self._perform(effects)

        if len(keys) == 1:
            notice = Publish(self.id, self.protocol.epoch, first, 1, events, urgent)
            self.world.tell_neighbours(self, notice)
        self.bus.do(publish)

    def noticed(self, notice: Publish) -> None:
        """A neighbour tells by itself what will come by the bus, too."""
        if notice.epoch == self.protocol.epoch and self._notices.is_new(notice):
            (event,) = unpacked(notice.size, notice.events)
            self._drop(event.name[0])

    def claim(self, key: int, ttl: float) -> None:
        message = ClaimKey(
            self.id, self.protocol.epoch, key, TOPIC, bytes([key]), round(ttl * 1000)
        )
        self.bus.do(lambda: self._perform((Send(message),)))

    def release(self, key: int) -> None:
        token = self.claims.pop(key, None)
        if token is not None:
            message = ReleaseKey(self.id, self.protocol.epoch, TOPIC, bytes([key]), token)
            self.bus.do(lambda: self._perform((Send(message),)))

    def served(self, since: float, until: float) -> None:
        """Check what it would have served between these moments, in which nothing happened."""
        if self.other.stopped or not self.copies:
            return
        until = min(until, self.clock.true(self.witness.until))
        if until < since:
            return
        for key, (version, believed) in self.copies.items():
            if believed and version < len(self.world.oracle.changes[key]):
                self.world.oracle.check(self, key, version, until)

    def _drop(self, key: int) -> None:
        self.copies.pop(key, None)
        self._fills.pop(key, None)

    def _distrust(self, reason: str) -> None:
        self.world.say(f"{self} distrusts: {reason}")
        self.copies = {key: (version, False) for key, (version, _) in self.copies.items()}
        # What is being read now may have been read before.
        self._fills.clear()

    # -- The bus -------------------------------------------------------------------

    def arrived(self, connection: tuple[int, int], message: Any) -> None:
        """A broker's message."""
        if connection == self.connection or self.world.rng.random() < 0.3:
            self.bus.do(lambda: self.happened(message))

    def reconnect(self) -> None:
        """Another way to a broker, for no reason that the protocol knows of."""
        self.bus.do(self._seek)

    def gone(self, connection: tuple[int, int]) -> None:
        """The way to the broker is known to be gone."""

        def gone() -> None:
            if connection == self.connection:
                self.connection = None
                self.happened(Gone())

        self.bus.do(gone)

    def happened(self, message: Any) -> None:
        """Feed the protocol."""
        if not self.alive:
            return
        protocol = self.protocol
        step = NODE_TABLE.get((protocol.phase, type(message)))
        before, ignored = protocol.phase, protocol.ignored
        effects = protocol.receive(message, self.clock.now)
        if step is None:
            assert protocol.phase is before
            assert protocol.ignored == ignored + 1
            assert not effects
        else:
            assert protocol.phase in step.leads_to, (before, message, protocol.phase)
        if protocol.phase is not before:
            self.world.say(f"{self} is {protocol.phase.value} for {message}")
        self._perform(effects)
        if protocol.phase is Phase.CATCHING_UP:
            assert self.witness.until == -math.inf

    def _tick(self) -> None:
        if not self.alive:
            return
        if not self.bus.stopped:
            self.happened(Time())
        if not self.other.stopped and not self._looking and self.clock.now >= self.witness.due:
            self._look()
        self.world.agenda.after(self.protocol.wakes / self.clock.rate, self._tick)

    def _perform(self, effects: Sequence[NodeEffect]) -> None:
        if not self.alive:
            return
        for effect in effects:
            self._perform_one(effect)
        if not self.other.stopped and self.witness.due == -math.inf:
            self._look()

    def _perform_one(self, effect: NodeEffect) -> None:
        now = self.clock.now
        match effect:
            case Send(message):
                self._send(message)
            case Apply(block):
                noticed = self._notices.among(block)
                self.skipped += len(noticed)
                for number, event in enumerate(unpacked(block.size, block.events)):
                    if event.kind is Kind.DELETE:
                        if number not in noticed:
                            self._drop(event.name[0])
                    else:
                        self._distrust("it was told to")
            case Distrust(reason):
                self._distrust(reason)
            case Extend(epoch, until):
                believed = self.witness.sole
                self.witness.extend(epoch, until, now)
                if believed and not self.witness.sole:
                    self.world.say(f"{self} knows that there are two brokers")
                    self.strict_since = self.world.agenda.now
            case Accepted():
                self.witness.accepted(now)
            case SettledUpTo(serial):
                if self.witness.sure >= now:
                    self.world.oracle.settled(self, serial, self.world.agenda.now)
                else:
                    self._settling.append((serial, now))
                    self.witness.hurry(now)
            case Overdue():
                self.world.say(f"{self} is overdue")
                self.witness.overdue(now)
            case Answered(question, token, _):
                if token:
                    self.claims[question] = token
            case Seek():
                self._seek()
            case _:
                raise AssertionError(effect)

    def _send(self, message: NodeMessage) -> None:
        if self.connection is not None:
            self.world.to_broker(self, self.connection, message)

    def _seek(self) -> None:
        if not self._seeking:
            self._seeking = True
            self._later(self.world.rng.uniform(0.005, 0.1), self.bus, self._sought)

    def _sought(self) -> None:
        self._seeking = False
        slot = self.world.way_from(self)
        if slot is not None:
            self.connection = (slot, self.world.fresh())
            self.happened(Found())
        elif self.protocol.phase is Phase.DETACHED:
            self._seek()

    # -- The record ----------------------------------------------------------------

    def _look(self) -> None:
        if self._looking or self.other.stopped:
            return
        self._looking = True
        world, witness = self.world, self.witness
        began = self.clock.now
        found = None

        def ask() -> None:
            nonlocal found
            if self._reaches():
                if world.oracle.record is None:
                    world.oracle.record = witness.proposal()
                found = world.oracle.record

        def answered() -> None:
            verdict = witness.looked(found, began, self.clock.now)
            if verdict.distrust:
                self._distrust(f"the record is {found}")
            for serial, at in self._settling:
                if witness.sure >= at:
                    world.oracle.settled(self, serial, world.agenda.now)
            self._settling = [(serial, at) for serial, at in self._settling if witness.sure < at]
            if verdict.write is not None:
                self._write(verdict.write)
            else:
                self._looked()

        self._later(self._takes(), None, ask)
        self._later(0.02, self.other, answered)

    def _write(self, record: Any) -> None:
        def write() -> None:
            if self._reaches():
                self.world.say(f"{self} writes {record}")
                self.world.oracle.record = record

        late = self.world.rng.random() < 0.05
        if late:
            self._hinder(1.0)
        self._later(1.0 if late else self._takes(), None, write)
        self._later(0.02, self.other, self._looked)

    def _looked(self) -> None:
        self._looking = False
        if self.witness.due == -math.inf:
            self._look()

    def _reaches(self) -> bool:
        if self._cut:
            return False
        if self.world.rng.random() < self.world.misses:
            self._hinder()
            return False
        return True

    def _takes(self) -> float:
        return self.world.rng.uniform(0.001, 0.02)

    def _later(self, delay: float, thread: Thread | None, do: Callable[[], None]) -> None:
        """Have *thread* do something, or somebody else, who is not stopped."""

        def now() -> None:
            if thread is None:
                do()
            elif self.alive:
                thread.do(do)

        self.world.agenda.after(delay, now)
