"""The benchmark of files: each contender does what it is timed for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import files, files_arrays, files_contenders, files_mixed
from bench.files_contenders import DBM, DISKCACHE, OURS, kinds, name, shared_kinds
from bench.goals import judge
from bench.peers import peer
from bench.sections import Measured
from bench.stampede import Creator
from bench.timing import Result


@pytest.fixture(autouse=True)
def _few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_contenders, "KEYS", 20)


@pytest.mark.parametrize("label", [OURS, DISKCACHE, DBM, files_contenders.FANOUT])
def test_every_kind_holds_what_it_is_given(tmp_path: Path, label: str) -> None:
    if label not in shared_kinds():
        pytest.skip("it is not installed")
    kind = shared_kinds()[label]
    cache = files_contenders.filled(kind, tmp_path)
    put = getattr(cache, kind.put)
    kind.putting(put, ["another"])
    kind.putting_new(put, [""] * 3)
    for key in (name(19), "another"):
        assert cache.get(key) == files_contenders.KILOBYTE


def test_reads_are_hits_and_writes_are_writes(tmp_path: Path) -> None:
    for contender in files_contenders.getters(tmp_path / "get"):
        assert contender.call(name(3)) == files_contenders.KILOBYTE
    for make in (files_contenders.putters, files_contenders.new_key_putters):
        found = make(tmp_path / make.__name__)
        assert {one.name for one in found} == set(kinds())
        for contender in found:
            contender.loop(contender.call, [name(1), name(2)])


def test_what_is_to_evict_is_full(tmp_path: Path) -> None:
    size = 20_000_000
    found = files_contenders.new_key_putters(tmp_path, size)
    assert DBM not in {one.name for one in found}
    [ours] = [one for one in found if one.name == OURS]
    assert ours.call.__self__.usage > 0.9 * size


def test_arrays_are_read_warm_and_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_arrays, "BYTES", 800_000)
    monkeypatch.setattr(files_arrays, "_CALLS", 20)
    measured = files_arrays.warm(tmp_path / "warm", 1)
    assert (measured.results[0].name, measured.unit) == (OURS, "ms")
    assert measured.results[0].value > 0
    reader = files_arrays.Reader(str(tmp_path / "warm"), OURS)
    assert reader.first() > 0


def test_processes_read_and_write_together(tmp_path: Path) -> None:
    measured = files_mixed.mixed(tmp_path, 1, 0.05)
    assert all(result.value > 0 for result in measured.results)
    assert OURS in {result.name for result in measured.results}


def test_a_crowd_computes_once(tmp_path: Path) -> None:
    creator = Creator(0.0)
    for label, call in files_contenders.crowd(creator, str(tmp_path)).items():
        creator.calls = 0
        assert call(5) == call(5) == 5, label
        assert creator.calls == 1, label


def test_goals_are_beside_diskcache_where_it_is_installed() -> None:
    def figures(ours: float) -> Measured:
        return Measured(DISKCACHE, "", [Result(OURS, ours, ours), Result(DISKCACHE, 1, 1)])

    titles = {goal.section for goal in files.GOALS}
    verdicts = judge(files.GOALS, {title: figures(0.4) for title in titles})
    assert [one.met for one in verdicts] == [True] * 5 + [False]  # the throughput is to be more
    alone = Measured(OURS, "ms", [Result(OURS, 2.0, 1.0)])
    [array] = judge(files.GOALS, dict.fromkeys(titles, alone))
    assert not array.met
    assert set(files.sections(None)) > titles


def test_a_directory_goes_with_who_needs_it(tmp_path: Path) -> None:
    with files.a_directory(str(tmp_path)) as path:
        (path / "file").touch()
        assert path.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_the_dbm_module_is_told() -> None:
    assert files_contenders.dbm_module() in {"dbm.gnu", "dbm.ndbm", "dbm.dumb"}
    assert (DBM in kinds()) == (peer("dogpile.cache") is not None)
