"""Which reads were answered with what a delete had done away with, and for how long."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.integration.coherence.truth import Kind

__all__ = ["Bound", "Stale", "Verdict", "counted", "judged", "last_deletes"]

SHOWN: Final = 8

_RECORD: Final = np.dtype(
    [("kind", "i8"), ("key", "i8"), ("version", "i8"), ("began", "f8"), ("ended", "f8")]
)

_Times = npt.NDArray[np.float64]


class Bound(NamedTuple):
    """Until when the deletes of somebody may not yet be known to everybody.

    Attributes:
        seconds: after the delete has returned.
        keys: the deletes of these.
        who: the deletes of this process; of all, if it is empty.
        since, until: and only those that have returned at these times.
        at: the delete counts from this time on, if it returned earlier.
    """

    seconds: float
    keys: range | None = None
    who: str = ""
    since: float = float("-inf")
    until: float = float("inf")
    at: float = float("-inf")


class Stale(NamedTuple):
    """A read that should not have been answered so.

    Attributes:
        began: when the read did.
        newer: the version whose delete had returned, at *deleted*, in *by*.
        over: seconds beyond the bound.
    """

    who: str
    key: int
    version: int
    began: float
    newer: int
    by: str
    deleted: float
    over: float

    @property
    def age(self) -> float:
        """Seconds from the delete to the read."""
        return self.began - self.deleted

    def __str__(self) -> str:
        return (
            f"{self.who} reads version {self.version} of key {self.key} at {self.began:.4f}, "
            f"{self.age * 1e3:.1f} ms after {self.by} deleted all before {self.newer}: "
            f"{self.over * 1e3:.1f} ms beyond the bound"
        )


@dataclass
class Verdict:
    """What the checker has found.

    Attributes:
        counts: of each kind of record.
        oldest: the greatest age of an answer, in seconds, by group of keys.
        stale: the reads beyond their bound.
        slowest: seconds of the slowest operation of each kind.
    """

    counts: Counter[Kind] = field(default_factory=Counter)
    oldest: dict[range, float] = field(default_factory=dict)
    stale: list[Stale] = field(default_factory=list)
    slowest: dict[Kind, float] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.counts[kind]:,} {kind.name.lower()}" for kind in Kind if kind)
        ages = ", ".join(
            f"{1e3 * age:.1f} ms (keys {keys.start} to {keys.stop - 1})"
            for keys, age in self.oldest.items()
        )
        slowest = ", ".join(f"{s:.2f} s {kind.name.lower()}" for kind, s in self.slowest.items())
        lines = [counts, f"oldest answers: {ages}", f"slowest: {slowest}"]
        lines.append(f"{len(self.stale):,} stale reads" + (", some:" if self.stale else ""))
        # The worst, and the first: the one tells how bad it is, the other how it came.
        worst = sorted(self.stale, key=lambda one: -one.over)[:SHOWN]
        first = sorted(self.stale, key=lambda one: one.began)[:SHOWN]
        lines += [f"  {one}" for one in dict.fromkeys([*worst, *first])]
        return "\n".join(lines)


class _Deletes(NamedTuple):
    """The deletes of one key, in the order of their versions."""

    versions: npt.NDArray[np.int64]
    times: _Times
    due: _Times
    names: npt.NDArray[np.int64]


def judged(
    folder: Path, groups: Iterable[range], bounds: Iterable[Bound], reader: str = ""
) -> Verdict:
    """Hold all reads against all deletes.

    Args:
        folder: has the logs, named ``<process>.<thread>.log``.
        groups: keys whose greatest ages are told apart.
        bounds: the last one that fits a delete is the one that counts.
        reader: only the reads of this process; of all, if it is empty.
    """
    paths = sorted(folder.glob("*.log"))
    names = [path.stem.rpartition(".")[0] for path in paths]
    logs = [_read(path) for path in paths]
    records = np.concatenate(logs)
    owners = np.repeat(np.arange(len(logs)), [len(log) for log in logs])
    if reader:
        others = ~np.isin(owners, [i for i, name in enumerate(names) if name == reader])
        kept = ~((records["kind"] == Kind.READ) & others)
        records, owners = records[kept], owners[kept]
    verdict = Verdict()
    for kind in Kind:
        chosen = records["kind"] == kind
        verdict.counts[kind] = int(np.count_nonzero(chosen))
        if verdict.counts[kind]:
            verdict.slowest[kind] = float((records["ended"] - records["began"])[chosen].max())
    order = np.argsort(records["key"], kind="stable")
    records, owners = records[order], owners[order]
    due = _due(records, owners, names, bounds)
    for group in groups:
        verdict.oldest[group] = 0.0
        places = np.searchsorted(records["key"], np.arange(group.start, group.stop + 1))
        for key, first, last in zip(group, places, places[1:], strict=False):
            age = _judge(key, slice(first, last), records, owners, names, due, verdict)
            verdict.oldest[group] = max(verdict.oldest[group], age)
    return verdict


def counted(folder: Path) -> Counter[Kind]:
    """How many records there are of each kind, so far."""
    counts: Counter[Kind] = Counter()
    for path in folder.glob("*.log"):
        if not path.stat().st_size:
            continue  # it is made just now
        kinds = _read(path)["kind"]
        counts.update({kind: int(np.count_nonzero(kinds == kind)) for kind in Kind})
    return counts


def last_deletes(folder: Path, keys: int) -> npt.NDArray[np.int64]:
    """The highest version of each key whose delete has returned, 1 for none."""
    last = np.ones(keys, np.int64)
    for path in folder.glob("*.log"):
        records = _read(path)
        records = records[(records["kind"] == Kind.DELETED) | (records["kind"] == Kind.UNSURE)]
        np.maximum.at(last, records["key"], records["version"])
    return last


def _read(path: Path) -> npt.NDArray[np.void]:
    """The records of a log, which may still be written to."""
    records = np.memmap(path, dtype=_RECORD, mode="r")
    kinds = records["kind"]
    # By halves: the file is large, and only its beginning was ever written.
    length = bisect.bisect_left(range(len(kinds)), True, key=lambda at: kinds[at] == Kind.END)
    return np.array(records[:length])


def _due(
    records: npt.NDArray[np.void],
    owners: npt.NDArray[np.int64],
    names: list[str],
    bounds: Iterable[Bound],
) -> _Times:
    """When everybody has to know of each record, if it is a delete."""
    ended = records["ended"]
    due = np.full(len(records), np.inf)
    for bound in bounds:
        fits = (ended >= bound.since) & (ended <= bound.until)
        if bound.keys is not None:
            fits &= (records["key"] >= bound.keys.start) & (records["key"] < bound.keys.stop)
        if bound.who:
            fits &= np.isin(owners, [i for i, name in enumerate(names) if name == bound.who])
        due[fits] = np.maximum(ended[fits], bound.at) + bound.seconds
    return due


def _judge(
    key: int,
    part: slice,
    records: npt.NDArray[np.void],
    owners: npt.NDArray[np.int64],
    names: list[str],
    due: _Times,
    verdict: Verdict,
) -> float:
    """Add the stale reads of *key*; the greatest age."""
    mine, by, ends = records[part], owners[part], due[part]
    chosen = np.flatnonzero(mine["kind"] == Kind.DELETED)
    if not len(chosen):
        return 0.0
    chosen = chosen[np.argsort(mine["version"][chosen], kind="stable")]
    deletes = _Deletes(mine["version"][chosen], mine["ended"][chosen], ends[chosen], by[chosen])
    reads = np.flatnonzero(mine["kind"] == Kind.READ)
    # An answer is too old if *any* later version was acknowledged: the earliest of these counts.
    after = np.searchsorted(deletes.versions, mine["version"][reads], side="right")
    ages = mine["began"][reads] - _earliest(deletes.times)[after]
    overs = mine["began"][reads] - _earliest(deletes.due)[after]
    for place in np.flatnonzero(overs > 0):
        read = mine[reads[place]]
        newer = after[place] + int(np.argmin(deletes.due[after[place] :]))
        verdict.stale.append(
            Stale(
                who=names[by[reads[place]]],
                key=key,
                version=int(read["version"]),
                began=float(read["began"]),
                newer=int(deletes.versions[newer]),
                by=names[deletes.names[newer]],
                deleted=float(deletes.times[newer]),
                over=float(overs[place]),
            )
        )
    return max(0.0, float(ages.max(initial=0.0)))


def _earliest(times: _Times) -> _Times:
    """The least of *times* from each place on, and infinity after the last."""
    return np.append(np.minimum.accumulate(times[::-1])[::-1], np.inf)
