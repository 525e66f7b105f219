"""Short soaks: processes on servers that are killed, and a checker that knows what is true."""

from __future__ import annotations

import pytest

from bench.soak import Outcome, Soak, parsed
from bench.soak_board import Column

pytestmark = pytest.mark.usefixtures("memcached")  # skips, or fails, where none is installed


def soaked(*options: str) -> tuple[Outcome, str]:
    soak = Soak(
        parsed(["--processes", "2", "--threads", "4", "--keys", "60", *options]), quiet=True
    )
    outcome = soak.run()
    return outcome, soak.summary(outcome)


@pytest.mark.parametrize(
    "extra", [["--no-namespace"], [], ["--tiers"], ["--large"]], ids=lambda extra: " ".join(extra)
)
def test_no_answer_is_older_than_its_last_delete_while_servers_die(extra: list[str]) -> None:
    outcome, told = soaked("--seconds", "8", "--kill-every", "2", *extra)
    assert outcome.kills >= 2, told
    assert outcome.figures[Column.HITS] > 100, told
    assert outcome.figures[Column.DELETES] > 100, told
    assert outcome.violations == 0, told
    assert outcome.stuck == [], told


def test_a_client_that_loses_deletes_is_noticed() -> None:
    outcome, told = soaked("--seconds", "4", "--kill-every", "100", "--forget", "2")
    assert outcome.figures[Column.STALE] > 0, told
    assert outcome.figures[Column.WRONG] == 0, told
    assert outcome.stuck == [], told
    key, fault = outcome.faults[0]
    assert outcome.histories[key], told
    assert "stale" in fault.what
    assert f"key {key}" in told


def test_frozen_servers_make_no_wrong_values_and_hold_nobody() -> None:
    outcome, told = soaked("--seconds", "7", "--kill-every", "3", "--freeze")
    assert outcome.kills >= 1, told
    assert outcome.figures[Column.WRONG] == 0, told
    assert outcome.stuck == [], told
