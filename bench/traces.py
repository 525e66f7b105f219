"""Sequences of keys as caches are asked for them: recorded ones, and made-up ones."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["SUFFIX", "Trace", "read_traces", "synthetic_traces", "zipf"]

SUFFIX = ".u32.xz"
"""Ends the name of a file of xz-compressed little-endian uint32, one for each access."""


@dataclass(frozen=True)
class Trace:
    """Keys in the order of their accesses; *real* if somebody's application asked for them."""

    name: str
    keys: list[int]
    real: bool

    @property
    def unique(self) -> int:
        """How many different keys there are."""
        return len(set(self.keys))


def read_traces(directory: Path) -> list[Trace]:
    """Every trace in *directory*.

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(directory.glob(f"*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(f"no file *{SUFFIX} in {directory}")
    return [Trace(file.name.removesuffix(SUFFIX), _read(file), True) for file in files]


def _read(file: Path) -> list[int]:
    with lzma.open(file) as stream:
        keys: list[int] = np.frombuffer(stream.read(), "<u4").tolist()
    return keys


def synthetic_traces() -> list[Trace]:
    """For want of real ones: what is popular, and the same between scans."""
    popular = zipf(200_000, 20_000)
    scanned: list[int] = []
    for number in range(20):
        scanned += popular[number * 8_000 : (number + 1) * 8_000]
        first = 20_000 + number * 2_000
        scanned += range(first, first + 2_000)  # once, and never again
    return [Trace("zipf", popular, False), Trace("zipf and scans", scanned, False)]


def zipf(accesses: int, keys: int, exponent: float = 1.0) -> list[int]:
    """Keys of which the n-th most popular is asked for in proportion to ``1 / n ** exponent``."""
    chance = np.random.default_rng(7)
    weights = 1.0 / np.arange(1, keys + 1) ** exponent
    bounds = np.cumsum(weights) / weights.sum()
    ranks = np.searchsorted(bounds, chance.random(accesses)).clip(max=keys - 1)
    # Popular keys are not neighbours.
    found: list[int] = chance.permutation(keys)[ranks].tolist()
    return found
