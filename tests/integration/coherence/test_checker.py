"""What the checker of the faults takes for stale, and that it notices nodes that are broken."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.integration.coherence.checker import Bound, judged, last_deletes
from tests.integration.coherence.truth import Kind, Log, Truth

KEYS = range(10)
KEY = 3


def logs(folder: Path, **records: list[tuple[Kind, int, float]]) -> None:
    """Logs of processes: what each has done with one key, which version, when it returned."""
    for name, lines in records.items():
        log = Log(folder / f"{name}.main.log")
        for kind, version, at in lines:
            log.add(kind, KEY, version, at - (0.25 if kind is Kind.DELETED else 0.0), at)


DELETES = [(Kind.DELETED, 2, 10.0), (Kind.DELETED, 3, 20.0), (Kind.UNSURE, 4, 30.0)]


@pytest.mark.parametrize(
    ("version", "at", "age", "over"),
    [
        (1, 9.9, 0.0, None),
        (1, 10.5, 0.5, None),
        (1, 11.5, 1.5, 0.5),
        (1, 25.0, 15.0, 14.0),
        (2, 19.0, 0.0, None),
        (2, 20.9, 0.9, None),
        (2, 22.0, 2.0, 1.0),
        (3, 99.0, 0.0, None),
        (4, 99.0, 0.0, None),
    ],
)
def test_a_read_is_held_against_all_deletes_that_had_returned(
    tmp_path: Path, version: int, at: float, age: float, over: float | None
) -> None:
    logs(tmp_path, writer=DELETES, reader=[(Kind.READ, version, at)])
    verdict = judged(tmp_path, [KEYS], [Bound(1.0)])
    assert verdict.oldest[KEYS] == pytest.approx(age)
    assert [one.over for one in verdict.stale] == pytest.approx([] if over is None else [over])
    assert verdict.counts[Kind.READ] == 1
    assert verdict.counts[Kind.DELETED] == 2
    for one in verdict.stale:
        assert (one.who, one.by, one.key, one.newer) == ("reader", "writer", KEY, version + 1)
        assert one.age == pytest.approx(age)
        assert str(one) in str(verdict)


def test_deletes_of_several_processes_count_in_the_order_of_their_versions(tmp_path: Path) -> None:
    logs(
        tmp_path,
        one=[(Kind.DELETED, 2, 10.0), (Kind.DELETED, 4, 10.2)],
        other=[(Kind.DELETED, 3, 15.0), (Kind.READ, 2, 11.0), (Kind.READ, 4, 16.0)],
    )
    verdict = judged(tmp_path, [KEYS], [Bound(0.5)])
    (stale,) = verdict.stale
    assert (stale.who, stale.by, stale.newer, stale.version) == ("other", "one", 4, 2)


def test_the_last_bound_that_fits_counts(tmp_path: Path) -> None:
    logs(
        tmp_path,
        slow=[(Kind.DELETED, 2, 10.0), (Kind.DELETED, 3, 20.0)],
        reader=[(Kind.READ, 1, 12.5), (Kind.READ, 2, 22.5)],
    )
    excused = Bound(1.0, KEYS, "slow", since=9.0, until=11.0, at=12.0)
    assert [one.version for one in judged(tmp_path, [KEYS], [Bound(1.0), excused]).stale] == [2]
    for other in (excused._replace(who="reader"), excused._replace(keys=range(3))):
        both = judged(tmp_path, [KEYS], [Bound(1.0), other]).stale
        assert [one.version for one in both] == [1, 2]
    assert judged(tmp_path, [KEYS], [Bound(0.0), Bound(5.0, KEYS)]).stale == []


def test_the_reads_of_one_process_can_be_judged_by_themselves(tmp_path: Path) -> None:
    read = [(Kind.READ, 1, 99.0)]
    logs(tmp_path, writer=DELETES, reader=read, other=read)
    bounds = [Bound(1.0)]
    assert [one.who for one in judged(tmp_path, [KEYS], bounds).stale] == ["other", "reader"]
    assert [one.who for one in judged(tmp_path, [KEYS], bounds, "other").stale] == ["other"]


def test_the_last_delete_of_each_key(tmp_path: Path) -> None:
    logs(tmp_path, one=DELETES, other=[(Kind.DELETED, 3, 9.0), (Kind.READ, 9, 9.0)])
    expected = [1] * 10
    expected[KEY] = 4
    assert last_deletes(tmp_path, 10).tolist() == expected


def test_what_is_never_due_is_never_stale(tmp_path: Path) -> None:
    logs(tmp_path, writer=DELETES, reader=[(Kind.READ, 1, 99.0)])
    assert judged(tmp_path, [KEYS], []).stale == []


def test_who_holds_a_key_raises_its_version_for_all(tmp_path: Path) -> None:
    with (
        contextlib.closing(Truth.made(tmp_path / "truth", 10)) as truth,
        contextlib.closing(Truth(tmp_path / "truth")) as other,
        truth.held(KEY) as mine,
    ):
        assert mine
        assert truth.raised(KEY) == other.version(KEY) == 2
        assert other.version(KEY + 1) == 1
        assert other.keys == 10
