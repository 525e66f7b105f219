"""The shared tier of a simulated cluster, and what is known there of who may serve what."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiered.coherence.witness import Record

if TYPE_CHECKING:
    from tests.cluster.node import SimNode

__all__ = ["SLACK", "Addresses", "Change", "Oracle"]

SLACK = 0.2
"""Seconds that the few round trips to the shared tier take, all in all."""
_ROUNDING = 1e-6


class Addresses(enum.Enum):
    """Where brokers can be."""

    ONE = "at one address: one at a time"
    TWO = "at two addresses"
    DECEPTIVE = "at what the nodes take for one address, and is two"


@dataclass
class Change:
    """A delete, number *number* of its key: who serves an older version serves what is gone."""

    key: int
    number: int
    node: SimNode
    serial: int
    urgent: bool
    issued: float
    accepted: dict[int, float] = field(default_factory=dict)
    """When, by epoch."""
    in_force: float = math.inf
    """When it was accepted by the epoch that the record named then."""
    settled: float = math.inf
    """When its node was told so."""


class Oracle:
    """Knows what everybody did. All times are true ones.

    Args:
        detection: seconds.
        addresses: where brokers can be.
        slowest: the least pace of any clock.
    """

    def __init__(self, keys: int, detection: float, addresses: Addresses, slowest: float) -> None:
        self.changes: list[list[Change]] = [[] for _ in range(keys)]
        self.values: list[int | None] = [None] * keys
        self.record: Record | None = None
        self._detection = detection
        self._addresses = addresses
        self._cut_off = 2 * detection / slowest + SLACK
        self._by_node: dict[bytes, list[Change]] = {}

    # -- The shared tier -----------------------------------------------------------

    def read(self, key: int) -> int:
        """The version that lies there, or is computed and put there."""
        value = self.values[key]
        if value is None:
            value = self.values[key] = len(self.changes[key])
        return value

    def delete(self, key: int, node: SimNode, serial: int, urgent: bool, now: float) -> None:
        """*node* deletes, and is about to publish that as its event *serial*."""
        self.values[key] = None
        changes = self.changes[key]
        changes.append(Change(key, len(changes) + 1, node, serial, urgent, now))
        self._by_node.setdefault(node.id, []).append(changes[-1])

    # -- The bus -------------------------------------------------------------------

    def accepted(self, node: bytes, first: int, last: int, epoch: int, now: float) -> None:
        """A broker has stamped these events: for all before them that nobody did, too."""
        for change in self._by_node.get(node, ()):
            if change.serial > last or (change.serial < first and change.accepted):
                continue
            change.accepted.setdefault(epoch, now)
            if self.record is not None and self.record.epoch == epoch:
                change.in_force = min(change.in_force, now)

    def settled(self, node: SimNode, serial: int, now: float) -> None:
        """*node* was told that nobody serves what its events up to *serial* are about."""
        for change in self._by_node.get(node.id, ()):
            if change.serial <= serial:
                change.settled = min(change.settled, now)

    def unsettled(self, node: SimNode) -> list[Change]:
        """The urgent ones that it still waits for."""
        return [
            change
            for change in self._by_node.get(node.id, ())
            if change.urgent and change.settled == math.inf
        ]

    # -- What may be served --------------------------------------------------------

    def check(self, node: SimNode, key: int, version: int, until: float) -> None:
        """*node* would have served *version* at any time up to *until*."""
        for change in self.changes[key][version:]:
            bounds = self._bounds(node, change)
            if until > min(bounds.values()) + _ROUNDING:
                raise AssertionError(
                    f"{node} serves version {version} of key {key} at {until:.4f}, which "
                    f"{change.node} deleted at {change.issued:.4f} as its {change.serial}; "
                    f"accepted {change.accepted}; not longer than {bounds}"
                )

    def _bounds(self, node: SimNode, change: Change) -> dict[str, float]:
        detection = self._detection / node.clock.rate
        bounds = {
            "accepted where it follows": change.accepted.get(node.protocol.epoch, math.inf)
            + detection,
        }
        could_write = max(change.issued, change.node.hindered)
        if self._addresses is Addresses.DECEPTIVE:
            # Until both have found out, they promise nothing to each other.
            could_write = max(could_write, change.node.strict_since, node.strict_since)
        else:
            bounds["settled"] = change.settled
        if self._addresses is Addresses.TWO:
            bounds["accepted in force"] = change.in_force + detection
        if self._addresses is Addresses.ONE:
            if change.accepted:
                bounds["accepted"] = min(change.accepted.values()) + detection
            # Nobody but the shared tier could have told it, and a node need not ask that.
            could_write = max(could_write, node.hindered)
        bounds["publisher could write"] = could_write + self._cut_off
        return bounds
