"""The protocol of a node: it follows a broker, and knows how far it can be believed.

What it promises, as long as it is told the truth about the time: after ``Extend(epoch,
until)``, every event that the broker of *epoch* had accepted ``detection`` seconds before
*until* has been applied here. For a pong answers a ping, and what it says is not older than
the ping's *sending*, on this node's own clock; a message that was held up on its way extends
nothing. So neither a frozen process nor a stalled thread, a dead broker or a cut link needs to
be noticed by anybody for the lease to end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

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
    Passed,
    Reported,
    Seek,
    Send,
    SettledUpTo,
    Time,
)
from tiered.coherence.messages import (
    Block,
    Bye,
    Granted,
    Held,
    Hello,
    Leave,
    Lost,
    NodeMessage,
    Ping,
    Pong,
    Publish,
    Replay,
    Report,
    Settled,
    Stranger,
    Told,
    Welcome,
    made,
    without,
)
from tiered.coherence.owed import Owed, OwedEvents
from tiered.coherence.state import Phase, Step, Table

__all__ = ["MARGIN", "NODE_TABLE", "NodeProtocol"]

DETACHED, JOINING = Phase.DETACHED, Phase.JOINING
FOLLOWING, CATCHING_UP = Phase.FOLLOWING, Phase.CATCHING_UP

_PINGS_KEPT: Final = 64

MARGIN: Final = 1.25
"""Times the detection time: after that, a lease is over on any clock that deserves the name."""


class NodeProtocol:
    """One node.

    Args:
        node: its id, 8 random bytes that no other node has, nor had.
        label: what people know it by.
        detection: seconds after which nothing is served on the word of a silent broker.
        nonce: to count pings and hellos from; random, so that an answer to another life of
            this node is none to us.
        most_owed: events to keep while no broker accepts them.

    Attributes:
        phase: where it stands.
        epoch: that it follows, or followed last; 0 for none.
        seq: of the newest event that it has applied.
        target: of the newest one that it has heard of.
        owed: its events that no broker has accepted yet.
        gaps, replays, distrusts, ignored: counts; see ``BusStats``. *ignored* are messages that
            mean nothing in the phase.

    Threads: one.
    """

    def __init__(
        self,
        node: bytes,
        label: str,
        *,
        detection: float,
        nonce: int,
        most_owed: int = 100_000,
    ) -> None:
        self.node = node
        self.label = label
        self.phase = DETACHED
        self.epoch = 0
        self.seq = 0
        self.target = 0
        self.owed = Owed(most_owed)
        self.gaps = self.replays = self.distrusts = self.ignored = 0
        self._detection = detection
        self._beat = detection / 4
        self._patience = detection * 0.6
        self._nonce = nonce
        self._serial = 1
        self._hello = 0
        self._after = 0
        self._heard = self._asked = self._sent = self._pinged = -math.inf
        self._unwarned = math.inf
        """Since when the oldest event is owed of which nobody was warned."""
        self._pings: dict[int, float] = {}
        self._pong: float | None = None
        """When the ping was sent whose pong will extend the lease once all is applied."""
        self._serial_accepted = self._serial_settled = 0
        self._inherited: tuple[float, int] | None = None
        """When, and up to which serial, our events of the last epoch are settled."""
        self._effects: list[NodeEffect] = []

    # -- What happens --------------------------------------------------------------

    def receive(self, message: Any, now: float) -> Sequence[NodeEffect]:
        """*message* has come, or one of ``Found``, ``Gone`` and ``Time`` has happened."""
        step = NODE_TABLE.get((self.phase, type(message)))
        if step is None:
            self.ignored += 1
        else:
            self.phase = step.action(self, message, now)
        effects, self._effects = self._effects, []
        return effects

    def publish(
        self, first: int, size: int, events: bytes, now: float, *, urgent: bool = False
    ) -> Sequence[NodeEffect]:
        """*size* events of our own, with serials from *first* on.

        Where these leave some out, the events stand for all that were left out.
        """
        block = made(OwedEvents, (first, size, events, urgent, now))
        self._unwarned = min(self._unwarned, now)
        follows = first == self._serial
        self._serial = first + size
        kept = self.owed.add(block)
        if kept and not follows:
            self.owed.collapse()
        if not kept or not follows:
            # The serial of what is owed now is not what the broker expects: it has to be told;
            # if a welcome is on its way, when that is here.
            if self.phase is FOLLOWING or self.phase is CATCHING_UP:
                self.phase = self._say_hello(now)
        elif self.phase is FOLLOWING or self.phase is CATCHING_UP:
            if self.owed.size == size:
                self._sent = now
            message = made(Publish, (self.node, self.epoch, first, size, events, urgent))
            self._effects.append(made(Send, (message,)))
        effects, self._effects = self._effects, []
        return effects

    def leave(self) -> Sequence[NodeEffect]:
        """This node serves nothing any more. It cannot come back: another one can be made."""
        if self.epoch:
            self._effects.append(Extend(self.epoch, -math.inf))
            self._send(Bye(self.node, self.epoch))
        self.phase = DETACHED
        return self._taken()

    @property
    def wakes(self) -> float:
        """Seconds between two ``Time`` that it needs."""
        return self._beat / 2

    # -- Joining -------------------------------------------------------------------

    def _found(self, _found: Found, now: float) -> Phase:
        return self._say_hello(now)

    def _say_hello(self, now: float) -> Phase:
        self._nonce += 1
        self._hello = self._nonce
        self._heard = self._asked = now
        serial = self.owed.first or self._serial
        self._send(Hello(self.node, self._hello, self.epoch, self.seq, serial, self.label))
        return JOINING

    def _welcomed(self, welcome: Welcome, now: float) -> Phase:
        if welcome.nonce != self._hello:
            return self.phase  # the answer to an earlier hello
        self._heard = now
        self.target = welcome.seq
        if welcome.epoch != self.epoch or welcome.seq < self.seq:
            # What the last broker accepted last we may not have heard of.
            self._resync(welcome.epoch, welcome.seq, "another broker")
            self._inherited = (now + self._detection * MARGIN, self._serial_accepted)
        self._was_accepted(welcome.serial)
        if (self.owed.first or 0) > welcome.serial + 1:
            return self._say_hello(now)  # all was replaced since we said it: tell the new serial
        self._send_owed(now)
        phase = FOLLOWING
        if self.seq < self.target:
            phase = self._behind(now)
        self._ping(now)
        return phase

    def _resync(self, epoch: int, seq: int, reason: str) -> None:
        """Begin anew after *seq* of *epoch*: what was before, nobody can tell us any more."""
        self.distrusts += 1
        self.epoch, self.seq, self.target = epoch, seq, seq
        self._pong = None
        self._pings.clear()
        self._effects.append(Extend(epoch, -math.inf))
        self._effects.append(Distrust(reason))

    def _left(self, leave: Leave, now: float) -> Phase:
        if leave.epoch != self.epoch:
            return self.phase
        return self._detached()

    def _gone(self, _gone: Gone, now: float) -> Phase:
        return self._detached()

    def _detached(self) -> Phase:
        """The lease is left to run out by itself: what it says is as true as before."""
        self._effects.append(Seek())
        return DETACHED

    def _unknown(self, stranger: Stranger, now: float) -> Phase:
        if self.phase is JOINING and now - self._asked < self._beat:
            return JOINING  # said about something that we sent before
        return self._say_hello(now)

    # -- Following -----------------------------------------------------------------

    def _ordered(self, block: Block, now: float) -> Phase:
        if block.epoch != self.epoch:
            return self.phase
        self._heard = now
        last = block.first + block.size - 1
        self.target = max(self.target, last)
        own = block.node == self.node
        if own:
            # Also if it comes too early: it is in the order.
            self._was_accepted(block.serial + block.size - 1)
        if last <= self.seq:
            return self.phase  # again
        known = self.seq + 1 - block.first
        if known < 0:
            return self._behind(now)
        self.seq = last
        if not own:
            self._effects.append(made(Apply, (_after(block, known) if known else block,)))
        if self.phase is CATCHING_UP:
            self._asked = now  # the replay is coming in
        if block.urgent:
            self._send(Ping(self.node, self.epoch, 0, self.seq))
        if self.phase is FOLLOWING and self._pong is None:
            return FOLLOWING
        return self._caught_up(now)

    def _behind(self, now: float) -> Phase:
        """Events are missing: nothing is served until they are here."""
        if self.phase is not CATCHING_UP:
            self.gaps += 1
            self._effects.append(Extend(self.epoch, -math.inf))
            self._asked = -math.inf
        if now - self._asked >= self._beat / 2:
            self._ask_again(now)
        return CATCHING_UP

    def _ask_again(self, now: float) -> None:
        self._asked, self._after = now, self.seq
        self._send(Replay(self.node, self.epoch, self.seq))

    def _caught_up(self, now: float) -> Phase:
        if self.phase is CATCHING_UP:
            if self.seq < self.target:
                return CATCHING_UP
            self.replays += 1
        if self._pong is not None:
            self._extend(self._pong)
        return FOLLOWING

    def _lost(self, lost: Lost, now: float) -> Phase:
        if lost.epoch != self.epoch or lost.seq <= self.seq:
            return self.phase
        self._heard = now
        self._resync(lost.epoch, lost.seq, "events are lost")
        return self._say_hello(now)  # which of ours were accepted, the welcome tells

    # -- The lease -----------------------------------------------------------------

    def _ping(self, now: float) -> None:
        self._pinged = now
        self._nonce += 1
        self._pings[self._nonce] = now
        while len(self._pings) > _PINGS_KEPT:
            del self._pings[next(iter(self._pings))]
        self._send(Ping(self.node, self.epoch, self._nonce, self.seq))

    def _ponged(self, pong: Pong, now: float) -> Phase:
        sent = self._pings.pop(pong.nonce, None)
        if pong.epoch != self.epoch or (sent is None and pong.nonce):
            return self.phase
        self._heard = now
        self.target = max(self.target, pong.seq)
        if sent is not None and (self._pong is None or sent > self._pong):
            self._pong = sent
        if self.seq < self.target:
            if self.phase is CATCHING_UP and not pong.nonce and self.seq > self._after:
                self._ask_again(now)  # this part of the replay is over, and brought us on
                return CATCHING_UP
            return self._behind(now)
        return self._caught_up(now)

    def _extend(self, pong: float) -> None:
        self._effects.append(Extend(self.epoch, pong + self._detection))
        self._pong = None

    # -- What is owed --------------------------------------------------------------

    def _published(self, block: OwedEvents) -> Publish:
        return Publish(self.node, self.epoch, block.first, block.size, block.events, block.urgent)

    def _was_accepted(self, serial: int) -> None:
        self._serial_accepted = max(self._serial_accepted, serial)
        if self.owed.accepted(serial):
            self._effects.append(Accepted(serial))
            self._sent = self._heard
            self._unwarned = max(self._unwarned, self.owed.since)

    def _send_owed(self, now: float) -> None:
        self._sent = now
        for block in self.owed:
            self._send(self._published(block))

    def _settled(self, settled: Settled, now: float) -> Phase:
        if settled.epoch == self.epoch:
            self._was_accepted(settled.serial)
            self._was_settled(settled.serial)
        return self.phase

    def _was_settled(self, serial: int) -> None:
        if serial > self._serial_settled:  # brokers say it again and again
            self._serial_settled = serial
            self._effects.append(SettledUpTo(serial))

    # -- Time ----------------------------------------------------------------------

    def _joining(self, _time: Time, now: float) -> Phase:
        self._remind(now)
        if now - self._asked >= self._patience:
            return self._detached()
        return JOINING

    def _following(self, _time: Time, now: float) -> Phase:
        self._remind(now)
        if now - self._heard >= self._patience:
            return self._detached()
        if self._inherited is not None and now >= self._inherited[0]:
            # Nobody serves on the word of the last broker any more, and all who follow this one
            # have confirmed what they serve: what that one had accepted is settled.
            self._was_settled(self._inherited[1])
            self._inherited = None
        if now - self._pinged >= self._beat:
            self._ping(now)
        if self.owed.size and now - self._sent >= self._beat:
            self._send_owed(now)
        return self._behind(now) if self.phase is CATCHING_UP else self.phase

    def _waiting(self, _time: Time, now: float) -> Phase:
        self._remind(now)
        return DETACHED

    def _remind(self, now: float) -> None:
        if now - self._unwarned >= self._detection / 2:
            self._unwarned = math.inf  # once for all that is owed now: doubt is not withdrawn
            self._effects.append(Overdue())

    # -- For others ----------------------------------------------------------------

    def _granted(self, granted: Granted, now: float) -> Phase:
        if granted.epoch == self.epoch:
            self._effects.append(Answered(granted.question, granted.token, 0.0))
        return self.phase

    def _held(self, held: Held, now: float) -> Phase:
        if held.epoch == self.epoch:
            self._effects.append(Answered(held.question, 0, held.left / 1000))
        return self.phase

    def _told(self, told: Told, now: float) -> Phase:
        self._effects.append(Passed(told.node, told.payload))
        return self.phase

    def _reported(self, report: Report, now: float) -> Phase:
        self._effects.append(Reported(report))
        return self.phase

    def _send(self, message: NodeMessage) -> None:
        self._effects.append(Send(message))

    def _taken(self) -> Sequence[NodeEffect]:
        effects, self._effects = self._effects, []
        return effects


def _after(block: Block, known: int) -> Block:
    """*block* without its first *known* events. Where these make no sense, nor does the whole."""
    try:
        events = without(known, block.events)
    except ValueError:
        return block
    first, serial = block.first + known, block.serial + known
    return block._replace(first=first, serial=serial, size=block.size - known, events=events)


def _table() -> Table[NodeProtocol]:
    node = NodeProtocol
    in_step = (FOLLOWING, CATCHING_UP)
    table: dict[tuple[Phase, type], Step[NodeProtocol]] = {
        (DETACHED, Found): Step(node._found, (JOINING,), "say hello"),
        (DETACHED, Time): Step(node._waiting, (DETACHED,), "wait for a broker"),
        (JOINING, Found): Step(node._found, (JOINING,), "say hello to another one"),
        (JOINING, Gone): Step(node._gone, (DETACHED,), "look for another"),
        (JOINING, Welcome): Step(
            node._welcomed, (JOINING, *in_step), "follow; a new epoch is distrusted"
        ),
        (JOINING, Stranger): Step(node._unknown, (JOINING,), "say it again after a while"),
        (JOINING, Leave): Step(node._left, (JOINING, DETACHED), "look for another"),
        (JOINING, Time): Step(node._joining, (JOINING, DETACHED), "no answer for too long"),
    }
    for phase in in_step:
        table |= {
            (phase, Block): Step(node._ordered, in_step, "in order, or a gap: ask for a replay"),
            (phase, Pong): Step(
                node._ponged, in_step, "extend the lease, unless events are missing"
            ),
            (phase, Lost): Step(node._lost, (phase, JOINING), "not kept any more: distrust"),
            (phase, Stranger): Step(node._unknown, (JOINING,), "say hello again"),
            (phase, Leave): Step(node._left, (phase, DETACHED), "look for another"),
            (phase, Gone): Step(node._gone, (DETACHED,), "look for another"),
            (phase, Found): Step(node._found, (JOINING,), "say hello to another one"),
            (phase, Time): Step(node._following, (phase, DETACHED), "silent for too long"),
            (phase, Granted): Step(node._granted, (phase,), "compute"),
            (phase, Held): Step(node._held, (phase,), "wait"),
            (phase, Settled): Step(node._settled, (phase,), "everybody has it"),
            (phase, Told): Step(node._told, (phase,), "pass on"),
            (phase, Report): Step(node._reported, (phase,), "pass on"),
        }
    return table


NODE_TABLE: Final = _table()
"""What a message means to a node, by its phase."""
