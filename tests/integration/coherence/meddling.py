"""Nodes that are broken on purpose, to see that the checker notices, and nodes held up."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from tiered.clock import SystemClock
from tiered.coherence.bus import Bus, Member, Receipt
from tiered.coherence.messages import Event, Kind

__all__ = ["Meddled", "SteppedClock"]


class SteppedClock(SystemClock):
    """Somebody sets the clock on the wall.

    Attributes:
        offset: seconds by which it is wrong.
    """

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = 0.0

    def wall(self) -> float:
        return time.time() + self.offset


class _Between:
    """Stands between the bus and a member."""

    def __init__(self, member: Member, bus: Meddled) -> None:
        self._member = member
        self._bus = bus

    def hear(self, events: Sequence[Event]) -> None:
        time.sleep(max(0.0, self._bus.held_until - time.monotonic()))
        if self._bus.fault != "deaf":
            self._member.hear(events)

    def distrust(self, reason: str) -> None:
        if self._bus.fault not in ("deaf", "trusting"):
            self._member.distrust(reason)

    def extend(self, epoch: int, until: float) -> None:
        trusting = self._bus.fault in ("deaf", "trusting")
        self._member.extend(epoch, math.inf if trusting else until)

    def overdue(self) -> None:
        if self._bus.fault != "trusting":
            self._member.overdue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)


class _Received:
    """Says that everybody knows."""

    def accepted(self, timeout: float) -> bool:
        return True

    def settled(self, timeout: float) -> bool:
        return True


class Meddled:
    """A bus whose members are told less, or later, than they should be.

    Args:
        fault: ``"deaf"`` (events do not arrive), ``"trusting"`` (leases never end), ``"mute"``
            (what is published does not leave the process), or empty for none.
        joins: whether it may be started; else it is as if there were no network yet.

    Attributes:
        joins: as given.
        held_until: the bus's thread is held up until then (monotonic) at its next event.
    """

    def __init__(self, bus: Bus, fault: str, *, joins: bool) -> None:
        self._bus = bus
        self.joins = joins
        self.fault = fault
        self.held_until = -math.inf
        self._members: dict[int, tuple[Member, Any]] = {}

    @property
    def detection(self) -> float:
        # Whoever trusts so much does not look at the witness either.
        return 1e6 if self.fault == "trusting" else self._bus.detection

    def start(self) -> None:
        if self.joins:
            self._bus.start()

    def join(self, member: Member) -> None:
        between: Any = _Between(member, self)
        self._members[id(member)] = member, between
        self._bus.join(between)

    def leave(self, member: Member) -> None:
        _, between = self._members.pop(id(member))
        self._bus.leave(between)

    def publish(
        self,
        kind: Kind,
        topic: bytes,
        names: Sequence[bytes],
        *,
        source: Member | None = None,
        urgent: bool = False,
    ) -> Receipt:
        if self.fault == "mute":
            return _Received()
        between = self._members[id(source)][1] if id(source) in self._members else None
        return self._bus.publish(kind, topic, names, source=between, urgent=urgent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)
