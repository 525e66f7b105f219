"""What stores share: checked weights, and evictions announced outside the lock."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from tiered.entry import Entry
from tiered.typing import Key, OnEvict, Weigher
from tiered.validation import check_number

__all__ = ["EXPIRED", "SIZE", "Node", "announce", "weigh"]

SIZE: Final = "size"
"""The cause of an eviction that made room."""
EXPIRED: Final = "expired"
"""The cause of an eviction of something stale."""

_logger = logging.getLogger("tiered.stores")


class Node(Entry):
    """An entry as a store keeps it.

    Attributes:
        key: the very object that the store's dictionary holds.
        place: names the entry in the store's order, where it keeps one; else 0.
        weight: its share of the capacity.
    """

    __slots__ = ("key", "place", "weight")

    key: Key
    place: int
    weight: float

    def __init__(self, value: Any, deadline: float, key: Key, place: int, weight: float) -> None:
        self.value = value
        self.deadline = deadline
        self.key = key
        self.place = place
        self.weight = weight

    def until(self, deadline: float) -> Node:
        """The same with another deadline; nodes do not change, readers hold them."""
        return Node(self.value, deadline, self.key, self.place, self.weight)


def weigh(weigher: Weigher | None, key: Key, value: Any) -> float:
    """The weight of a new entry.

    Raises:
        TypeError, ValueError: the weigher's answer is not a number of 0 or more.
    """
    if weigher is None:
        return 1
    return check_number("weigher(key, value)", weigher(key, value), low=0, hint="0 or more")


def announce(on_evict: OnEvict | None, victims: Iterable[Node], cause: str) -> None:
    """Call *on_evict* for each of *victims*; to be called without a lock.

    A callback that raises is logged and the rest are still called: it must not
    fail the unrelated write that happened to need the room.
    """
    if on_evict is None:
        return
    for victim in victims:
        try:
            on_evict(victim.key, victim.value, cause)
        except Exception:
            _logger.exception("on_evict failed for the key %r", victim.key)
