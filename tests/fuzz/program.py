"""What a seed stands for: which mischief, on what kind of store."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from tests.fuzz.mischief import FAILURES, ORDINARY, Hostility, Mischief

__all__ = ["Program"]

_CAPACITIES = (0, 0.5, 1, 2, 3, 7, 7, 20, 64, 64, 300, 1000, 10**9, 2**62, 1e300, math.inf)


@dataclass(frozen=True)
class Program:
    """All that is decided before the first operation.

    Attributes:
        seed: what it is made from.
        rng: for everything that is decided later.
        capacity: of the store.
        rate: of the mischief.
        lies: keys may answer wrongly; less can be promised then.
        failures: what hostile code may raise.
        deepest: how far mischief is nested.
        weighs, announces: there is a weigher, a callback of evictions.
        spread: how many different hashes hostile keys have.
        labels: how many keys of each family there are.
        bulk: how many keys are put at once to force growth.
        dying: the share of values that do something in the end.
        kept: how many references to keys and values are kept elsewhere.
        helped: another thread does things in the middle of comparisons.
    """

    seed: int
    rng: random.Random = field(repr=False)
    capacity: float
    rate: float
    lies: bool
    failures: tuple[type[Hostility], ...] = field(repr=False)
    deepest: int
    weighs: bool
    announces: bool
    spread: int
    labels: int
    bulk: int
    dying: float
    kept: int
    helped: bool

    @classmethod
    def of(cls, seed: int, *, lies: bool | None = None) -> Program:
        """The program of *seed*."""
        rng = random.Random(seed)
        chance = rng.random()
        return cls(
            seed=seed,
            rng=rng,
            capacity=rng.choice(_CAPACITIES),
            rate=rng.choice((0.0, 0.01, 0.03, 0.1)),
            lies=chance < 0.2 if lies is None else lies,
            failures=rng.choice(((), ORDINARY, FAILURES)),
            deepest=rng.choice((1, 2, 3, 6)),
            weighs=rng.random() < 0.5,
            announces=rng.random() < 0.6,
            spread=rng.choice((1, 3, 16, 1000)),
            labels=rng.choice((3, 10, 40, 150)),
            bulk=rng.choice((0, 50, 400)),
            dying=rng.choice((0.1, 0.1, 0.6)),
            kept=rng.choice((0, 0, 20)),
            helped=rng.random() < 0.1,
        )

    def mischief(self) -> Mischief:
        """Of this program."""
        return Mischief(
            self.rng, self.rate, lies=self.lies, failures=self.failures, deepest=self.deepest
        )
