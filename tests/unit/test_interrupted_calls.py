"""Calls that a signal's handler breaks off, wherever it raises: the next one must not wait."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tiered import InprocCacheClient, cached


class TimeLimit(BaseException):
    """What a worker's time limit raises, out of a signal's handler."""


def broken_off(place: int, call: Callable[[], object]) -> bool:
    """Run *call*, and raise where it enters its function number *place*; whether it came there."""
    entered = 0

    def entering(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal entered
        if "/tiered/" not in frame.f_code.co_filename.replace("\\", "/"):
            return
        entered += 1
        if entered == place:
            sys.settrace(None)
            raise TimeLimit

    before = sys.gettrace()
    sys.settrace(entering)
    try:
        call()
    except TimeLimit:
        pass
    finally:
        sys.settrace(before)
    return entered >= place


# Where a generator is being dropped, what is raised in it reaches nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["call", "refresh", "put", "invalidate", "multi"])
def test_what_nobody_computes_any_more_nobody_waits_for(way: str) -> None:
    place = 0
    while True:
        place += 1
        function = cached(InprocCacheClient(100), 60, namespace="f")(lambda number: number)
        ways: dict[str, Callable[[], object]] = {
            "call": lambda f=function: f(1),  # type: ignore[misc]
            "refresh": lambda f=function: f.refresh(1),  # type: ignore[misc]
            "put": lambda f=function: f.put(1, _cache_put=1),  # type: ignore[misc]
            "invalidate": lambda f=function: f.invalidate(1),  # type: ignore[misc]
            "multi": lambda f=function: f.multi([1, 2]),  # type: ignore[misc]
        }
        if not broken_off(place, ways[way]):
            break
        answers: list[int] = []
        caller = threading.Thread(target=lambda f=function, a=answers: a.append(f(1)), daemon=True)
        caller.start()
        caller.join(2.0)
        assert answers == [1], f"broken off at its function number {place}"
    assert place > 5
