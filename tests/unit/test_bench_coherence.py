"""The benchmark of invalidations: its arithmetic, and what its values note."""

from __future__ import annotations

import pickle

import pytest

from bench import coherence, watched
from bench.coherence_latency import IN_A, ONE_HOP, OURS, TWO_HOPS, Latency, percentile
from bench.coherence_rates import HELD, Rate, sample
from bench.coherence_takeover import IN_A_NODE, IN_ITS_OWN, Takeover
from bench.goals import judge
from bench.tables import Table
from bench.watched import Watched

# -- Values that note their end --------------------------------------------------------


@pytest.fixture(autouse=True)
def _nothing_has_ended() -> None:
    watched.forget()


def test_a_value_notes_when_its_last_reference_goes() -> None:
    held = {"a": Watched("a"), "b": Watched("b")}
    assert watched.gone(["a"], 0.0) == {}
    del held["a"]
    ended = watched.gone(["a", "b"], 0.0)
    assert list(ended) == ["a"]
    assert ended["a"] > 0
    watched.forget()
    assert watched.gone(["a"], 0.0) == {}


def test_a_copy_from_elsewhere_notes_its_own_end() -> None:
    original = Watched("k")
    copy = pickle.loads(pickle.dumps(original))
    del copy
    assert list(watched.gone(["k"], 0.0)) == ["k"]
    assert 100 <= len(pickle.dumps(original)) < 300


# -- Arithmetic ------------------------------------------------------------------------


def test_percentiles() -> None:
    times = [float(number) for number in range(100, 0, -1)]
    assert percentile(times, 0.5) == 51
    assert percentile(times, 0.99) == percentile(times, 1.0) == 100


def test_what_a_node_reported_to_be_missing_is_lost_but_noticed() -> None:
    second = 1_000_000_000
    heard = [(1_000, 3 * second), (900, 2 * second), (700, 2 * second)]
    found = sample(heard, began=second, count=1_000, noticed=[False, True, False])
    assert found.rate == pytest.approx(700 / 2 / 1_000)  # of the slowest, until the last
    assert found.lost == pytest.approx(0.3)
    assert found.unnoticed == 300


LATENCIES = [
    Latency("tcp", ONE_HOP, 0.1, 0.3, 1.0),
    Latency("tcp", f"{OURS}, {IN_A}", 0.25, 0.9, 2.5),
]
RATES = [Rate("tcp", TWO_HOPS, 40, 1.0, 0.7, 900), Rate("tcp", HELD, 18, 0.45, 0.0, 0)]
TAKEOVERS = [Takeover("tcp", IN_ITS_OWN, 0.4, 0.5, 0.6, 0), Takeover("tcp", IN_A_NODE, 1, 3, 2, 1)]


def test_goals_are_judged_by_what_was_measured() -> None:
    found = coherence.measured(LATENCIES, RATES, TAKEOVERS)
    asked = [
        goal
        for goal in coherence.GOALS
        if goal.section in found
        and goal.contender in [result.name for result in found[goal.section].results]
    ]
    met = {verdict.goal: verdict.met for verdict in judge(asked, found)}
    assert met == {
        "delete in A, gone from B, tcp, p50: tiered, broker in A, at most 0.3 ms": True,
        "delete in A, gone from B, tcp, p99: tiered, broker in A, at most 0.8 ms": False,
        f"{coherence.RATE}, tcp: {HELD}, at least 20 thousand/s": False,
        f"broker killed, tcp: {IN_ITS_OWN}, at most 2 s": True,
        f"broker killed, tcp: {IN_A_NODE}, at most 2 s": False,
    }


def test_every_goal_is_about_something_that_is_measured() -> None:
    sections = {goal.section for goal in coherence.GOALS}
    assert len(sections) == 8
    assert len(coherence.GOALS) == 20


def test_being_sure_is_a_goal_of_ours_and_not_of_plain_sockets() -> None:
    verdicts = coherence.sure(RATES, TAKEOVERS)
    assert [one.met for one in verdicts] == [True, True, False]
    assert "0 lost unnoticed" in verdicts[0].goal
    assert verdicts[2].measured == 1


def test_the_tables_have_the_lines_of_their_transport() -> None:
    other = [Latency("ipc", ONE_HOP, 0.2, 0.4, 1.0)]
    table = coherence.latency_table("ipc", LATENCIES + other)
    assert table.rows == [(ONE_HOP, "0.200", "0.400", "1.00")]
    assert coherence.rate_table("tcp", RATES).rows[0] == (TWO_HOPS, "40", "1.00", "70.0%", "900")
    assert len(coherence.takeover_table("tcp", TAKEOVERS).rows) == 2


def test_tables_are_aligned() -> None:
    table = Table("title", ["who", "ms"], [["a long name", "1"], ["b", "1,000"]])
    assert table.text().splitlines() == [
        "title",
        "  who             ms",
        "  a long name      1",
        "  b            1,000",
    ]
    assert table.markdown().splitlines()[:2] == ["| who | ms |", "| --- | ---: |"]
