"""What the stores that choose their victims exactly must do, on plain lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiered.entry import ALWAYS, Condition


@dataclass
class Item:
    """An entry of a model."""

    key: Any
    value: Any
    deadline: float
    weight: float
    uses: int = 0


def weight_of(items: list[Item]) -> float:
    """What *items* weigh together."""
    return sum(item.weight for item in items)


def tag(key: Any) -> int:
    """The upper half of the hash times the golden ratio, as unsigned words."""
    return (hash(key) % 2**64 * 0x9E3779B97F4A7C15) % 2**64 // 2**32 or 1


class Model:
    """The store protocol on *queues* of items, the oldest first; a policy fills in the rest."""

    def __init__(
        self,
        capacity: float,
        weigher: Callable[[Any, Any], float] | None = None,
        on_evict: Callable[[Any, Any, str], object] | None = None,
    ) -> None:
        self.capacity = capacity
        self.weigher = weigher
        self.on_evict = on_evict or (lambda key, value, cause: None)
        self.clear_all()

    def clear_all(self) -> None:
        """As new."""
        raise NotImplementedError

    @property
    def queues(self) -> list[list[Item]]:
        """In the order in which they are swept."""
        raise NotImplementedError

    def used(self, queue: list[Item], item: Item) -> None:
        """A reader has found *item*."""
        raise NotImplementedError

    def add(self, item: Item) -> None:
        """Hold a new key that fits, and make room for it."""
        raise NotImplementedError

    def renew(self, queue: list[Item], item: Item, value: Any, weight: float) -> None:
        """Give a present key another value that fits."""
        raise NotImplementedError

    def find(self, key: Any) -> tuple[list[Item], Item] | None:
        for queue in self.queues:
            for item in queue:
                if item.key is key or item.key == key:
                    return queue, item
        return None

    @property
    def usage(self) -> float:
        return sum(weight_of(queue) for queue in self.queues)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.queues)

    def entry(self, key: Any) -> tuple[Any, float] | None:
        found = self.find(key)
        if found is None:
            return None
        self.used(*found)
        return found[1].value, found[1].deadline

    def put(
        self, key: Any, value: Any, deadline: float, now: float, condition: Condition = ALWAYS
    ) -> bool:
        weight = 1 if self.weigher is None else self.weigher(key, value)
        found = self.find(key)
        if found is not None and (
            (condition is Condition.IF_ABSENT and found[1].deadline > now)
            or (condition is Condition.IF_OLDER and found[1].deadline >= deadline)
        ):
            return False
        if weight > self.capacity:
            self.remove(key)
            return False
        if found is None:
            self.add(Item(key, value, deadline, weight))
        else:
            found[1].deadline = deadline
            self.renew(*found, value, weight)
        return True

    def touch(self, key: Any, deadline: float) -> bool:
        found = self.find(key)
        if found is None or found[1].deadline >= deadline:
            return False
        found[1].deadline = deadline
        return True

    def expire(self, key: Any, now: float) -> bool:
        found = self.find(key)
        if found is None or found[1].deadline <= now:
            return False
        found[1].deadline = now
        return True

    def remove(self, key: Any) -> bool:
        found = self.find(key)
        if found is not None:
            found[0].remove(found[1])
        return found is not None

    def sweep(self, before: float) -> int:
        count = 0
        for queue in self.queues:
            for item in [item for item in queue if item.deadline < before]:
                queue.remove(item)
                self.on_evict(item.key, item.value, "expired")
                count += 1
        return count

    def clear(self) -> int:
        count = len(self)
        self.clear_all()
        return count


class LRUModel(Model):
    def clear_all(self) -> None:
        self.order: list[Item] = []

    @property
    def queues(self) -> list[list[Item]]:
        return [self.order]

    def used(self, queue: list[Item], item: Item) -> None:
        queue.remove(item)
        queue.append(item)

    def add(self, item: Item) -> None:
        self.order.append(item)
        while weight_of(self.order) > self.capacity:
            victim = self.order.pop(0)
            self.on_evict(victim.key, victim.value, "size")

    def renew(self, queue: list[Item], item: Item, value: Any, weight: float) -> None:
        queue.remove(item)
        self.add(Item(item.key, value, item.deadline, weight))


class S3FIFOModel(Model):
    def clear_all(self) -> None:
        self.small: list[Item] = []
        self.main: list[Item] = []
        self.generations: list[list[int]] = [[], []]  # of the ghost, the young one first
        self.evicted = False

    @property
    def queues(self) -> list[list[Item]]:
        return [self.small, self.main]

    def small_is_full(self) -> bool:
        return weight_of(self.small) >= 0.1 * self.capacity

    def used(self, queue: list[Item], item: Item) -> None:
        item.uses = min(item.uses + 1, 3)

    def add(self, item: Item) -> None:
        self.make_room(item.weight)
        mark = tag(item.key)
        if any(mark in generation for generation in self.generations):
            self.generations = [[one for one in old if one != mark] for old in self.generations]
            self.main.append(item)
        elif not self.evicted and self.small_is_full():
            self.main.append(item)
        else:
            self.small.append(item)

    def renew(self, queue: list[Item], item: Item, value: Any, weight: float) -> None:
        if self.usage - item.weight + weight > self.capacity:
            queue.remove(item)
            self.make_room(weight)
            queue.append(item)
        item.value, item.weight = value, weight

    def make_room(self, weight: float) -> None:
        while len(self) > 0 and self.usage + weight > self.capacity:
            self.evict()

    def evict(self) -> None:
        while True:
            if self.small and (self.small_is_full() or not self.main):
                item = self.small.pop(0)
                if item.uses < 2:
                    self.remember(tag(item.key))
                    break
                item.uses = 0
            else:
                item = self.main.pop(0)
                if item.uses == 0:
                    break
                item.uses -= 1
            self.main.append(item)
        self.evicted = True
        self.on_evict(item.key, item.value, "size")

    def remember(self, mark: int) -> None:
        young, _ = self.generations
        if mark not in young:
            young.append(mark)
        entries = self.capacity if self.weigher is None else len(self)
        if len(young) >= int(0.6 * entries):
            self.generations = [[], young]


MODELS: dict[str, type[Model]] = {"lru": LRUModel, "s3fifo": S3FIFOModel}
