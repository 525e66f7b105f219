"""Tags against a model: who calls after an invalidation gets nothing that is older.

Several processes share a server, each with a near tier, or without. A source of data changes,
and whoever changed it invalidates a tag of what has changed. Functions read the source, and
some of them take their time: they have read it, and have not returned yet. The model knows, for
each process and key, the oldest data that it may still be given.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.fakes import RemoteFake, TellingFake, inproc
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tags import tag_name
from tiered.clients.tagtable import TagTable
from tiered.clients.tiered import TieredInclusiveClient
from tiered.decorators import cached
from tiered.errors import CacheMissError
from tiered.testing import ManualClock

EXAMPLES = int(os.environ.get("TIERED_EXAMPLES", "40"))
LATE = 20.0
RECHECK = 1.0

TAGS: dict[int, list[Any]] = {0: [], 1: ["a"], 2: ["b"], 3: ["a", "b"], 4: ["a", ("c", 4), 7]}
"""Of the values, by their keys."""
EVERY_TAG: list[Any] = ["a", "b", ("c", 4), 7, "nobody's"]
KEYS = st.sampled_from(sorted(TAGS))


class Slow:
    """A call in a thread, that stops when it has read the source, until it is told to go on."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._has_read, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=call, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._has_read.wait(LATE), "it does not begin"

    def has_read(self) -> None:
        """Called by whoever has: if that is the thread, it waits."""
        if threading.current_thread() is self._thread:
            self._has_read.set()
            assert self._go.wait(LATE)

    def end(self) -> None:
        self._go.set()
        self._thread.join(LATE)
        assert not self._thread.is_alive(), "it does not end"


class Process:
    """One process: its client, its cached function, and what it may not be given any more."""

    def __init__(self, machine: TagMachine, client: CacheClient, near: InprocCacheClient) -> None:
        self.client = client
        self.near = near
        self.slow: dict[int, Slow] = {}
        self.oldest = dict.fromkeys(TAGS, 0)
        self.soon: list[tuple[float, int, int]] = []
        """(when, key, data): from then on, nothing that is older than this."""

        def read(key: int) -> int:
            data = machine.source[key]
            if key in self.slow:
                self.slow[key].has_read()
            return data

        self.function = cached(client, 1000, keep=1000, namespace="f", tags=TAGS.get)(read)

    def bound(self, now: float, key: int) -> int:
        for when, about, data in self.soon:
            if when <= now:
                self.oldest[about] = max(self.oldest[about], data)
        self.soon = [one for one in self.soon if one[0] > now]
        return self.oldest[key]


class TagMachine(RuleBasedStateMachine):
    kinds: ClassVar[list[str]] = ["tiers", "remote", "tiers"]
    told: ClassVar[bool] = False

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock()
        self.server = inproc(self.clock, 1000)
        self.source = dict.fromkeys(TAGS, 0)
        self.processes = [self.process(kind) for kind in self.kinds]

    def process(self, kind: str) -> Process:
        near = inproc(self.clock)
        if kind == "private":
            return Process(self, near, near)
        remote = (TellingFake if self.told else RemoteFake)(self.server)
        client = TieredInclusiveClient(near, remote) if kind == "tiers" else remote
        return Process(self, client, near)

    def teardown(self) -> None:
        for process in getattr(self, "processes", ()):
            for slow in process.slow.values():
                slow.end()

    def who(self, number: int) -> Process:
        return self.processes[number % len(self.processes)]

    def check(self, process: Process, key: int, data: int) -> None:
        bound = process.bound(self.clock.monotonic(), key)
        assert bound <= data <= self.source[key], f"{key} is {data}, older than {bound}"

    # -- What happens ----------------------------------------------------------------

    @rule(number=st.integers(0, 2), key=KEYS)
    def call(self, number: int, key: int) -> None:
        process = self.who(number)
        if not any(key in other.slow for other in self.processes):
            self.check(process, key, process.function(key))

    @rule(number=st.integers(0, 2), key=KEYS)
    def peek(self, number: int, key: int) -> None:
        process = self.who(number)
        try:
            data = process.function.peek(key)
        except CacheMissError:
            return
        self.check(process, key, data)

    @rule(number=st.integers(0, 2), key=KEYS)
    def get_ttl(self, number: int, key: int) -> None:
        process = self.who(number)
        try:
            data, _ = process.function.get_ttl(key)
        except CacheMissError:
            return
        self.check(process, key, data)

    @rule(number=st.integers(0, 2))
    def peek_all(self, number: int) -> None:
        process = self.who(number)
        for key, data in process.function.multi.peek(TAGS).items():
            self.check(process, key, data)

    @rule(number=st.integers(0, 2), key=KEYS)
    def refresh(self, number: int, key: int) -> None:
        process = self.who(number)
        if key not in process.slow:
            assert process.function.refresh(key) == self.source[key]

    @rule(number=st.integers(0, 2), key=KEYS, mode=st.sampled_from(["call", "refresh"]))
    def begin(self, number: int, key: int, mode: str) -> None:
        """A call that has read what is there now."""
        process = self.who(number)
        if any(key in other.slow for other in self.processes):
            return
        process.function.invalidate(key)
        call = process.function if mode == "call" else process.function.refresh
        process.slow[key] = Slow(lambda: call(key))
        process.slow[key].start()

    @precondition(lambda self: any(process.slow for process in self.processes))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        running = [(p, key) for p in self.processes for key in p.slow]
        process, key = data.draw(st.sampled_from(running))
        process.slow.pop(key).end()

    @rule(number=st.integers(0, 2), tag=st.sampled_from(EVERY_TAG))
    def change(self, number: int, tag: Any) -> None:
        """The data behind a tag change, and it is invalidated."""
        changed = [key for key, tags in TAGS.items() if tag in tags]
        for key in changed:
            self.source[key] += 1
        changer = self.who(number)
        changer.client.invalidate_tag(tag)
        now = self.clock.monotonic()
        for process in self.processes:
            hears = process is changer or self.told
            process.soon += [
                (now if hears else now + RECHECK, key, self.source[key]) for key in changed
            ]

    @rule(number=st.integers(0, 2), key=KEYS)
    def change_one(self, number: int, key: int) -> None:
        """What a key stands for changes, and the key itself is invalidated, here."""
        process = self.who(number)
        if any(key in other.slow for other in self.processes):
            return  # a refresh in another process may store what it has read before
        self.source[key] += 1
        process.function.invalidate(key)
        process.soon.append((self.clock.monotonic(), key, self.source[key]))

    @rule(number=st.integers(0, 2), key=KEYS)
    def put(self, number: int, key: int) -> None:
        self.who(number).function.put(key, _cache_put=self.source[key])

    @rule(number=st.integers(0, 2), key=KEYS)
    def expire(self, number: int, key: int) -> None:
        self.who(number).function.expire(key)

    @rule(seconds=st.sampled_from([0.3, 0.6, 1.1]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(number=st.integers(0, 2))
    def forget_near(self, number: int) -> None:
        if self.who(number).client is not self.who(number).near:
            self.who(number).near.clear()

    @rule(tag=st.sampled_from(EVERY_TAG))
    def lose_a_version(self, tag: Any) -> None:
        """The server has no room for it any more."""
        key = TagTable.of(self.processes[0].client).tag(tag_name(tag)).key
        self.server.delete(key)

    @rule()
    def lose_the_tables(self) -> None:
        """More tags are in use than are remembered."""
        for process in self.processes:
            table = TagTable.of(process.client)
            limit, table._limit = table._limit, 1
            table.tag("another")
            table._limit = limit

    @rule(number=st.integers(0, 2))
    def restart(self, number: int) -> None:
        """Another process takes the place of one, and knows nothing."""
        number %= len(self.processes)
        if self.kinds[number] != "private" and not self.processes[number].slow:
            oldest = self.processes[number].oldest | {}
            soon = self.processes[number].soon
            self.processes[number] = self.process(self.kinds[number])
            self.processes[number].oldest, self.processes[number].soon = oldest, soon


class ToldMachine(TagMachine):
    told = True


class PrivateMachine(TagMachine):
    kinds: ClassVar[list[str]] = ["private"]


@pytest.mark.parametrize("machine", [TagMachine, ToldMachine, PrivateMachine])
def test_nobody_is_given_what_was_invalidated(machine: type[TagMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
