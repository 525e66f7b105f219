"""What the S3-FIFO store is made of: nodes that count their uses, and queues of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from tiered.stores.weighing import Node
from tiered.typing import Key

__all__ = ["FifoNode", "Queue"]


class FifoNode(Node):
    """An entry as this store keeps it.

    Attributes:
        tag: what the ghost will remember; kept, as hashing a key may run any code.
        uses: reads since it joined its queue; may exceed ``MOST_USES``.
    """

    __slots__ = ("tag", "uses")

    tag: int
    uses: int

    def __init__(
        self, value: Any, deadline: float, key: Key, place: int, weight: float, *, tag: int
    ) -> None:
        super().__init__(value, deadline, key, place, weight)
        self.tag = tag
        self.uses = 0

    def until(self, deadline: float) -> FifoNode:
        """The same with another deadline; nodes do not change, readers hold them."""
        return self.renewed(self.value, deadline, self.weight)

    def renewed(self, value: Any, deadline: float, weight: float) -> FifoNode:
        """The same entry, its uses included, with another value."""
        node = FifoNode(value, deadline, self.key, self.place, weight, tag=self.tag)
        node.uses = self.uses
        return node


class Queue:
    """Nodes by place, oldest first, and their weight. Never hashes or compares a key.

    Threads: as of the store, which calls it with its lock held.
    """

    __slots__ = ("nodes", "usage")

    def __init__(self) -> None:
        self.nodes: OrderedDict[int, FifoNode] = OrderedDict()
        self.usage: float = 0

    def oldest(self) -> FifoNode:
        """The one that has been here longest; there must be one."""
        return next(iter(self.nodes.values()))

    def append(self, node: FifoNode) -> None:
        """Add *node* as the newest."""
        self.nodes[node.place] = node
        self.usage += node.weight

    def take(self, place: int) -> bool:
        """Remove what has *place*; whether it was here."""
        node = self.nodes.pop(place, None)
        if node is None:
            return False
        self.usage -= node.weight
        return True

    def replace(self, node: FifoNode) -> None:
        """Put *node* where the one with its place is; there must be one."""
        before = self.nodes[node.place]
        self.nodes[node.place] = node
        self.usage += node.weight - before.weight

    def clear(self) -> None:
        """Remove all."""
        self.nodes.clear()
        self.usage = 0

    def count(self) -> None:
        """Weigh everything anew."""
        self.usage = sum(node.weight for node in self.nodes.values())
