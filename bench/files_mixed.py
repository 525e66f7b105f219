"""Some processes at a time, each of which reads nine times and writes once, and so on."""

from __future__ import annotations

import random
import time
from pathlib import Path

from bench.actors import Actor
from bench.files_contenders import DISKCACHE, KEYS, OURS, SIZE, name, shared_kinds
from bench.sections import Measured
from bench.timing import compare

__all__ = ["PROCESSES", "mixed"]

PROCESSES = 4
_READS = 9
_SECONDS = 0.5
_HEAD_START = 0.05
_SLOWEST = 100
"""Times that a kind is slower, beyond which it would need minutes for a sample."""


def mixed(path: Path, rounds: int, seconds: float = _SECONDS) -> Measured:
    """Thousands of calls a second, of all processes together."""
    labels = [label for label, kind in shared_kinds().items() if kind.slower <= _SLOWEST]
    crowds = {label: _crowd(path, label) for label in labels}
    samples: dict[str, list[float]] = {label: [] for label in labels}
    try:
        for number in range(rounds):
            shift = number % len(labels)
            for label in labels[shift:] + labels[:shift]:
                start = time.monotonic() + _HEAD_START
                for worker in crowds[label]:
                    worker.post("work", start, seconds)
                rates = [worker.answer() for worker in crowds[label]]
                samples[label].append(sum(rates) / 1e3)
    finally:
        for crowd in crowds.values():
            for worker in crowd:
                worker.close()
    baseline = DISKCACHE if DISKCACHE in samples else OURS
    return Measured(baseline, "1,000/s", compare(samples, baseline))


def _crowd(path: Path, label: str) -> list[Actor]:
    crowd = [Actor(Worker, str(path), label, number) for number in range(PROCESSES)]
    crowd[0].ask("fill")
    return crowd


class Worker:
    """One of the processes."""

    def __init__(self, path: str, label: str, seed: int) -> None:
        self._kind = shared_kinds()[label]
        self._cache = self._kind.open(Path(path, label.replace(" ", "-")), SIZE)
        self._chance = random.Random(seed)

    def fill(self) -> None:
        """Put all keys."""
        self._kind.fill(self._cache)

    def work(self, start: float, seconds: float) -> float:
        """Calls a second, from *start* on, by the monotonic clock of the machine."""
        get, putting, put = self._cache.get, self._kind.putting, self._put
        keys = [name(self._chance.randrange(KEYS)) for _ in range(1000 * (_READS + 1))]
        calls = 0
        time.sleep(max(0.0, start - time.monotonic()))
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            at = calls % len(keys)
            for key in keys[at : at + _READS]:
                assert get(key) is not None
            putting(put, keys[at + _READS : at + _READS + 1])
            calls += _READS + 1
        return calls / (now - began)

    @property
    def _put(self) -> object:
        return getattr(self._cache, self._kind.put)
