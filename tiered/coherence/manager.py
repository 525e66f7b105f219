"""What keeps the private tier of this process in step with everybody's changes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal

from tiered.clients.base import CacheClient
from tiered.clients.null import NullCacheClient
from tiered.clients.revision import Lease
from tiered.coherence.bus import Bus, Receipt
from tiered.coherence.copies import Copies
from tiered.coherence.follows import Follow, Follows
from tiered.coherence.lookout import Lookout
from tiered.coherence.messages import Event, Kind
from tiered.coherence.meter import ConsistencyMeter, Doubt, Probe
from tiered.coherence.names import topic_of
from tiered.coherence.stats import CoherenceStats
from tiered.coherence.workers import behind
from tiered.concurrency import fork
from tiered.stats.reports import Reports
from tiered.validation import check_count, check_number

__all__ = ["CoherenceManager"]


class CoherenceManager:
    """Tells others what changes here, and makes what others change disappear here.

    Constructed without doing anything: the first client that uses it starts the bus.

    Args:
        namespace: the same in all processes that share *shared*; others on the same bus are
            not disturbed.
        private: this process's own client, the nearest tier.
        shared: the client that all processes share, and that decides what is true; ``None``
            or a ``NullCacheClient`` if there is none: then what cannot be believed is a miss.
        bus: carries the events.
        quick_refresh: a value that was computed anew replaces older copies everywhere at
            once. Else these live to their end; so they do without *shared*.
        synchronous: ``delete``, ``expire`` and ``clear`` return when all live nodes have
            applied them.
        timeout: seconds for which they wait for that.
        wait_time: seconds for which a caller waits for another process to compute a value.
        claims: who grants the right to compute a key: the ``"shared"`` client or the
            ``"bus"``. By default the former, where it reaches other processes.
        sample: of so many changes one is asked about, to measure how coherent the copies are
            (see ``stats.meter``); 0 for none.

    Attributes:
        lease: copies are served unasked while ``now < lease.horizon``.
        copies: that the private tier holds.
        follows: who wants to know of changes.
        meter: of how coherent all copies are.
        attachments: what all clients of this manager have in common.
        started: whether it takes part in the bus; to be asked first where :meth:`start` is a
            call too many.

    Raises:
        TypeError, ValueError: an argument that cannot be right.

    Threads: safe.
    """

    eager: Final = True
    """For the bus. To drop a copy early is never wrong: who publishes has written before; what he
    could not write, because no server answered, he tells of again when it is written."""

    def __init__(
        self,
        namespace: str,
        private: CacheClient,
        shared: CacheClient | None,
        bus: Bus,
        *,
        quick_refresh: bool = False,
        synchronous: bool = False,
        timeout: float = 5.0,
        wait_time: float = 10.0,
        claims: Literal["shared", "bus"] | None = None,
        sample: int = 100,
    ) -> None:
        if not isinstance(namespace, str):
            raise TypeError(f"namespace must be a str, not {namespace!r}")
        if not isinstance(private, CacheClient):
            raise TypeError(f"private must be a CacheClient, not {private!r}")
        if private.capabilities.shared:
            raise ValueError(f"private must be a client of this process only, not {private!r}")
        if shared is not None and not isinstance(shared, CacheClient):
            raise TypeError(f"shared must be a CacheClient or None, not {shared!r}")
        if not all(hasattr(bus, name) for name in ("detection", "sole", "publish", "join")):
            raise TypeError(f"bus must be a bus, as a ZmqBus is, not {bus!r}")
        for name, flag in (("quick_refresh", quick_refresh), ("synchronous", synchronous)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be True or False, not {flag!r}")
        if claims not in (None, "shared", "bus"):
            raise ValueError(f'claims must be "shared", "bus" or None, not {claims!r}')
        self.namespace = namespace
        self.topic = topic_of(namespace)
        self.private = private
        self.shared = None if isinstance(shared, NullCacheClient) else shared
        self.bus = bus
        self.quick_refresh = quick_refresh
        self.synchronous = synchronous
        self.timeout = check_number("timeout", timeout, low=0.0, hint="seconds, 0 or more")
        self.wait_time = check_number("wait_time", wait_time, low=0.0, hint="seconds, 0 or more")
        reaches = self.shared is not None and self.shared.capabilities.shared
        self.claims_on_bus = claims == "bus" or (claims is None and not reaches)
        self.clock = private.clock
        self.lease = Lease()
        self.copies = Copies(private, namespace)
        self.attachments: dict[Any, Any] = {}
        self.follows = Follows()
        self._reports = Reports("tiered.coherence", self.clock)
        self.meter = ConsistencyMeter(check_count("sample", sample, low=0))
        self._lookout = Lookout(
            namespace,
            self.shared.authority if self.shared is not None and reaches else None,
            detection=bus.detection,
            sole=bus.sole,
            clock=self.clock,
            distrust=self.distrust,
            moved=self._open,
        )
        self._distrusted = 0
        self._marked = 0
        self._unmarked = False
        """Whether copies could not be marked, and it has to be tried again."""
        self._heard = self._dropped = self._published = self._unsettled = 0
        self.confirmed = self.refetched = self.probes = 0
        fork.register(self)
        self.after_fork()
        self._forked = False

    def after_fork(self) -> None:
        """What the parent was told, this process was not."""
        self._forked = True
        self._lock = threading.Lock()
        self._starting = threading.RLock()  # a signal's handler may be the next to start
        self.started = False
        self.lease.horizon = -math.inf

    # -- For clients ---------------------------------------------------------------

    def start(self) -> None:
        """Take part in the bus; a second call does nothing."""
        if self.started:
            return
        with self._starting:
            # Nobody goes on to make copies before changes of them are heard of.
            try:
                if self._forked and len(self.copies.ledger):
                    # The bus may be in step already, for others in this process.
                    self.distrust("changes were not heard of since the fork")
                self._forked = False
                self._adopt()
                self.bus.start()
                self.bus.join(self)
                if self.shared is not None:
                    self.shared.when_late(self._late)
                self.started = True
            except Exception as error:
                # Then nothing is served unasked; the next call tries again.
                self._reports.warn("start", "the bus cannot be started: %r", error)

    @property
    def verified(self) -> bool:
        """Whether copies may be served unasked now."""
        return self.clock.monotonic() < self.lease.horizon

    def publish(self, kind: Kind, names: Sequence[bytes], *, settle: bool = False) -> bool:
        """Tell everybody that *names* have changed, and wait if asked to.

        Returns:
            whether everybody has applied it, where that was waited for.
        """
        if not self.started:
            self.start()
        settle = settle and self.synchronous
        try:
            receipt = self.bus.publish(kind, self.topic, names, source=self, urgent=settle)
        except Exception as error:
            self._reports.warn("publish", "a change could not be published: %r", error)
            self._lookout.overdue()
            self._unsettled += 1
            return False
        self._published += len(names)
        if kind in _CHANGES:
            self.meter.changed(names[-1], self.clock.monotonic())
        return self._settled(receipt) if settle else True

    def _settled(self, receipt: Receipt) -> bool:
        ends = self.clock.monotonic() + self.timeout
        if receipt.settled(self.timeout):
            now = self.clock.monotonic()
            if self._lookout.await_sure(now, max(0.0, ends - now)):
                return True
        self._unsettled += 1
        # Not after *timeout* where the bus was closed, or the wait itself would be what delays it.
        waited = self.clock.monotonic() - (ends - self.timeout)
        what = "a change in %r is not known to all nodes after %.1f s"
        self._reports.warn("unsettled", what, self.namespace, waited)
        return False

    def follow(self, name: bytes, changed: Callable[[str], Any]) -> Follow:
        """Call ``changed(how)`` when others change what lies under *name*."""
        self.start()
        return self.follows.add(name, self.lease, changed)

    # -- For the bus ---------------------------------------------------------------

    def hear(self, events: Sequence[Event]) -> None:
        """Others' events of the topic."""
        now = self.clock.monotonic()
        for kind, _, name in events:
            self._heard += 1
            if kind is Kind.CLEAR:
                self.forget_all()
                continue
            if kind is Kind.PROBE:
                behind(partial(self._answer, Probe.unpacked(name)))
                continue
            if kind in _CHANGES:
                held = self.copies.ledger.get(name)
                if held is not None:
                    self._dropped += 1
                    held.heard = now
                    if not self.copies.drop(kind, held.key):
                        self.distrust("a copy could not be dropped")
            self.follows.tell(name, _HOW[kind])

    def forget_all(self) -> None:
        """Drop all copies, and those that are about to be made."""
        try:
            self.copies.drop_all()
        except Exception as error:
            self._reports.warn("forget", "copies could not be dropped: %r", error)
            self.distrust("copies could not be dropped")
        self.follows.tell_all("changed")

    def extend(self, epoch: int, until: float) -> None:
        """What is held, and not distrusted, may be served until *until*."""
        self._adopt()
        self._lookout.extend(epoch, until)
        if self._unmarked:
            self._unmarked = False
            self._mark_soon()
        self._measure()

    def accepted(self) -> None:
        """Events of this process have been accepted."""
        self._lookout.accepted()

    def overdue(self) -> None:
        """Events of this process wait for acceptance for longer than half the detection time."""
        self._lookout.overdue()

    # -- The meter -----------------------------------------------------------------

    def _measure(self) -> None:
        """Ask and answer what is due; in the bus's thread, once a beat."""
        now = self.clock.monotonic()
        for probe, answer in self.meter.settled(now, self._serves, self._lookout.answered):
            self.bus.tell(probe.node, self.topic + answer)
        for name in self.meter.due(now):
            probe = Probe(self.bus.node, name)
            self.bus.publish(Kind.PROBE, self.topic, [probe.packed()], source=self)

    def _serves(self, doubt: Doubt) -> bool:
        """Whether what was in doubt is served still."""
        there = self.copies.fresh(doubt.held) if self.verified else None
        return there is not None and there.value is doubt.entry.value

    def _late(self) -> None:
        """Deletes have come late to a server: others have copies that they read there meanwhile.

        They dropped what they had when the deletes were made, and found it there again.
        """
        self.publish(Kind.DISTRUST, (b"",))
        self.distrust("deletes have come late to a server")

    def _answer(self, probe: Probe) -> None:
        held = self.copies.ledger.get(probe.name)
        entry = self.copies.fresh(held) if self.verified else None
        answer = self.meter.judge(probe, held, entry, self.shared, self.clock.monotonic())
        self.probes += 1
        if answer is not None:
            self.bus.tell(probe.node, self.topic + answer)

    # -- Distrust ------------------------------------------------------------------

    def distrust(self, reason: str) -> None:
        """Events may be missing: all copies have to be confirmed."""
        with self._lock:
            self._distrusted += 1
            self.lease.horizon = -math.inf
        self.follows.tell_all("changed")
        self._mark_soon()

    def _adopt(self) -> None:
        """Keep in step what a manager that is gone has left in the private client."""
        if self.copies.adopt():
            self.distrust("copies were left by somebody who does not hear of changes any more")

    def _mark_soon(self) -> None:
        if not behind(self._mark_all):
            self._mark_all()

    def told(self, node: bytes, payload: bytes) -> None:
        """A message of *node*: its answer to a probe."""
        self.meter.answered(payload)

    def _open(self) -> None:
        """Let copies be served, unless some are still to be marked."""
        with self._lock:
            self.lease.horizon = -math.inf if self.marking else self._lookout.until

    def _mark_all(self) -> None:
        """Make all copies stale, to be confirmed when they are next used."""
        distrusted = self._distrusted
        if self._marked == distrusted:
            return  # by who began later than we did, and saw more
        try:
            self.copies.suspect_all()
        except Exception as error:
            # The private client is the user's, and so are keys: nothing is served until the next
            # beat has tried again.
            self._reports.warn("mark", "copies could not be marked as suspect: %r", error)
            self._unmarked = True
            return
        with self._lock:
            self._marked = max(self._marked, distrusted)
        self._open()

    # -- What is known -------------------------------------------------------------

    @property
    def marking(self) -> bool:
        """Whether copies are being made stale, so that none is served unasked meanwhile."""
        return self._marked != self._distrusted

    @property
    def busy(self) -> bool:
        """Whether workers are at it: marking copies, or looking at the witness."""
        return (self.marking and not self._unmarked) or self._lookout.looking

    @property
    def stats(self) -> CoherenceStats:
        """A frozen snapshot."""
        return CoherenceStats(
            verified=self.verified,
            heard=self._heard,
            dropped=self._dropped,
            published=self._published,
            confirmed=self.confirmed,
            refetched=self.refetched,
            distrusts=self._distrusted,
            unsettled=self._unsettled,
            meter=self.meter.stats,
            known=len(self.copies.ledger),
            bus=self.bus.stats,
        )

    def __repr__(self) -> str:
        return f"<CoherenceManager {self.namespace!r} of {self.private!r}>"


_CHANGES: Final = frozenset({Kind.DELETE, Kind.EXPIRE, Kind.STORED})
_HOW: Final = {
    Kind.DELETE: "changed",
    Kind.EXPIRE: "changed",
    Kind.STORED: "changed",
    Kind.CHANGED: "changed",
    Kind.DONE: "done",
    Kind.ABORT: "done",
}
