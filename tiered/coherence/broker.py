"""The protocol of a broker: it puts everybody's events into one order.

It knows which nodes may be serving on its word: those whose last ping is not older than
their lease can be. When a node asks to be told that everybody has applied an event, it waits
for exactly these: each either says so, or has stopped serving.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tiered.coherence.effects import BrokerEffect, Route, SendAll, SendTo, Time
from tiered.coherence.journal import Journal
from tiered.coherence.messages import (
    ALL_TOPICS,
    NOBODY,
    Block,
    BrokerMessage,
    Bye,
    ClaimKey,
    Event,
    Granted,
    Held,
    Hello,
    Inquire,
    Kind,
    Leave,
    Lost,
    Ping,
    Pong,
    Publish,
    ReleaseKey,
    Replay,
    Report,
    Row,
    Settled,
    Stranger,
    Tell,
    Told,
    Welcome,
    made,
    packed,
    without,
)
from tiered.coherence.node import MARGIN
from tiered.coherence.peers import Peer, Waits
from tiered.coherence.pending import PendingTable
from tiered.coherence.state import Phase, Step, Table

__all__ = ["BROKER_TABLE", "BrokerProtocol"]

SERVING = Phase.SERVING

_REPLAY_BYTES: Final = 256 * 1024
"""Of one answer to a ``Replay``; then the node asks for more."""
_ROWS: Final = 2048
_REMEMBERED: Final = 65_536
"""Nodes of the past, and epochs whose end is known."""
_MOST_SERIAL: Final = 1 << 62
"""No node counts as far as that; what goes on from more would not fit into a frame."""


class BrokerProtocol:
    """One broker, for one epoch.

    Args:
        epoch: a random number above 0 that no other epoch has, nor had.
        born: now (monotonic, seconds).
        detection: seconds, the same as its nodes'.
        journal_events, journal_bytes: what is kept for nodes that missed events.
        most_claims: in the pending table.

    Attributes:
        epoch: as given.
        seq: of the newest event.
        ignored: messages that mean nothing to a broker.

    Threads: one.
    """

    phase = SERVING

    def __init__(
        self,
        epoch: int,
        born: float,
        *,
        detection: float,
        journal_events: int = 100_000,
        journal_bytes: int = 16 * 1024 * 1024,
        most_claims: int = 65_536,
    ) -> None:
        self.epoch = epoch
        self.seq = 0
        self.ignored = 0
        self.journal = Journal(journal_events, journal_bytes)
        self._born = born
        self._lease = detection * MARGIN
        self._pending = PendingTable(most_claims, most_claims // 4, 3600.0)
        self._peers: dict[bytes, Peer] = {}
        """Who may be serving on our word."""
        self._past: OrderedDict[bytes, Peer] = OrderedDict()
        """Who may not, any more."""
        self._routes: tuple[Route, ...] | None = ()
        self._merged: OrderedDict[int, int] = OrderedDict()
        self._waits = Waits()
        self._strangers: set[bytes] = set()
        """Whom we have told so since the last tick."""
        self._effects: list[BrokerEffect] = []

    @property
    def nodes(self) -> int:
        """How many follow."""
        return len(self._peers)

    @property
    def claims(self) -> int:
        """How many keys are being computed under a claim from here."""
        return len(self._pending)

    def rows(self, now: float) -> Iterator[Row]:
        """Who follows, and how far each has come. Threads: any may ask."""
        for peer in list(self._peers.values()):
            yield Row(peer.node, peer.label, peer.seq, round((now - peer.heard) * 1000))

    def receive(self, route: Route, message: Any, now: float) -> Sequence[BrokerEffect]:
        """*message* has come along *route*."""
        step = BROKER_TABLE.get((self.phase, type(message)))
        if step is None:
            self.ignored += 1
            return ()
        step.action(self, (route, message), now)
        effects, self._effects = self._effects, []
        return effects

    def tick(self, now: float) -> Sequence[BrokerEffect]:
        """Time has passed; to be called a few times in each detection time."""
        return self.receive(None, Time(), now)

    def leave(self) -> Sequence[BrokerEffect]:
        """This broker is about to end: tell everybody."""
        self._arrange(None)
        if self._routes:
            self._effects.append(SendAll(self._routes, Leave(self.epoch)))
        effects, self._effects = self._effects, []
        return effects

    # -- Who is there --------------------------------------------------------------

    def _hello(self, said: tuple[Route, Hello], now: float) -> Phase:
        route, hello = said
        if hello.serial > _MOST_SERIAL:
            self.ignored += 1
            return SERVING
        peer = self._peers.get(hello.node) or self._past.get(hello.node) or Peer(hello.node)
        if hello.nonce <= peer.nonce:
            # It has been on its way for long, or comes twice. To act on it would be to take
            # somebody who serves for somebody who has distrusted, and serves nothing yet.
            return SERVING
        same = hello.epoch == self.epoch
        self._merge(hello)
        if not same and peer.node in self._peers:
            self._drop(peer, now)
        self._past.pop(peer.node, None)
        self._peers[peer.node] = peer
        self._routes = None
        peer.route, peer.label, peer.nonce, peer.heard = route, hello.label, hello.nonce, now
        peer.seq = hello.seq if same else self.seq
        peer.serial = max(peer.serial, hello.serial - 1)
        self._send(route, Welcome(hello.nonce, self.epoch, self.seq, peer.serial))
        if same:
            self._applied(hello.node, hello.seq, now)
        return SERVING

    def _merge(self, hello: Hello) -> None:
        """Another broker was followed before: it may have accepted what nobody here has heard.

        After a split both sides meet again in this way. The one who says so distrusts what he
        holds by himself; the others must be told, once for each end of that epoch.
        """
        if hello.epoch in (0, self.epoch):
            return
        known = self._merged.pop(hello.epoch, -1)
        self._merged[hello.epoch] = max(known, hello.seq)
        _forget_oldest(self._merged)
        if hello.seq > known and any(node != hello.node for node in self._peers):
            self._distrust()

    def _distrust(self) -> None:
        """Have everybody confirm what he holds: something was changed that nobody told."""
        self._order(NOBODY, 1, 1, packed([Event(Kind.DISTRUST, ALL_TOPICS, b"")]), False)

    def _peer(self, route: Route, node: bytes, epoch: int) -> Peer | None:
        """Who speaks, if it is one of ours."""
        peer = self._peers.get(node)
        if peer is None or epoch != self.epoch:
            if node not in self._strangers:
                # Once until the next tick: it may have sent much before it hears of that.
                self._strangers.add(node)
                self._send(route, Stranger(self.epoch))
            return None
        if peer.route != route:
            peer.route = route
            self._routes = None
        return peer

    def _bye(self, said: tuple[Route, Bye], now: float) -> Phase:
        peer = self._peers.get(said[1].node)
        if peer is not None and said[1].epoch == self.epoch:
            self._drop(peer, now)
        return SERVING

    def _drop(self, peer: Peer, now: float) -> None:
        """*peer* serves nothing on our word any more."""
        del self._peers[peer.node]
        self._past[peer.node] = peer
        _forget_oldest(self._past)
        self._routes = None
        self._pending.leave(peer.node)
        self._applied(peer.node, math.inf, now)

    # -- Events --------------------------------------------------------------------

    def _publish(self, said: tuple[Route, Publish], now: float) -> Phase:
        route, publish = said
        peer = self._peers.get(publish.node)
        if peer is None or publish.epoch != self.epoch or peer.route != route:
            peer = self._peer(route, publish.node, publish.epoch)
            if peer is None:
                return SERVING
        if publish.first > _MOST_SERIAL:
            self.ignored += 1
            return SERVING
        known = peer.serial + 1 - publish.first
        if not 0 <= known < publish.size:
            # All of it is known already, or something before it was lost and will come again.
            return SERVING
        try:
            events = without(known, publish.events) if known else publish.events
        except ValueError:
            self.ignored += 1
            return SERVING
        peer.serial += publish.size - known
        first, size = publish.first + known, publish.size - known
        self._order(publish.node, first, size, events, publish.urgent, last=peer)
        if publish.urgent:
            self._waits.add(peer, self.seq, self._peers.keys() - {peer.node})
            self._settle(now)
        return SERVING

    def _order(
        self,
        node: bytes,
        serial: int,
        size: int,
        events: bytes,
        urgent: bool,
        *,
        last: Peer | None = None,
    ) -> None:
        """Give events their numbers, and send them; to *last*, who has no use for them, last."""
        block = made(Block, (self.epoch, self.seq + 1, node, serial, size, events, urgent))
        self.seq += size
        self.journal.add(block)
        if last is None or self._routes is None or self._routes[-1] != last.route:
            self._arrange(last)
        if self._routes:
            self._effects.append(made(SendAll, (self._routes, block)))

    def _replay(self, said: tuple[Route, Replay], now: float) -> Phase:
        route, replay = said
        if self._peer(route, replay.node, replay.epoch) is None:
            return SERVING
        oldest = self.journal.oldest
        if replay.after < self.seq:
            if oldest is None or replay.after + 1 < oldest:
                self._send(route, Lost(self.epoch, self.seq))
                return SERVING
            for block in self.journal.after(replay.after, _REPLAY_BYTES):
                self._send(route, block)
        self._send(route, Pong(self.epoch, 0, self.seq))
        return SERVING

    def _ping(self, said: tuple[Route, Ping], now: float) -> Phase:
        route, ping = said
        peer = self._peer(route, ping.node, ping.epoch)
        if peer is None:
            return SERVING
        if ping.nonce:
            peer.heard = now
            self._send(route, Pong(self.epoch, ping.nonce, self.seq))
            if peer.settled:
                self._send(route, Settled(self.epoch, peer.settled))  # it may have been lost
        peer.seq = max(peer.seq, ping.seq)
        if self._waits:
            self._applied(ping.node, ping.seq, now)
        return SERVING

    # -- Who waits for everybody ---------------------------------------------------

    def _applied(self, node: bytes, seq: float, now: float) -> None:
        """*node* has applied all up to *seq*, or serves nothing (``inf``)."""
        self._waits.applied(node, seq)
        self._settle(now)

    def _settle(self, now: float) -> None:
        if not self._waits or now < self._born + self._lease:
            # Some may still be serving on the word of the broker before this one.
            return
        for peer, serial in self._waits.settled():
            peer.settled = max(peer.settled, serial)
            if peer.node in self._peers:
                self._send(peer.route, Settled(self.epoch, serial))

    # -- Claims, and messages for others -------------------------------------------

    def _claim(self, said: tuple[Route, ClaimKey], now: float) -> Phase:
        route, asked = said
        if self._peer(route, asked.node, asked.epoch) is None:
            return SERVING
        held = self._pending.claim(asked.topic + asked.name, asked.node, asked.ttl / 1000, now)
        if held.node == asked.node:
            self._send(route, Granted(self.epoch, asked.question, held.token))
        else:
            left = max(1, math.ceil((held.ends - now) * 1000))
            self._send(route, Held(self.epoch, asked.question, left))
        return SERVING

    def _release(self, said: tuple[Route, ReleaseKey], now: float) -> Phase:
        release = said[1]
        if release.epoch == self.epoch:
            self._pending.release(release.topic + release.name, release.token)
        return SERVING

    def _tell(self, said: tuple[Route, Tell], now: float) -> Phase:
        route, tell = said
        peer = self._peers.get(tell.to)
        if self._peer(route, tell.node, tell.epoch) is not None and peer is not None:
            self._send(peer.route, Told(self.epoch, tell.node, tell.payload))
        return SERVING

    def _inquire(self, said: tuple[Route, Inquire], now: float) -> Phase:
        rows = tuple(itertools.islice(self.rows(now), _ROWS))
        age = round((now - self._born) * 1000)
        oldest = self.journal.oldest or self.seq + 1
        claims = len(self._pending)
        report = Report(self.epoch, said[1].nonce, self.seq, oldest, age, claims, rows)
        self._send(said[0], report)
        return SERVING

    # -- Time ----------------------------------------------------------------------

    def _time(self, _said: tuple[Route, Time], now: float) -> Phase:
        silent = [peer for peer in self._peers.values() if now - peer.heard >= self._lease]
        for peer in silent:
            self._drop(peer, now)
        if any(peer.serial for peer in silent):
            # Who has published before may have died with an event in its hands.
            self._distrust()
        self._strangers.clear()
        self._pending.expire(now)
        self._settle(now)
        return SERVING

    # -- Sending -------------------------------------------------------------------

    def _send(self, route: Route, message: BrokerMessage) -> None:
        self._effects.append(SendTo(route, message))

    def _arrange(self, last: Peer | None) -> None:
        """Know all routes, that of *last* as the last one."""
        if self._routes is None:
            self._routes = tuple(peer.route for peer in self._peers.values())
        if last is not None:
            others = [route for route in self._routes if route != last.route]
            self._routes = (*others, last.route)


def _forget_oldest(known: OrderedDict[Any, Any]) -> None:
    if len(known) > _REMEMBERED:
        known.popitem(last=False)


_BROKER = BrokerProtocol
BROKER_TABLE: Final[Table[BrokerProtocol]] = {
    (SERVING, Hello): Step(
        _BROKER._hello, (SERVING,), "welcome; tell of what another one accepted"
    ),
    (SERVING, Publish): Step(_BROKER._publish, (SERVING,), "put into the order, send to all"),
    (SERVING, Ping): Step(_BROKER._ping, (SERVING,), "answer with the newest event's number"),
    (SERVING, Replay): Step(_BROKER._replay, (SERVING,), "send again, or say that it is lost"),
    (SERVING, ClaimKey): Step(_BROKER._claim, (SERVING,), "grant, or tell who holds it"),
    (SERVING, ReleaseKey): Step(_BROKER._release, (SERVING,), "end the claim"),
    (SERVING, Tell): Step(_BROKER._tell, (SERVING,), "pass on"),
    (SERVING, Inquire): Step(_BROKER._inquire, (SERVING,), "report who is there"),
    (SERVING, Bye): Step(_BROKER._bye, (SERVING,), "forget the node"),
    (SERVING, Time): Step(_BROKER._time, (SERVING,), "drop the silent; end claims and waits"),
}
"""What a message means to a broker."""
