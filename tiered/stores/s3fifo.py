"""The S3-FIFO store: what is used once leaves early, what is used again stays.

New entries wait in a *small* queue, a tenth of the capacity. Those with two uses
when they reach its end move to the *main* queue; the others leave, and a *ghost*
remembers their hashes. What comes back while it is remembered goes to the main
queue at once, where an entry goes round again for each of its last three uses. A
scan of keys that nobody asks for again so passes through the small queue and
leaves the rest in place. (Yang et al., "FIFO queues are all you need for cache
eviction", SOSP 2023.)

A hit only counts: no order changes, so it needs no lock under the GIL. Two
threads that count at the same time may lose a use; that misplaces nothing.

Keys may run any Python code when they are compared, as in the LRU store, and the
same answer applies: one ``dict`` by key, and queues by *place*, a serial number.
Here a place names an entry through both queues, until it grows out of its room. A
new entry joins its queue before the dictionary and leaves it first, so that the
usage always is the weight of what is in the queues, whatever a comparison does or
raises in between. What the store knew before a comparison it looks up again after.

Cost: an eviction takes a few steps on average, but when every entry of the main
queue has been used, the next one goes round it up to three times.
"""

from __future__ import annotations

import itertools
import threading
from typing import Any, Final

from tiered.concurrency import fork
from tiered.entry import ALWAYS, Condition, Entry, admits
from tiered.stores.ghost import Ghost, tag_of
from tiered.stores.queues import FifoNode, Queue
from tiered.stores.weighing import EXPIRED, SIZE, announce, weigh
from tiered.typing import HotPath, Key, OnEvict, Weigher

__all__ = ["LockedS3FIFOStore", "S3FIFOStore"]

MOST_USES: Final = 3
"""Uses beyond these do not count."""
USES_TO_STAY: Final = 2
"""The uses that take an entry from the small queue to the main queue."""
SMALL_SHARE: Final = 0.1


class S3FIFOStore:
    """Holds up to *capacity* of weight; keeps what is asked for more than once.

    Args:
        capacity: entries, or units of *weigher*; ``inf`` for no bound.
        weigher: gives an entry's weight; one each without it.
        on_evict: called outside the lock for what was evicted.
    """

    def __init__(
        self,
        capacity: float,
        weigher: Weigher | None = None,
        on_evict: OnEvict | None = None,
    ) -> None:
        self.capacity = capacity
        self._weigher = weigher
        self._on_evict = on_evict
        self._nodes: dict[Key, FifoNode] = {}
        self._small = Queue()
        self._main = Queue()
        self._small_target = SMALL_SHARE * capacity
        self._ghost = Ghost()
        self._evicted = False  # has anything left for size yet
        self._places = itertools.count()
        self._lock = threading.RLock()
        fork.register(self)

    def after_fork(self) -> None:
        """A new lock; and the count again, as a writer may have been between two steps."""
        self._lock = threading.RLock()
        for place in self._main.nodes:
            self._small.nodes.pop(place, None)  # it was on its way
        self._small.count()
        self._main.count()

    @property
    def usage(self) -> float:
        """The weight held."""
        with self._lock:
            return self._small.usage + self._main.usage

    def __len__(self) -> int:
        with self._lock:
            return len(self._small.nodes) + len(self._main.nodes)

    def entry(self, key: Key) -> Entry | None:
        """What is held, fresh or stale; a use."""
        node = self._nodes.get(key)
        if node is not None:
            node.uses += 1
        return node

    def hot_path(self) -> HotPath:
        """A C call, and a count."""
        return HotPath(self._nodes.get, counts=True)

    def put(
        self, key: Key, value: Any, deadline: float, now: float, condition: Condition = ALWAYS
    ) -> bool:
        """Hold *value*; ``False`` if *condition* forbids, or it outweighs the capacity.

        A value that is too heavy still displaces the one before it, which would
        otherwise live on although the writer has replaced it.
        """
        weight = weigh(self._weigher, key, value)
        victims: list[FifoNode] = []
        with self._lock:
            old = self._nodes.get(key)
            if not admits(condition, old, deadline, now):
                return False
            fits = weight <= self.capacity
            if not fits:
                if old is not None:
                    self._drop(old)
            elif old is None:
                node = FifoNode(value, deadline, key, next(self._places), weight, tag=tag_of(key))
                self._insert(node, victims)
            else:
                self._renew(old, old.renewed(value, deadline, weight), victims)
        announce(self._on_evict, victims, SIZE)
        return fits

    def touch(self, key: Key, deadline: float) -> bool:
        """Move the deadline out; ``False`` if nothing is held or it lives longer already."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None or node.deadline >= deadline:
                return False
            return self._swap(node, node.until(deadline))

    def expire(self, key: Key, now: float) -> bool:
        """Move the deadline in to *now*; ``False`` if nothing fresh is held."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None or node.deadline <= now:
                return False
            return self._swap(node, node.until(now))

    def remove(self, key: Key) -> bool:
        """Forget *key*; whether it was held."""
        with self._lock:
            node = self._nodes.pop(key, None)
            if node is not None:
                self._take(node)
        return node is not None

    def sweep(self, before: float) -> int:
        """Forget what has a deadline before *before*; how many."""
        with self._lock:
            stale = [node for node in self._held() if node.deadline < before]
            victims = [node for node in stale if self._drop(node)]
        announce(self._on_evict, victims, EXPIRED)
        return len(victims)

    def clear(self) -> int:
        """Forget everything, also what the ghost remembers; how much it was."""
        with self._lock:
            # The dictionary itself stays: whoever reads without the lock holds it.
            forgotten = self._held()
            self._nodes.clear()
            self._small.clear()
            self._main.clear()
            self._ghost.clear()
            self._evicted = False
        return len(forgotten)

    # -- With the lock held ------------------------------------------------------

    def _held(self) -> list[FifoNode]:
        return [*self._small.nodes.values(), *self._main.nodes.values()]

    def _queue_of(self, node: FifoNode) -> Queue | None:
        """Where *node* is; ``None`` for what leaves in the middle of this very comparison."""
        if node.place in self._small.nodes:
            return self._small
        return self._main if node.place in self._main.nodes else None

    def _insert(self, node: FifoNode, victims: list[FifoNode]) -> None:
        """Hold *node*, whose key is new."""
        self._make_room(node.weight, victims)
        if self._ghost.recall(node.tag):
            queue = self._main
        elif not self._evicted and self._small.usage >= self._small_target:
            queue = self._main  # the first fill: there is nothing yet to protect from a scan
        else:
            queue = self._small
        queue.append(node)
        found = None
        try:
            found = self._nodes.setdefault(node.key, node)
        finally:
            if found is not node:  # the comparison failed, or has written the key itself
                self._take(node)
        if self._queue_of(node) is None:
            self._unlink(node)

    def _renew(self, old: FifoNode, new: FifoNode, victims: list[FifoNode]) -> None:
        """Hold *new* instead of *old*: where that was, or if it grew too much, as the newest."""
        usage = self._small.usage + self._main.usage
        if usage - old.weight + new.weight <= self.capacity and self._swap(old, new):
            return
        queue = self._queue_of(old) or self._main
        queue.take(old.place)
        new.place = next(self._places)
        try:
            self._make_room(new.weight, victims)
            queue.append(new)
            self._nodes[new.key] = new
        except BaseException:
            self._take(new)
            self._restore(old)
            raise
        if self._queue_of(new) is None:
            self._unlink(new)

    def _swap(self, old: FifoNode, new: FifoNode) -> bool:
        """Hold *new* in the place of *old*; ``False`` if that is leaving just now."""
        if self._queue_of(old) is None:
            return False
        self._nodes[new.key] = new
        queue = self._queue_of(new)
        if queue is None:
            self._unlink(new)
        else:
            queue.replace(new)
        return True

    def _make_room(self, weight: float, victims: list[FifoNode]) -> None:
        small, main = self._small, self._main
        while (small.nodes or main.nodes) and small.usage + main.usage + weight > self.capacity:
            victims.append(self._evict())

    def _evict(self) -> FifoNode:
        """Take out one entry, of which there is at least one, and return it."""
        small, main = self._small, self._main
        while True:
            if small.nodes and (small.usage >= self._small_target or not main.nodes):
                node = small.oldest()
                if node.uses < USES_TO_STAY:
                    self._drop(node)
                    self._remember(node.tag)
                    break
                node.uses = 0
                main.append(node)  # before it leaves the other, or a fork would lose it
                small.take(node.place)
            else:
                node = main.oldest()
                if node.uses == 0:
                    self._drop(node)
                    break
                node.uses = min(node.uses, MOST_USES) - 1
                main.nodes.move_to_end(node.place)
        self._evicted = True
        return node

    def _remember(self, tag: int) -> None:
        """Add *tag* to the ghost."""
        self._ghost.remember(tag, self.capacity if self._weigher is None else len(self))

    def _take(self, node: FifoNode) -> bool:
        """Take *node* out of its queue; whether it was in one."""
        return self._small.take(node.place) or self._main.take(node.place)

    def _drop(self, node: FifoNode) -> bool:
        """Forget *node*; whether it was held."""
        if not self._take(node):
            return False
        self._unlink(node)
        return True

    def _unlink(self, node: FifoNode) -> None:
        """Let readers no longer find *node*, which is in no queue any more."""
        try:
            found = self._nodes.get(node.key)
            if found is not None and found.place == node.place:
                gone = self._nodes.pop(node.key, None)
                if gone is not None:
                    self._take(gone)  # it is another one if a comparison wrote it just now
        except BaseException:
            self._restore(node)
            raise

    def _restore(self, node: FifoNode) -> None:
        """Count *node* again: a comparison failed, and readers still find it."""
        self._take(node)
        self._main.append(node)


class LockedS3FIFOStore(S3FIFOStore):
    """The same for interpreters without a GIL, where a hit takes the lock too."""

    def entry(self, key: Key) -> Entry | None:
        """What is held, fresh or stale; a use."""
        with self._lock:
            return super().entry(key)

    def hot_path(self) -> HotPath:
        """:meth:`entry` as a whole."""
        return HotPath(self.entry)
