"""A node as the threads of its process see it, whatever carries its messages.

Callers leave what they publish in an outbox and wake the transport; the transport, in one
thread, feeds the protocol and hands on what comes of it. What callers wait for (acceptance,
settlement, answers) has a lock of its own; nothing is called while one is held.
"""

from __future__ import annotations

import math
import secrets
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from tiered.coherence.bus import Answer, BusStats, Member, Receipt
from tiered.coherence.effects import (
    Accepted,
    Answered,
    Apply,
    Distrust,
    Extend,
    NodeEffect,
    Overdue,
    Passed,
    Reported,
    Seek,
    Send,
    SettledUpTo,
)
from tiered.coherence.members import Members
from tiered.coherence.messages import (
    ALL_TOPICS,
    NODE_SIZE,
    TOPIC_SIZE,
    ClaimKey,
    Event,
    Kind,
    NodeMessage,
    Publish,
    ReleaseKey,
    Report,
    Tell,
    made,
    packed,
    packed_names,
    unpacked,
)
from tiered.coherence.node import NodeProtocol
from tiered.coherence.notices import AHEAD, Neighbourhood, Notices
from tiered.coherence.owed import BLOCK_BYTES, BLOCK_EVENTS
from tiered.coherence.receipts import EventReceipt, Progress, Questions
from tiered.concurrency import fork
from tiered.typing import Clock
from tiered.validation import check_number

__all__ = ["NodeBus"]

_Left: TypeAlias = tuple[int, int, bytes, bool]
"""Events that wait for the transport: the first serial, how many, packed, whether urgent."""

_MOST_WAITING: Final = 100_000
"""Calls of ``publish`` that wait for the transport's thread."""
_QUIET: Final = 0.0005
"""Seconds without events before one that neighbours are told of: a flood is for the bus."""
_FLOOD: Final = packed([Event(Kind.DISTRUST, ALL_TOPICS, b"")])


class NodeBus(ABC):
    """One node of a bus: all of :class:`tiered.coherence.bus.Bus` but the way of the messages.

    A subclass calls :meth:`happened`, :meth:`noticed` and :meth:`pump` in one thread, and
    implements the abstract methods.

    Args:
        detection: seconds, the same for all nodes of a bus.
        label: what people know this process by.
        clock: of all deadlines.

    Attributes:
        node: its id; another one after a fork, and when it was closed and started again.
        neighbours: whom to tell of changes ahead of the bus; set by the transport.

    Threads: safe, where nothing else is said.
    """

    def __init__(self, *, detection: float, label: str, clock: Clock) -> None:
        self.detection = check_number("detection", detection, low=0.01, hint="0.01 s or more")
        if not isinstance(label, str):
            raise TypeError(f"label must be a str, not {label!r}")
        self.label = label
        self.clock = clock
        self._members = Members()
        fork.register(self)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """A new node: after a fork, and when a closed bus is started again."""
        node = secrets.token_bytes(NODE_SIZE)
        self._protocol = NodeProtocol(
            node, self.label, detection=self.detection, nonce=secrets.randbits(56)
        )
        self._lock = threading.RLock()  # a signal's handler may publish, too
        self._carrying = threading.RLock()
        """For the transport: held by whoever carries messages."""
        self._progress = Progress(self._carrying)
        self._questions = Questions(self._carrying)
        self._serial = 0
        self._outbox: deque[_Left] = deque()
        self._asides: deque[NodeMessage] = deque()
        self._newcomers: deque[weakref.ref[Member]] = deque()
        self._epoch, self._until = 0, -math.inf
        self._received = self._noticed = 0
        self._notices = Notices()
        self.neighbours: Neighbourhood | None = None
        self._published_at = -math.inf
        self._pumped = self.clock.monotonic()
        self._unverified = 0.0
        self._uncovered_since = self.clock.monotonic()
        self.node = node  # last: callers tell by it whose serial they have

    def _begin_again(self) -> None:
        """A new node in the same process: what the last one could not tell, this one has to."""
        left = self._serial > self._progress.accepted
        self._begin_anew()
        if left:
            self._serial = 1
            self._outbox.append((1, 1, _FLOOD, False))

    def after_fork(self) -> None:
        """What the parent follows, this process does not. Members see to themselves, and join."""
        self._begin_anew()
        self._members = Members()

    @property
    def closed(self) -> bool:
        """Whether it has been closed: what is published then reaches nobody."""
        return False

    # -- For members ---------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Have *member* hear of its topic; it is held weakly."""
        self._members.join(member)
        # Not from here: the transport's thread may just be about to end what we know of.
        self._newcomers.append(weakref.ref(member))
        self._wake()

    def leave(self, member: Member) -> None:
        """Have *member* hear no more."""
        self._members.leave(member)

    def publish(
        self,
        kind: Kind,
        topic: bytes,
        names: Sequence[bytes],
        *,
        source: Member | None = None,
        urgent: bool = False,
    ) -> Receipt:
        """Tell everybody that *names* have changed; all members in this process but *source*
        have heard of it on return. Never waits."""
        node, now = self.node, self.clock.monotonic()
        quiet, self._published_at = now - self._published_at >= _QUIET, now
        last = self._serial
        for at in range(0, len(names), BLOCK_EVENTS):
            part = names[at : at + BLOCK_EVENTS]
            size, data = len(part), packed_names(kind, topic, part)
            with self._lock:
                full = len(self._outbox) >= _MOST_WAITING
                if full:
                    # The transport is stalled: one event that says what all of these are about.
                    self._outbox.clear()
                # Nothing is called from here until it is left: a signal's handler that publishes
                # comes before that or after it, or serials would not be in their order.
                first = self._serial + 1
                self._serial = last = self._serial + size
                self._outbox.append(
                    # Urgent, as some of them may have been: who waits until all have it is told.
                    (last, 1, _FLOOD, True) if full else (first, size, data, urgent)
                )
        try:
            neighbours = self.neighbours
            alone = quiet and len(names) == 1 and kind in AHEAD
            if alone and not full and neighbours is not None and neighbours.others:
                epoch = self._protocol.epoch
                if self.node is node:  # else the bus has begun anew, and counts from 1
                    neighbours.tell(made(Publish, (node, epoch, last, 1, data, urgent)))
        finally:
            # Also if a signal's handler raises: what was left is not to wait for the next beat,
            # and nobody else in this process hears of it.
            try:
                self._wake()
            finally:
                self._members.hear_of(kind, topic, names, source)
        if self.closed or now - self._pumped >= self.detection / 2:
            self._stalled()
        return EventReceipt(self._progress, last)

    def _stalled(self) -> None:
        """Nobody fetches what is published, nor says that it is overdue."""
        if self._outbox:
            for member in self._members.all:
                member.overdue()

    def claim(self, topic: bytes, name: bytes, ttl: float, timeout: float) -> Answer:
        """Ask for the right to compute; waits for the answer up to *timeout* seconds."""
        if self.clock.monotonic() >= self._until:
            return Answer(False)  # who is not in step is not kept waiting
        question = self._questions.ask()
        milliseconds = max(1, round(min(ttl, 86_400.0) * 1000))
        self._say(ClaimKey(self.node, self._epoch, question, topic, name, milliseconds))
        return self._questions.wait(question, timeout)

    def release(self, topic: bytes, name: bytes, token: int) -> None:
        """Give a claim back. Never waits."""
        self._say(ReleaseKey(self.node, self._epoch, topic, name, token))

    def tell(self, node: bytes, payload: bytes) -> None:
        """Send *payload*, which begins with a topic, to its members in *node*. Never waits."""
        self._say(Tell(self.node, self._epoch, node, payload))

    def _say(self, message: NodeMessage) -> None:
        self._asides.append(message)
        self._wake()

    # -- For the transport: one thread ---------------------------------------------

    @abstractmethod
    def _wake(self) -> None:
        """Have the transport's thread call :meth:`pump`. Called by any thread; never waits."""

    @abstractmethod
    def _send(self, message: NodeMessage) -> None:
        """Send *message* to the broker; in the transport's thread."""

    @abstractmethod
    def _seek(self) -> None:
        """Look for a broker, and let :meth:`happened` know with ``Found``."""

    def happened(self, message: Any, now: float) -> None:
        """A message of the broker has come, or one of ``Found``, ``Gone`` and ``Time``."""
        for effect in self._protocol.receive(message, now):
            _PERFORM[type(effect)](self, effect, now)

    def noticed(self, notice: Publish) -> None:
        """A neighbour tells by himself what will come by the bus, too; not if he has another."""
        if notice.epoch != self._protocol.epoch or notice.node == self.node:
            return
        try:
            event, *more = unpacked(notice.size, notice.events)
        except ValueError:
            return
        if not more and event.kind in AHEAD and self._notices.is_new(notice):
            self._noticed += 1
            self._members.notice(event)

    def pump(self, now: float) -> None:
        """Tell members that have joined how things stand, and publish what callers have left."""
        self._pumped = now
        while self._newcomers:
            member = self._newcomers.popleft()()
            if member is not None:
                member.extend(self._epoch, self._until)
        self.publish_left(now)

    def publish_left(self, now: float) -> None:
        """Publish what callers have left. Calls nobody but :meth:`_send`; one thread at a time.

        What they leave meanwhile is for another time: there might be no end of it.
        """
        outbox = self._outbox
        count = len(outbox)
        following: _Left | None = None
        while count > 0 or following is not None:
            try:
                # Taken in one step: whoever finds that there is too much clears it, at any time.
                first, size, data, urgent = following or outbox.popleft()
                count -= following is None
            except IndexError:
                break  # who has cleared it leaves something, and has it fetched
            following = None
            parts, length = [data], len(data)
            while count > 0 and size < BLOCK_EVENTS and length < BLOCK_BYTES:
                try:
                    following = outbox.popleft()
                except IndexError:
                    count = 0
                    break
                count -= 1
                if following[0] != first + size:
                    break
                _, more, data, pressing = following
                following = None
                size += more
                length += len(data)
                urgent |= pressing
                parts.append(data)
            events = b"".join(parts)
            for effect in self._protocol.publish(first, size, events, now, urgent=urgent):
                if type(effect) is Send:
                    self._send(effect.message)
                else:
                    _PERFORM[type(effect)](self, effect, now)
        asides = self._asides
        for _ in range(len(asides)):
            self._send(asides.popleft())

    def publish_distrust(self) -> None:
        """What was left may be lost on its way: one event stands for all of it."""
        with self._lock:
            # Serials must not follow each other: that is what it is known by.
            self._serial += 2
            self._outbox.append((self._serial, 1, _FLOOD, True))

    def _perform(self, effects: Iterable[NodeEffect], now: float) -> None:
        for effect in effects:
            _PERFORM[type(effect)](self, effect, now)

    def _tell_members(self, passed: Passed, now: float) -> None:
        for member in self._members.of(passed.payload[:TOPIC_SIZE]):
            member.told(passed.node, passed.payload[TOPIC_SIZE:])

    def _accepted(self, accepted: Accepted, now: float) -> None:
        # Whoever hears that all have it must already know that it was accepted.
        for member in self._members.all:
            member.accepted()
        self._progress.advance(accepted=accepted.serial)

    def _warn_members(self, _overdue: Overdue, now: float) -> None:
        for member in self._members.all:
            member.overdue()

    def _answer(self, answered: Answered, now: float) -> None:
        # An answer that nobody waits for any more is left: a claim ends by itself.
        answer = Answer(True, answered.token, answered.left)
        self._questions.answer(answered.question, answer)

    def _apply(self, apply: Apply, now: float) -> None:
        block = apply.block
        self._received += block.size
        self._members.hear(block, self._notices.among(block))

    def _extend(self, extend: Extend, now: float) -> None:
        epoch, until = extend
        if now > self._until:
            self._unverified += now - self._uncovered_since
        self._epoch, self._until = epoch, until
        self._uncovered_since = max(now, until)
        for member in self._members.all:
            member.extend(epoch, until)

    def _reported(self, report: Report) -> None:
        """The broker's answer to an ``Inquire``, for those transports that send one."""

    # -- What is known -------------------------------------------------------------

    @property
    def stats(self) -> BusStats:
        """What this node knows and has counted."""
        protocol = self._protocol
        now = self.clock.monotonic()
        uncovered = max(0.0, now - self._uncovered_since)
        return BusStats(
            role="detached" if protocol.phase.value == "detached" else "node",
            phase=protocol.phase.value,
            node=self.node.hex(),
            epoch=protocol.epoch,
            seq=protocol.seq,
            lag=max(0, protocol.target - protocol.seq),
            published=self._serial,
            owed=self._serial - self._progress.accepted,
            received=self._received,
            noticed=self._noticed,
            neighbours=0 if self.neighbours is None else len(self.neighbours.others),
            gaps=protocol.gaps,
            replays=protocol.replays,
            distrusts=protocol.distrusts,
            unverified=self._unverified + uncovered,
        )


_PERFORM: Final[dict[type, Callable[[NodeBus, Any, float], None]]] = {
    Send: lambda bus, effect, now: bus._send(effect.message),
    Apply: NodeBus._apply,
    Accepted: NodeBus._accepted,
    Extend: NodeBus._extend,
    SettledUpTo: lambda bus, effect, now: bus._progress.advance(settled=effect.serial),
    Distrust: lambda bus, effect, now: bus._members.distrust(ALL_TOPICS, effect.reason),
    Answered: NodeBus._answer,
    Passed: NodeBus._tell_members,
    Overdue: NodeBus._warn_members,
    Seek: lambda bus, effect, now: bus._seek(),
    Reported: lambda bus, effect, now: bus._reported(effect.report),
}
