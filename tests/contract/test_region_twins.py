"""The compiled look of a region and its Python twin find the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.regions import cached
from tiered.acceleration import core
from tiered.clients.inproc import InprocCacheClient
from tiered.region.api import CachedValue
from tiered.region.near import PythonNear, near_nothing
from tiered.testing import ManualClock

pytestmark = pytest.mark.skipif(core is None, reason="the compiled core is not in use")

NOW = 1_800_000_000.0


class Told:
    """What a strategy tells."""

    def __init__(self, floor: Any, revision: Any, horizon: Any) -> None:
        self.floor, self.revision, self.horizon = floor, revision, horizon


times = st.sampled_from([NOW - 20, NOW - 10, NOW - 5, NOW, NOW + 5, -math.inf, math.inf, math.nan])
metadata = st.fixed_dictionaries(
    {},
    optional={
        "ct": times | st.sampled_from([None, "x", 0]),
        "v": st.sampled_from([2, 1, None, 2**70, "2"]),
        "rv": st.sampled_from(["r", "s", None]),
        "more": st.integers(),
    },
)
values = st.one_of(
    st.builds(CachedValue, st.integers(), metadata),
    st.tuples(st.integers(), metadata),
    st.lists(st.integers() | metadata, max_size=3),
    st.tuples(),
    st.none(),
    st.text(max_size=3),
    st.builds(CachedValue, st.integers(), st.none() | st.text(max_size=2)),
)
told = st.builds(
    Told,
    times | st.none(),
    st.sampled_from(["r", None]),
    st.sampled_from([None, 999.0, 1000.0, 1001.0, "x"]),
)


@given(values, told, st.sampled_from([0.0, 5.0, 10.0, math.inf, -1.0]))
def test_the_same_is_a_hit(value: Any, tells: Told, patience: float) -> None:
    clock = ManualClock(wall=NOW)
    held = {"k": value}
    twins = [near_nothing(), PythonNear(CachedValue, 2, tells)]
    for near in twins:
        near.look_into(held.get, held, None, clock)
        near.invalidation = tells
    ours, theirs = (near.hit("k", patience) for near in twins)
    assert repr(ours) == repr(theirs)
    assert type(ours) is type(theirs)


@pytest.mark.parametrize("near", ["compiled", "Python"])
def test_where_is_looked(near: str) -> None:
    clock = ManualClock(wall=NOW)
    tells = Told(-math.inf, None, None)
    made: Any = near_nothing() if near == "compiled" else PythonNear(CachedValue, 2, tells)
    assert made.hit("k", 10) is None
    made.invalidation = tells
    client = InprocCacheClient(10, clock=clock)
    path = client.hot_path()
    assert path is not None
    made.look_into(client.get, None, path.store, clock)
    assert made.hit("k", 10) is None
    client.put("k", cached("there", NOW), 10)
    assert made.hit("k", 10) == cached("there", NOW)
    assert made.hit(["not hashable"], 10) is None
    clock.advance(10)
    assert made.hit("k", 100) is None  # its life on the client is over
    made.look_into(lambda key, default: ["of a function", {"ct": NOW, "v": 2}], None, None, clock)
    assert made.hit("k", 100) == cached("of a function", NOW)
    made.look_into(None, None, None, clock)
    assert made.hit("k", 100) is None


def test_what_a_mangler_or_a_patience_raises_is_no_hit() -> None:
    clock = ManualClock(wall=NOW)
    near: Any = near_nothing()
    near.invalidation = Told(-math.inf, None, None)
    held = {"k": cached("there", NOW)}
    near.look_into(held.get, held, None, clock)
    nothing = object()

    def fail(*_args: Any) -> Any:
        raise OSError("down")

    assert core.Look(near, None, None, nothing).find("k") == "there"
    assert core.Look(near, 5.0, None, nothing).find("k") == "there"
    assert core.Look(near, None, fail, nothing).find("k") is nothing
    assert core.Look(near, None, lambda: "x", nothing).find("k") is nothing
    near.patience = -1.0
    assert core.Look(near, None, None, nothing).find("k") is nothing
    look = core.Look(near, None, lambda: 5, nothing)
    assert look.find("k") == "there"
    near.mangle = fail
    assert look.find("k") is nothing
    assert look.hits == 1
