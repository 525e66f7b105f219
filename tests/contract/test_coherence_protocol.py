"""A cluster under faults: who serves what, who waits for what, and for how long.

Everything but sockets: the protocol of nodes and brokers, and the record in the shared tier,
between clocks that disagree and on ways that lose, repeat, mix up and hold up messages.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.cluster.network import State
from tests.cluster.node import SimNode
from tests.cluster.oracle import Addresses
from tests.cluster.world import KEYS, World

EXAMPLES = int(os.environ.get("TIERED_EXAMPLES", "60"))
RECOVERY = 30.0
"""Seconds in which everything is well again: the longest pause of the witness is 16."""

nodes = st.integers(0, 4)
slots = st.integers(0, 1)
keys = st.integers(0, KEYS - 1)


class Cluster(RuleBasedStateMachine):
    """Faults, changes, and time that passes. What is served is checked at each moment."""

    @initialize(
        seed=st.integers(0, 2**32),
        count=st.integers(2, 5),
        addresses=st.sampled_from(Addresses),
        small=st.booleans(),
    )
    def begin(self, seed: int, count: int, addresses: Addresses, small: bool) -> None:
        self.world = World(seed, count, addresses=addresses, small=small)
        self.world.agenda.advance(3.0)

    def node(self, number: int) -> SimNode:
        return self.world.nodes[number % len(self.world.nodes)]

    # -- Time and work -------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.001, 0.01, 0.05, 0.3, 0.6, 1.0, 1.3, 3.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.agenda.advance(seconds)

    @rule(
        seconds=st.sampled_from((0.3, 1.0, 5.0)),
        work=st.sampled_from((0.0, 5.0, 30.0)),
        faults=st.sampled_from((0.0, 2.0, 10.0)),
    )
    def unrest(self, seconds: float, work: float, faults: float) -> None:
        self.world.stir(seconds, work=work, faults=faults)

    @rule(number=nodes, key=keys, takes=st.sampled_from((0.0, 0.01, 0.3, 2.0)))
    def fill(self, number: int, key: int, takes: float) -> None:
        self.node(number).fill(key, takes)

    @rule(takes=st.sampled_from((0.0, 0.01)))
    def everybody_fills(self, takes: float) -> None:
        for node in self.world.nodes:
            for key in range(KEYS):
                node.fill(key, takes)

    @rule(number=nodes, wanted=st.lists(keys, min_size=1, max_size=4), urgent=st.booleans())
    def delete(self, number: int, wanted: list[int], urgent: bool) -> None:
        self.node(number).delete(wanted, urgent)

    @rule(number=nodes, wanted=st.lists(keys, min_size=10, max_size=30))
    def delete_one_by_one(self, number: int, wanted: list[int]) -> None:
        for key in wanted:
            self.node(number).delete([key], False)

    @rule(number=nodes, key=keys, ttl=st.sampled_from((0.1, 2.0)))
    def claim(self, number: int, key: int, ttl: float) -> None:
        self.node(number).claim(key, ttl)

    @rule(number=nodes, key=keys)
    def release(self, number: int, key: int) -> None:
        self.node(number).release(key)

    # -- Faults --------------------------------------------------------------------

    @rule(
        number=nodes,
        slot=slots,
        up=st.sampled_from(State),
        down=st.sampled_from(State),
    )
    def way(self, number: int, slot: int, up: State, down: State) -> None:
        node = self.node(number)
        self.world.direction(node, slot, "up").state = up
        self.world.direction(node, slot, "down").state = down

    @rule(mask=st.integers(0, 31), state=st.sampled_from((State.CUT, State.HELD, State.OPEN)))
    def split(self, mask: int, state: State) -> None:
        for number, node in enumerate(self.world.nodes):
            for slot in self.world.slots:
                apart = (mask >> number) & 1 != slot
                for towards in ("up", "down"):
                    way = self.world.direction(node, slot, towards)
                    way.state = state if apart else State.OPEN

    @rule()
    def ways_heal(self) -> None:
        for way in self.world.directions():
            way.state = State.OPEN

    @rule(number=nodes, whole=st.booleans())
    def stop(self, number: int, whole: bool) -> None:
        self.node(number).stop(whole=whole)

    @rule(number=nodes)
    def go_on(self, number: int) -> None:
        self.node(number).go_on()

    @rule(number=nodes)
    def replace(self, number: int) -> None:
        self.world.replace_node(self.node(number))

    @rule(number=nodes)
    def reconnect(self, number: int) -> None:
        self.node(number).reconnect()

    @rule(number=nodes, cut=st.booleans())
    def shared_tier(self, number: int, cut: bool) -> None:
        self.node(number).cut = cut

    @rule(misses=st.sampled_from((0.0, 0.3)))
    def shared_tier_misses(self, misses: float) -> None:
        self.world.misses = misses

    @rule(slot=slots)
    def kill(self, slot: int) -> None:
        self.world.kill(slot)

    @rule(slot=slots)
    def retire(self, slot: int) -> None:
        self.world.retire(slot)

    @rule(slot=slots)
    def start(self, slot: int) -> None:
        self.world.start(slot)

    @precondition(lambda self: self.world.brokers)
    @rule(slot=slots, stopped=st.booleans())
    def freeze_broker(self, slot: int, stopped: bool) -> None:
        broker = self.world.brokers.get(slot)
        if broker is not None:
            if stopped:
                broker.thread.stopped = True
            else:
                broker.thread.go_on()

    # -- The end -------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.recover(RECOVERY)


def test_a_cluster_under_faults() -> None:
    run_state_machine_as_test(
        Cluster,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
