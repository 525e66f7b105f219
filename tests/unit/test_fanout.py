"""The simulation of brokers in trees: what it gives where the answer can be worked out."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import fanout
from bench.fanout_leases import outlast
from bench.fanout_loads import best_fan_out, deaths, interval_for, load
from bench.fanout_tree import Costs, Tree, simulate

EXACT = Costs(hop=100e-6, hop99=100e-6)
"""Hops that all take the same time."""


def test_one_event_to_the_children_of_one_broker() -> None:
    nodes = 50
    done = simulate(Tree((nodes,)), EXACT, rate=1.0, events=1, pings=0.0)
    stamped = EXACT.send + EXACT.hop + EXACT.receive + EXACT.stamp
    expected = [
        stamped + EXACT.send * (1 + child) + EXACT.wire(1) + EXACT.hop + EXACT.receive + EXACT.apply
        for child in range(nodes)
    ]
    assert np.sort(done.each) == pytest.approx(expected)
    assert done.last == pytest.approx([expected[-1]])
    assert done.rounds == 1


def test_a_level_more_is_two_hops_more() -> None:
    one = simulate(Tree((1,)), EXACT, rate=1.0, events=1, pings=0.0)
    two = simulate(Tree((1, 1)), EXACT, rate=1.0, events=1, pings=0.0)
    up = EXACT.receive + EXACT.stamp + EXACT.send + EXACT.hop
    down = up + EXACT.wire(1)
    assert float(two.each[0] - one.each[0]) == pytest.approx(up + down)


def test_a_link_that_is_slower_than_its_thread_sets_the_pace() -> None:
    slow = Costs(hop=100e-6, hop99=100e-6, link=1e6)
    done = simulate(Tree((10,)), slow, rate=1.0, events=1, pings=0.0)
    assert np.diff(np.sort(done.each)) == pytest.approx([slow.wire(1)] * 9)


@pytest.mark.parametrize("fan_outs", [(30,), (5, 6), (2, 3, 5)])
def test_each_event_reaches_each_node_once(fan_outs: tuple[int, ...]) -> None:
    tree = Tree(fan_outs)
    done = simulate(tree, Costs(), rate=5_000.0, events=200, pings=4.0)
    assert len(done.each) == 200 * tree.nodes == 6_000
    assert done.each.min() > 0
    assert done.last.max() == done.each.max()


def test_a_busy_broker_takes_many_events_at_once() -> None:
    light = replace(EXACT, apply=0.0, link=1e12)
    done = simulate(Tree((1_000,)), light, rate=100_000.0, events=2_000, pings=0.0)
    assert done.rounds < 20
    assert done.busy > 0.75


def test_pings_that_come_during_a_round_make_the_next_one_longer() -> None:
    quiet, beaten = (
        simulate(Tree((2_000,)), Costs(), rate=2_000.0, events=200, pings=pings)
        for pings in (0.0, 20.0)
    )
    assert beaten.each.mean() > 1.2 * quiet.each.mean()


def test_the_same_seed_gives_the_same_figures() -> None:
    def run(seed: int) -> list[float]:
        done = simulate(Tree((3, 4)), Costs(), rate=100.0, events=20, pings=4.0, seed=seed)
        return list(done.each)

    assert run(1) == run(1) != run(2)


def test_trees_are_counted() -> None:
    tree = Tree((22, 22, 21))
    assert (tree.nodes, tree.brokers, tree.widest) == (10_164, 1 + 22 + 484, 22)
    assert tree.name == "22 x 22 x 21"
    assert Tree((10,)).name == "one broker"


# -- Leases ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_leases_add_up_unless_they_are_nested(levels: int) -> None:
    detection = 2.0
    added, nested = (
        outlast(levels, Costs(), detection=detection, interval=0.1, nested=kind, paths=200)
        for kind in (False, True)
    )
    assert levels * detection * 0.9 < added.most <= levels * detection
    assert detection * 0.9 < nested.most <= detection
    # In the worst case each level's ping came just before the news from above.
    assert detection - 0.1 * levels - 0.02 < nested.margin <= detection - 0.1
    assert added.margin == pytest.approx(detection - 0.1, abs=0.02)


def test_nested_leases_end_by_themselves_where_pings_are_too_rare() -> None:
    found = outlast(5, Costs(), detection=1.0, interval=0.25, nested=True, paths=100)
    assert found.margin < 0


def test_pings_come_as_often_as_nested_leases_need() -> None:
    assert interval_for(1, 1.0) == 0.25
    for levels in range(1, 9):
        interval = interval_for(levels, 1.0)
        assert 1.0 - levels * interval >= 0.3 - 1e-9


# -- Loads -----------------------------------------------------------------------------


def test_the_best_fan_out_has_the_least_latency() -> None:
    def latency(fan_out: float) -> float:
        return (EXACT.hop + fan_out * EXACT.send) / math.log(fan_out)

    best = best_fan_out(EXACT)
    assert latency(best) < min(latency(best * 0.9), latency(best * 1.1))


def test_a_rate_that_a_tree_does_not_carry_is_not_simulated() -> None:
    thin = Costs(link=1e6)
    found = load(Tree((100,)), thin, rate=1_000.0, events=10, beat=4.0, seed=1)
    assert (found.by, found.thread) == ("link", None)
    assert found.most == pytest.approx(1e6 / 8 / thin.event / 100)
    carried = load(Tree((100,)), Costs(), rate=1_000.0, events=10, beat=4.0, seed=1)
    assert carried.thread is not None
    assert carried.p50 < carried.last99


def test_only_the_root_takes_its_epoch_along() -> None:
    found = deaths(Tree((10, 20)), Costs(), rate=100.0, takeover=0.5)
    assert [(one.level, one.nodes, one.missed) for one in found] == [(0, 200, 50), (1, 20, 50)]
    assert [one.confirmed > 0 for one in found] == [True, False]
    assert [one.replayed for one in found] == [0, 20 * 50 * Costs.event]


# -- The command -----------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(fanout, "TREES", (Tree((20,)), Tree((4, 5))))
    monkeypatch.setattr(sys, "argv", ["fanout.py", "--events", "10", "--paths", "5", *options])
    assert fanout.main() == 0


def test_it_prints_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch)
    text = capsys.readouterr().out
    for words in ("1,000 events/s", "10,000 events/s", "4 x 5", "The root dies"):
        assert words in text


def test_it_prints_tables_for_the_documentation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--markdown", "--rate", "100")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| tree | nodes | ")
    assert lines[1] == "| --- " + "| ---: " * 8 + "|"
    assert lines[2].startswith("| one broker | 20 | 1 | ")


def test_it_prints_data_and_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.svg"
    run(monkeypatch, "--json", "--picture", str(picture), "--send", "8")
    data = json.loads(capsys.readouterr().out)
    assert data["costs"]["send"] == pytest.approx(8e-6)
    assert [one["tree"] for one in data["loads"]] == ["one broker", "4 x 5"] * 2
    assert "ms from publishing to applying" in picture.read_text()
