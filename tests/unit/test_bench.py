"""The benchmarks' own arithmetic: ratios, goals, Belady's optimum, and the page."""

from __future__ import annotations

import itertools
import json
import lzma
import random
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import hit_ratio, page, report, timing
from bench.belady import belady_hits, next_uses
from bench.goals import Goal, judge
from bench.kinds import kinds
from bench.sections import Measured, shown
from bench.timing import Contender, Result, compare, time_calls, time_threads
from bench.traces import read_traces, synthetic_traces, zipf

# -- Timing ----------------------------------------------------------------------------


class FakeTime:
    """Moves only when a contender says so, and notes who ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        fake = SimpleNamespace(perf_counter_ns=lambda: self.now)
        monkeypatch.setattr(timing, "time", fake)
        monkeypatch.setattr(timing, "empty", self.loop("", 2))

    def loop(self, name: str, each: float) -> Callable[[Any, Sequence[Any]], None]:
        def run(_: Any, keys: Sequence[Any]) -> None:
            self.ran.append(name)
            self.now += each * len(keys)

        return run

    def contender(self, name: str, each: float, slower: int = 1) -> Contender:
        return Contender(name, None, self.loop(name, each), slower)


def test_the_loop_is_subtracted_and_ratios_are_to_the_baseline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeTime(monkeypatch)
    contenders = [clock.contender("slow", 32), clock.contender("fast", 12)]
    results = time_calls(contenders, range(10), baseline="fast", rounds=3)
    assert results == [Result("slow", 30, 3.0), Result("fast", 10, 1.0)]


def test_contenders_take_turns_to_be_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime(monkeypatch)
    contenders = [clock.contender(name, 12) for name in "abc"]
    time_calls(contenders, range(10), baseline="a", rounds=3)
    in_order = [name for name, _ in itertools.groupby(clock.ran) if name]
    assert "".join(in_order) == "abcbcacab"


def test_what_disturbs_a_whole_round_leaves_its_ratio() -> None:
    first, second = compare({"a": [10, 40, 20], "b": [30, 120, 20]}, "a")
    assert (first.value, first.ratio) == (20, 1)
    assert (second.value, second.ratio) == (30, 3)  # of 3, 3 and 1


def test_a_slower_contender_gets_fewer_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeTime(monkeypatch)
    seen: list[int] = []

    def count(_: Any, keys: Sequence[Any]) -> None:
        seen.append(len(keys))
        clock.now += 22 * len(keys)

    contenders = [clock.contender("a", 12), Contender("b", None, count, slower=10)]
    results = time_calls(contenders, range(100), baseline="a", rounds=1)
    assert results[1] == Result("b", 20, 2.0)
    assert max(seen) == 10


def test_threads_are_compared_with_one() -> None:
    calls: list[int] = []
    (result,) = time_threads([Contender("list", calls.append)], range(100), 4, rounds=2)
    assert len(calls) == 2 * (100 + 4 * 100)
    assert result.ratio > 0


# -- Goals -----------------------------------------------------------------------------

SECTION = Measured("dict", "ns", [Result("dict", 10, 1), Result("ours", 25, 2.5)])


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("get", "ours", 2.5), True),
        (Goal("get", "ours", 2.4), False),
        (Goal("get", "ours", 2.4, at_least=True), True),
        (Goal("get", "ours", 25, absolute=True), True),
        (Goal("get", "ours", 24, absolute=True), False),
        (Goal("get", "ours", 2.0, than="dict"), False),
    ],
)
def test_goals_are_judged(goal: Goal, met: bool) -> None:
    (verdict,) = judge([goal], {"get": SECTION})
    assert verdict.met is met
    assert "get: ours, at " in verdict.goal


def test_a_goal_beside_a_peer_that_is_not_installed_is_not_judged() -> None:
    assert judge([Goal("get", "ours", 2.0, than="absent")], {"get": SECTION}) == []


def test_figures_have_the_digits_that_mean_something() -> None:
    assert [shown(value) for value in (0.0785, 3.14159, 42.26, 1234.5)] == [
        "0.0785",
        "3.14",
        "42.3",
        "1,234",
    ]


# -- Hit ratios ------------------------------------------------------------------------


def test_next_uses() -> None:
    assert next_uses([7, 5, 7, 7, 9]) == [2, 6, 3, 8, 9]
    assert next_uses([]) == []


def best(keys: Sequence[int], size: int, held: frozenset[int] = frozenset()) -> int:
    """The most hits there can be, by trying every victim."""
    if not keys:
        return 0
    key, rest = keys[0], keys[1:]
    if key in held:
        return 1 + best(rest, size, held)
    if len(held) < size:
        return best(rest, size, held | {key})
    return max(best(rest, size, held - {victim} | {key}) for victim in held)


@pytest.mark.parametrize("seed", range(30))
def test_belady_is_the_best_that_can_be(seed: int) -> None:
    chance = random.Random(seed)
    keys = [chance.randrange(6) for _ in range(12)]
    for size in (1, 2, 3, 6):
        assert belady_hits(keys, size) == best(keys, size)


def test_no_room_no_hits() -> None:
    assert belady_hits([1, 1, 1], 0) == 0


def lru_hits(keys: Sequence[int], size: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        hits += key in held
        held[key] = None
        held.move_to_end(key)
        if len(held) > size:
            held.popitem(last=False)
    return hits


def write_trace(directory: Path, name: str, keys: Sequence[int]) -> None:
    with lzma.open(directory / f"{name}.u32.xz", "wb") as stream:
        stream.write(array("I", keys).tobytes())


def test_a_trace_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = zipf(2_000, 200)
    write_trace(tmp_path, "tiny", keys)
    hit_ratio.main([str(tmp_path), "--json", "--sizes", "20,5"])
    data = json.loads(capsys.readouterr().out)
    (trace,) = data["traces"]
    assert (trace["name"], trace["accesses"], trace["real"]) == ("tiny", 2_000, True)
    assert [size["percent"] for size in trace["sizes"]] == [5, 20]
    for size in trace["sizes"]:
        ratios = size["ratios"]
        assert size["entries"] == round(trace["unique"] * size["percent"] / 100)
        assert ratios["tiered lru"] == lru_hits(keys, size["entries"]) / len(keys)
        assert max(ratios.values()) == ratios[hit_ratio.BELADY]
    assert data["shares"][hit_ratio.BELADY] == 1
    assert len(data["goals"]) == 1


def test_made_up_traces_have_no_goal() -> None:
    size = hit_ratio.Ratios(1, 10, {hit_ratio.BELADY: 0.5, hit_ratio.JUDGED: 0.2})
    for real, judged in ((True, 1), (False, 0)):
        found = [hit_ratio.Replayed("t", 100, 50, real, [size])]
        means = hit_ratio.shares(found)
        assert means[hit_ratio.JUDGED] == pytest.approx(0.4)
        assert len(hit_ratio.judge(found, means)) == judged


def test_traces_are_read_and_made_up(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file \*\.u32\.xz"):
        read_traces(tmp_path)
    write_trace(tmp_path, "b", [0, 1, 2, 1])
    write_trace(tmp_path, "a", [0])
    assert [(trace.name, trace.keys) for trace in read_traces(tmp_path)] == [
        ("a", [0]),
        ("b", [0, 1, 2, 1]),
    ]
    assert all(not trace.real and trace.unique > 1000 for trace in synthetic_traces())


@pytest.mark.parametrize("name", kinds())
def test_each_kind_of_cache_is_called_as_it_wants(name: str) -> None:
    kind = kinds()[name]
    cache = kind.make(10)
    kind.putting(kind.put(cache), [1, 2])
    if kind.fetching is not None:
        assert kind.fetching(kind.pair(cache), [1, 3, 3]) == 2


# -- The page --------------------------------------------------------------------------


def _section(*names: str) -> dict[str, Any]:
    results = [{"name": name, "value": 50.0, "ratio": 1.25} for name in names]
    return {"baseline": "dict.get", "unit": "ns", "results": results}


def _found() -> dict[str, Any]:
    common: dict[str, Any] = {"environment": {"python": "3.11"}, "goals": []}
    goal = {"goal": "get: tiered, at most 2 x dict.get", "measured": 2.5, "met": False}
    trace = {
        "name": "web",
        "accesses": 1000,
        "unique": 10,
        "real": True,
        "sizes": [{"percent": 5.0, "entries": 1, "ratios": {"tiered lru": 0.25, "theine": 0.3}}],
    }
    return {
        "hit_path": {
            **common,
            "goals": [goal],
            "sections": {"a hit": _section("dict.get", "tiered get")},
        },
        "hit_path_pure": {**common, "sections": {"a hit": _section("dict.get", "tiered get")}},
        "stores": {**common, "sections": {"a write": _section("tiered lru")}},
        "hit_ratio": {**common, "traces": [trace], "shares": {"tiered lru": 0.7, "theine": 0.8}},
        "stampede": {
            **common,
            "creator": 0.05,
            "lines": [
                {"crowd": "64 threads", "name": "tiered", "calls": 1, "p50": 0.0512, "p99": 0.06}
            ],
        },
        "region": {
            **common,
            "sections": {"a region's hit": _section("dogpile.cache memory", "tiered memory")},
            "creator": 0.05,
            "lines": [
                {"crowd": "32 tasks", "name": "tiered inproc", "calls": 2, "p50": 0.1, "p99": 0.2}
            ],
        },
        "files": {
            **common,
            "sections": {"a get from files": _section("diskcache", "tiered files")},
            "creator": 0.05,
            "lines": [
                {"crowd": "8 processes", "name": "tiered files", "calls": 1, "p50": 0.1, "p99": 0.3}
            ],
        },
        "coherence": {
            **common,
            "tables": [
                {"title": "a delete, tcp", "head": ["who", "ms"], "rows": [["broker_in_A", "0.2"]]}
            ],
            "sections": {"a read": _section("get from memcached")},
        },
    }


def test_the_page_has_all_that_was_measured() -> None:
    text = page.render(_found(), "2030-01-02")
    assert text.startswith("# Performance\n\nThis page shows what ")
    for row in (
        "| date | 2030-01-02 |",
        "| get: tiered, at most 2 x dict.get | 2.5 | **no** |",
        "| contender | ns | x dict.get | x, pure Python |",
        "| dict.get | 50 | 1.25 |  |",
        "| tiered get | 50 | 1.25 | 1.25 |",
        "| policy | 5 % (1) |",
        "| tiered lru | 0.250 |",
        "| tiered | 1 | 51.2 | 60.0 |",
        "| tiered memory | 50 | 1.25 |",
        "| tiered inproc | 2 | 100.0 | 200.0 |",
        "| tiered files | 50 | 1.25 |",
        "| tiered files | 1 | 100.0 | 300.0 |",
        "| broker\\_in\\_A | 0.2 |",
        "| get from memcached | 50 | 1.25 |",
    ):
        assert row in text
    assert text.index("| theine | 0.800 |") < text.index("| tiered lru | 0.700 |")
    assert "```python" not in text


def test_the_page_and_its_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report.write(_found(), tmp_path / "performance.md", "2030-01-02")
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"performance.md", page.HIT_COSTS, page.HIT_RATIOS}


def test_the_pure_run_is_left_out_where_there_is_no_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[str, list[str], dict[str, str]]] = []

    def run(name: str, arguments: list[str], environment: dict[str, str]) -> Any:
        ran.append((name, arguments, environment))
        return None if name == "memcached" else {"name": name}

    monkeypatch.setattr(report, "run", run)
    monkeypatch.setattr("tiered.accelerated", False)
    found = report.collect(tmp_path, rounds=2)
    assert list(found) == [
        "hit_path",
        "stores",
        "hit_ratio",
        "tiers",
        "files",
        "stampede",
        "region",
        "coherence",
    ]
    assert ("hit_ratio", ["--rounds", "2", str(tmp_path)], {}) in ran

    ran.clear()
    monkeypatch.setattr("tiered.accelerated", True)
    assert "hit_path_pure" in report.collect(None, rounds=None)
    assert ran[1] == (
        "hit_path",
        ["--rounds", str(report.ROUNDS["hit_path_pure"])],
        {"TIERED_PURE": "1"},
    )
