"""What the users of a bus and the bus know of each other.

A *member* is somebody who keeps copies: it hears of all events of its topic, is told when
events may be missing, and until when silence means that nothing has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tiered.coherence.messages import Event, Kind

__all__ = ["Answer", "Bus", "BusStats", "Member", "Receipt"]


class Member(Protocol):
    """Who keeps copies of what lies in a topic.

    Who has an attribute ``eager`` that is true may hear of single changes before their turn, and
    does not hear of them again when they come in their order. Who joins after a change was told
    ahead does not hear of it at all: nothing may be held before joining.

    Threads: all methods are called in the bus's thread, except for events of this very
    process, which come in the thread that publishes them. They are to be quick, and not raise.
    """

    @property
    def topic(self) -> bytes:
        """``ALL_TOPICS`` to hear of all."""
        ...

    def hear(self, events: Sequence[Event]) -> None:
        """Others' events of the topic, in their order; single changes earlier, if it is eager."""
        ...

    def distrust(self, reason: str) -> None:
        """Events may be missing: whatever is held now may be out of date."""
        ...

    def extend(self, epoch: int, until: float) -> None:
        """What is held, and not distrusted, may be served until *until* (monotonic, seconds).

        ``-inf`` ends that now. *epoch* is that of the broker whose word it is.
        """
        ...

    def accepted(self) -> None:
        """Events of this process have been accepted by the broker."""
        ...

    def overdue(self) -> None:
        """Events of this process wait for acceptance for longer than half the detection time."""
        ...

    def told(self, node: bytes, payload: bytes) -> None:
        """A message from *node* to this one."""
        ...


class Receipt(Protocol):
    """What became of published events.

    Threads: safe. Who keeps the bus from working is told ``False`` at once: its own thread, and
    a signal's handler that has interrupted a thread while that sends. So is who waits for a bus
    that was closed.
    """

    def accepted(self, timeout: float) -> bool:
        """Wait until the broker has them in its order; ``False`` after *timeout* seconds."""
        ...

    def settled(self, timeout: float) -> bool:
        """Wait until all live nodes have applied them; of urgent ones only."""
        ...


class Answer(NamedTuple):
    """What became of a claim.

    Attributes:
        asked: whether there was a broker to answer.
        token: of the claim if it was granted; else 0.
        left: seconds for which another holds it at most.
    """

    asked: bool
    token: int = 0
    left: float = 0.0


@dataclass(frozen=True, slots=True)
class BusStats:
    """What a node knows and has counted.

    Attributes:
        role: ``"broker"``, ``"node"`` or ``"detached"``.
        phase: of the protocol, as in :mod:`tiered.coherence.state`.
        node: of this process, in hex.
        broker: the address that is followed, or "".
        epoch: that is followed; 0 for none.
        seq: of the newest event that is applied here.
        lag: events of which it is known that they are missing here.
        nodes: that follow this broker; 0 for who is none.
        published: events that were published here.
        owed: of these, how many no broker has accepted yet.
        received: events of others.
        foreign: frames that were dropped: not ours, malformed, not authenticated.
        gaps: times at which events were found missing.
        replays: of these, how often the broker still had them.
        distrusts: times at which everything held had to be confirmed.
        noticed: changes that other processes of this host told of by themselves, ahead of the bus.
        neighbours: other processes of this host that are known, and told straight if they are few.
        takeovers: times at which this process became the broker.
        unverified: seconds in all for which nothing could be served unasked.
    """

    role: str = "detached"
    phase: str = "detached"
    node: str = ""
    broker: str = ""
    epoch: int = 0
    seq: int = 0
    lag: int = 0
    nodes: int = 0
    published: int = 0
    owed: int = 0
    received: int = 0
    foreign: int = 0
    gaps: int = 0
    replays: int = 0
    distrusts: int = 0
    noticed: int = 0
    neighbours: int = 0
    takeovers: int = 0
    unverified: float = 0.0


class Bus(Protocol):
    """Carries the events. Threads: safe."""

    @property
    def node(self) -> bytes:
        """The id of this process's node."""
        ...

    @property
    def detection(self) -> float:
        """Seconds after which nothing is served on the word of a broker that is silent."""
        ...

    @property
    def sole(self) -> bool:
        """Whether there can only ever be one broker at a time."""
        ...

    @property
    def stats(self) -> BusStats: ...

    def start(self) -> None:
        """Take part. A second call does nothing."""
        ...

    def close(self) -> None:
        """Leave, and give everything back. A closed bus may be started again."""
        ...

    def join(self, member: Member) -> None:
        """Have *member* hear of its topic; it is held weakly."""
        ...

    def leave(self, member: Member) -> None: ...

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
        ...

    def claim(self, topic: bytes, name: bytes, ttl: float, timeout: float) -> Answer:
        """Ask for the right to compute; waits for the answer up to *timeout* seconds."""
        ...

    def release(self, topic: bytes, name: bytes, token: int) -> None:
        """Give it back. Never waits."""
        ...

    def tell(self, node: bytes, payload: bytes) -> None:
        """Send *payload* to a member of the same topic in *node*. Never waits."""
        ...
