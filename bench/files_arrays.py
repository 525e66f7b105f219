"""A large array from files: in a process that has read it before, and in one that has not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy

from bench.actors import Actor
from bench.files_contenders import DISKCACHE, OURS, kinds
from bench.sections import Measured
from bench.timing import Contender, Result, compare, time_calls

__all__ = ["ARRAY", "BYTES", "cold", "warm"]

ARRAY = "array"
BYTES = 100_000_000
SIZE = 1_000_000_000
_SLOWER = {OURS: 1, DISKCACHE: 20}
_CALLS = 100


def _put(path: Path, label: str) -> Any:
    kind = kinds()[label]
    cache = kind.open(path / label, SIZE)
    getattr(cache, kind.put)(ARRAY, numpy.ones(BYTES // 8), 3600)
    return cache


def _installed() -> list[str]:
    return [label for label in _SLOWER if label in kinds()]


def warm(path: Path, rounds: int) -> Measured:
    """Milliseconds of a get, in a process that has read it before."""
    labels = _installed()
    caches = {label: _put(path, label) for label in labels}
    contenders = [Contender(label, caches[label].get, slower=_SLOWER[label]) for label in labels]
    taken = time_calls(contenders, [ARRAY] * _CALLS, baseline=labels[-1], rounds=rounds)
    results = [Result(one.name, one.value / 1e6, one.ratio) for one in taken]
    return Measured(labels[-1], "ms", results)


def cold(path: Path, rounds: int) -> Measured:
    """Milliseconds of the first get, in a process of its own each time."""
    labels = _installed()
    for label in labels:
        _put(path, label)
    samples: dict[str, list[float]] = {label: [] for label in labels}
    for number in range(rounds):
        for label in labels if number % 2 else labels[::-1]:
            reader = Actor(Reader, str(path), label)
            samples[label].append(reader.ask("first") * 1e3)
            reader.close()
    return Measured(labels[-1], "ms", compare(samples, labels[-1]))


class Reader:
    """A process that reads the array once."""

    def __init__(self, path: str, label: str) -> None:
        self._cache = kinds()[label].open(Path(path, label), SIZE)

    def first(self) -> float:
        """Seconds that it took."""
        began = time.perf_counter()
        array = self._cache.get(ARRAY)
        taken = time.perf_counter() - began
        assert array.nbytes == BYTES
        return taken
