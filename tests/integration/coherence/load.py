"""The threads of a node: they read and delete by themselves, and write down what came of it."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from tests.integration.coherence.truth import Kind, Log
from tiered.coherence.messages import Kind as EventKind

if TYPE_CHECKING:
    from tests.integration.coherence.node import Node

__all__ = ["called", "delete", "deletes", "noise", "paced", "read", "reads"]

RECENT: Final = 500
"""Reads after which a key is as any other: a second or two."""
FRESH: Final = 0.3
"""The share of keys chosen from all, and not from those that were read just now."""
HOT: Final = 0.3
"""The share of reads of the few keys whose deletes wait for all nodes: a window of a
millisecond is to be hit."""
_STEP: Final = 0.002
"""Seconds between two looks at the time: what is due since then is done at once."""


def paced(rate: float, stop: threading.Event) -> Iterator[None]:
    """Until *stop*, *rate* times a second; what could not be done in time is left out."""
    due = time.monotonic()
    while not stop.is_set():
        now = time.monotonic()
        if now < due:
            time.sleep(min(max(due - now, _STEP), 0.1))
            continue
        due = max(due, now - 10 * _STEP) + 1 / rate
        yield


def reads(node: Node, log: Log, stop: threading.Event, rate: float, seed: str) -> None:
    """Read keys in several ways, most of them again and again for a while."""
    chance = random.Random(seed)
    plain, hot = node.settings.plain, node.settings.synchronous
    recent = [0] * RECENT
    for number, _ in enumerate(paced(rate, stop)):
        if chance.random() < HOT:
            key = chance.choice(hot)
        else:
            key = chance.choice(plain if number < RECENT or chance.random() < FRESH else recent)
        recent[number % RECENT] = key
        some = [one for one in range(key, key + 4) if one in node.keys_with(key)]
        match chance.randrange(10):
            case 0:
                read(node, log, some, node.function(key).client.get_multi, None)
            case 1:
                read(node, log, some, node.function(key).multi)
            case _:
                read(node, log, [key], called, node)


def read(
    node: Node, log: Log, keys: list[int], ask: Callable[..., Any], *given: Any
) -> dict[int, tuple[int, int]]:
    """One read, ``ask(keys, *given)``; what was found."""
    began = time.monotonic()
    try:
        found: dict[int, tuple[int, int]] = ask(keys, *given)
        ended = time.monotonic()
        for key in keys:
            if (value := found.get(key)) is not None:
                if value[0] != key:
                    raise LookupError(f"the value of {value[0]} for {key}")
                log.add(Kind.READ, key, value[1], began, ended)
        return found
    except Exception as error:
        log.add(Kind.WRONG, keys[0], 0, began, time.monotonic())
        node.fault(f"reading {keys}", error)
        return {}


def called(keys: list[int], node: Node) -> dict[int, Any]:
    """What the function says, called for one key after the other."""
    return {key: node.function(key)(key) for key in keys}


def deletes(
    node: Node, log: Log, stop: threading.Event, rate: float, keys: range, seed: str
) -> None:
    """New versions of *keys*, one key after the other, each followed by a delete."""
    chance = random.Random(seed)
    order = list(keys)
    chance.shuffle(order)
    function = node.function(order[0])
    ways = [function.invalidate, function.client.delete, lambda key: many(function, key)]
    for key, _ in zip(itertools.cycle(order), paced(rate, stop), strict=False):
        delete(node, log, key, chance.choice(ways))


def many(function: Any, key: int) -> bool:
    """A delete of one, as of many."""
    return bool(function.client.delete_multi([key])[key])


def delete(node: Node, log: Log, key: int, way: Callable[[int], object]) -> None:
    """A new version, and the delete of what is older."""
    with node.truth.held(key) as mine:
        if not mine:
            return
        version = node.truth.raised(key)
        errors = node.errors()
        began = time.monotonic()
        try:
            way(key)
        except Exception as error:
            log.add(Kind.WRONG, key, version, began, time.monotonic())
            node.fault(f"deleting {key}", error)
            return
        ended = time.monotonic()
        kind = Kind.DELETED if node.errors() == errors else Kind.UNSURE
        log.add(kind, key, version, began, ended)


def noise(node: Node, stop: threading.Event, rate: float) -> None:
    """Events about what nobody has: they concern nobody, and all have to hear them."""
    number = 0
    block = 100
    for _ in paced(rate / block, stop):
        names = [b"noise %d" % (number + i) for i in range(block)]
        node.bus.publish(EventKind.DELETE, node.topic(node.settings.plain), names)
        number += block
