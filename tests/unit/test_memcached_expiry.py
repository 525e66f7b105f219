"""What a server is told of a life: at least the seconds that the value has, at every edge."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.clients.memcached.expiry import exptime

NOW = 1_800_000_000.25
DAY = 24 * 3600
MONTH = 30 * DAY
LAST = 2**31 - 1


@pytest.mark.parametrize(
    ("remaining", "keep", "told"),
    [
        (0.3, 0, 2),
        (0.999, 0, 2),
        (1, 0, 2),
        (1.001, 0, 3),
        (100, 0, 101),
        (100, 50, 151),
        (0.2, 0.2, 2),
        # Stale already: for those who read stale values.
        (0, 0, 31),
        (-1, 0, 31),
        (-1e9, 0, 31),
        (-math.inf, 0, 31),
        (-1, 10, 31),
        (-1, 30, 31),
        (-1, 100, 101),
        # Past thirty days a number is a date.
        (MONTH - 1, 0, MONTH),
        (MONTH - 0.5, 0, math.ceil(NOW) + MONTH + 1),
        (MONTH, 0, math.ceil(NOW) + MONTH + 1),
        (MONTH + 1, 0, math.ceil(NOW) + MONTH + 2),
        (DAY, MONTH, math.ceil(NOW) + MONTH + DAY + 1),
        (-1, MONTH, math.ceil(NOW) + MONTH + 1),
        (10 * 365 * DAY, 0, math.ceil(NOW) + 10 * 365 * DAY + 1),
        # Nor can it be later than such a date can be written.
        (LAST - math.ceil(NOW) - 1, 0, LAST),
        (LAST - math.ceil(NOW), 0, 0),
        (1e15, 0, 0),
        (math.inf, 0, 0),
        (1, math.inf, 0),
        (-1, math.inf, 0),
        (math.inf, math.inf, 0),
    ],
)
def test_the_number_of_a_life(remaining: float, keep: float, told: int) -> None:
    assert exptime(remaining, keep, NOW) == told


@given(
    remaining=st.floats(-1e12, 1e12),
    keep=st.floats(0, 1e12),
    now=st.floats(0, 2e9),
    passed=st.floats(0, 1, exclude_max=True),
)
def test_a_server_keeps_a_value_no_shorter_than_its_life_and_hardly_longer(
    remaining: float, keep: float, now: float, passed: float
) -> None:
    told = exptime(remaining, keep, now)
    life = max(remaining, 0) + keep
    assert told >= 0
    if not told:
        assert now + life > LAST - 3
        return
    # A server counts in whole seconds; the present one began up to one ago.
    kept = told - passed if told <= MONTH else told - now
    assert kept >= life - 1e-3
    if life >= 30:
        assert kept <= life + 3
