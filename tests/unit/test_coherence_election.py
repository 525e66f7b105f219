"""Who becomes the broker: rules first, then a small world in which they are followed."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from tiered.coherence.zeromq.election import (
    Bind,
    BindResult,
    Decision,
    Election,
    Follow,
    Prospect,
    Wait,
)

UNKNOWN, VACANT, THERE = Prospect.UNKNOWN, Prospect.VACANT, Prospect.THERE
PATIENCE = 0.25
JITTER = 0.05


def election(size: int, *, candidate: bool = True) -> Election:
    found = Election(size, candidate=candidate, patience=PATIENCE, chance=random.Random(1))
    found.begin(0.0)
    return found


def binding(found: Election, prospects: list[Prospect], now: float) -> tuple[Decision, float]:
    """What is decided once the waiting for the own turn is over, and when that is."""
    decision = found.decide(prospects, now)
    while isinstance(decision, Wait) and decision.until < now + 1.0:
        now = decision.until
        decision = found.decide(prospects, now)
    return decision, now


def test_the_first_that_is_there_is_followed() -> None:
    assert election(3).decide([THERE, THERE, THERE], 0.0) == Follow(0)
    assert election(3).decide([VACANT, THERE, THERE], 0.0) == Follow(1)


def test_a_later_one_waits_for_what_is_known_of_those_before() -> None:
    found = election(2)
    assert found.decide([UNKNOWN, THERE], 0.1) == Wait(PATIENCE)
    assert found.decide([THERE, THERE], 0.1) == Follow(0)
    assert found.decide([UNKNOWN, THERE], PATIENCE) == Follow(1)


def test_nobody_binds_before_all_are_vacant() -> None:
    found = election(2)
    assert found.decide([VACANT, UNKNOWN], 0.1) == Wait(PATIENCE)
    decision, now = binding(found, [VACANT, VACANT], 0.1)
    assert decision == Bind(0)
    assert 0.1 <= now <= 0.1 + JITTER


def test_what_stays_unknown_counts_as_vacant_after_a_while() -> None:
    decision, now = binding(election(1), [UNKNOWN], 0.0)
    assert decision == Bind(0)
    assert PATIENCE <= now <= PATIENCE + JITTER


def test_not_all_bind_at_the_same_moment() -> None:
    moments = set()
    for seed in range(20):
        found = Election(1, candidate=True, patience=PATIENCE, chance=random.Random(seed))
        found.begin(0.0)
        moments.add(binding(found, [VACANT], 0.0)[1])
    assert len(moments) == 20
    assert max(moments) <= JITTER


def test_what_is_another_machines_is_left_to_it_for_a_moment() -> None:
    found = election(2)
    first, now = binding(found, [VACANT, VACANT], 0.0)
    assert first == Bind(0)
    found.tried(0, BindResult.ELSEWHERE, now)
    assert isinstance(found.decide([VACANT, VACANT], now), Wait)
    assert found.decide([THERE, VACANT], now) == Follow(0)
    second, later = binding(found, [VACANT, VACANT], now)
    assert second == Bind(1)
    assert later > now


def test_what_is_taken_is_looked_at_again_and_then_passed_over() -> None:
    found = election(2)
    now = 0.0
    for _ in range(3):
        decision, then = binding(found, [VACANT, VACANT], now)
        assert decision == Bind(0)
        assert then >= now
        now = then
        found.tried(0, BindResult.BUSY, now)
    assert binding(found, [VACANT, VACANT], now)[0] == Bind(1)


def test_where_nothing_can_be_bound_all_begins_anew() -> None:
    found = election(1)
    _, now = binding(found, [VACANT], 0.0)
    found.tried(0, BindResult.ELSEWHERE, now)
    again = found.decide([VACANT], now)
    assert isinstance(again, Wait)
    assert now + PATIENCE <= again.until <= now + PATIENCE + JITTER
    assert found.decide([VACANT], again.until) == Bind(0)


def test_who_is_no_candidate_never_binds() -> None:
    found = election(2, candidate=False)
    assert found.decide([VACANT, VACANT], 100.0) == Wait(math.inf)
    assert found.decide([VACANT, THERE], 100.0) == Follow(1)


def test_who_has_failed_us_is_tried_again_later() -> None:
    found = election(2)
    found.failed(0, 5.0)
    found.begin(5.0)
    assert found.decide([THERE, THERE], 5.0) == Follow(1)
    assert found.decide([THERE, THERE], 5.0 + PATIENCE) == Follow(0)


def test_who_is_next_where_somebody_has_failed_us_is_followed_at_once() -> None:
    found = election(1)
    found.failed(0, 5.0)
    found.renewed(0)
    assert found.decide([THERE], 5.0) == Follow(0)


def test_a_broker_that_hangs_alone_is_asked_again_and_its_place_tried() -> None:
    found = election(1)
    found.failed(0, 5.0)
    found.begin(5.0)
    decision, now = binding(found, [THERE], 5.0)
    assert decision == Bind(0)
    found.tried(0, BindResult.BUSY, now)
    again = found.decide([THERE], now)
    assert isinstance(again, Wait)
    assert now + 0.1 <= again.until <= now + 0.1 + JITTER
    assert found.decide([THERE], 5.0 + PATIENCE) == Follow(0)


# -- A small world -------------------------------------------------------------------


class Process:
    """One participant; *home* is the number of its machine."""

    def __init__(self, world: World, home: int, candidate: bool, seed: int) -> None:
        self.world = world
        self.home = home
        self.candidate = candidate
        self.follows: int | None = None
        self.leads: int | None = None
        self.alive = True
        self.election = Election(
            len(world.owners), candidate=candidate, patience=PATIENCE, chance=random.Random(seed)
        )
        self.election.begin(world.now)

    def step(self) -> None:
        world = self.world
        if self.leads is not None:
            if any(broker is not None for broker in world.brokers[: self.leads]):
                world.brokers[self.leads] = None
                self.leads = None
                self.election.begin(world.now)
            return
        if self.follows is not None:
            if world.brokers[self.follows] is not None:
                return
            self.follows = None
            self.election.begin(world.now)
        prospects = [VACANT if broker is None else THERE for broker in world.brokers]
        decision = self.election.decide(prospects, world.now)
        if isinstance(decision, Follow):
            self.follows = decision.place
        elif isinstance(decision, Bind):
            place = decision.place
            self.election.tried(place, self.bind(place), world.now)

    def bind(self, place: int) -> BindResult:
        if self.world.owners[place] != self.home:
            return BindResult.ELSEWHERE
        if self.world.brokers[place] is not None:
            return BindResult.BUSY
        self.world.brokers[place] = self
        self.leads = place
        return BindResult.BOUND


class World:
    """Addresses, each on one machine, and processes that see all of them at once."""

    def __init__(self, owners: list[int]) -> None:
        self.now = 0.0
        self.owners = owners
        self.brokers: list[Process | None] = [None] * len(owners)
        self.processes: list[Process] = []

    def run(self, seconds: float, chance: random.Random) -> None:
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            chance.shuffle(self.processes)
            for process in self.processes:
                if process.alive:
                    process.step()

    def kill(self, process: Process) -> None:
        process.alive = False
        if process.leads is not None:
            self.brokers[process.leads] = None

    def place(self) -> int | None:
        """Where the one broker is that all living ones follow."""
        places = [place for place, broker in enumerate(self.brokers) if broker is not None]
        assert len(places) <= 1
        for process in self.processes:
            if process.alive:
                assert process.leads in places or process.follows in places or not places
        return places[0] if places else None


@given(
    owners=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    homes=st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6),
    seed=st.integers(0, 10_000),
)
def test_all_come_to_follow_one_broker_and_another_when_it_dies(
    owners: list[int], homes: list[tuple[int, bool]], seed: int
) -> None:
    chance = random.Random(seed)
    world = World(owners)
    for number, (home, candidate) in enumerate(homes):
        world.processes.append(Process(world, home, candidate, seed + number))
        world.run(chance.choice([0.0, 0.02, 0.5]), chance)
    while any(process.alive for process in world.processes):
        world.run(2.0, chance)
        place = world.place()
        able = {
            home
            for process, home in ((one, one.home) for one in world.processes)
            if process.alive and process.candidate
        }
        assert (place is not None) == bool(able & set(owners))
        leader = None if place is None else world.brokers[place]
        world.kill(leader or next(one for one in world.processes if one.alive))
