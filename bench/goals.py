"""Goals: ratios, or figures, that are to be reached; and whether they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.sections import Measured
from bench.timing import Result

__all__ = ["Goal", "Verdict", "judge"]


@dataclass(frozen=True)
class Goal:
    """What *contender* is to reach in *section*.

    Attributes:
        limit: the most that it may be; with *at_least*, the least.
        than: the contender that it is compared with, instead of the section's baseline.
        absolute: *limit* is in the section's unit, and nothing is compared.
    """

    section: str
    contender: str
    limit: float
    than: str | None = None
    at_least: bool = False
    absolute: bool = False


@dataclass(frozen=True)
class Verdict:
    """A goal in words, what was measured, and whether that meets it."""

    goal: str
    measured: float
    met: bool


def judge(goals: Iterable[Goal], sections: Mapping[str, Measured]) -> list[Verdict]:
    """One verdict for each goal; a goal beside a peer that is not installed gives none."""
    verdicts = []
    for goal in goals:
        section = sections[goal.section]
        found = {result.name: result for result in section.results}
        if goal.than is not None and goal.than not in found:
            continue
        measured, unit = _measured(goal, section, found)
        met = measured >= goal.limit if goal.at_least else measured <= goal.limit
        bound = "at least" if goal.at_least else "at most"
        words = f"{goal.section}: {goal.contender}, {bound} {goal.limit:g} {unit}"
        verdicts.append(Verdict(words, round(measured, 3), met))
    return verdicts


def _measured(goal: Goal, section: Measured, found: dict[str, Result]) -> tuple[float, str]:
    result = found[goal.contender]
    if goal.absolute:
        return result.value, section.unit
    if goal.than is not None and goal.than != section.baseline:
        return result.value / found[goal.than].value, f"x {goal.than}"
    return result.ratio, f"x {section.baseline}"
