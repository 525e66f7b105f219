"""Calls that a signal's handler breaks off, wherever it raises: the next one must not wait."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tiered import InprocCacheClient, cached
from tiered.region import make_region

PATIENCE = 20.0
"""Seconds after which a call that should not wait does: more than a machine stalls for."""


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
        caller.join(PATIENCE)
        assert answers == [1], f"broken off at its function number {place}"
    assert place > 5


def regional() -> Any:
    """A region in memory, with a function that is cached in it."""
    region = make_region().configure("inproc", expiration_time=60)
    function = region.cache_on_arguments()(lambda number: number)
    return region, function


REGIONAL: dict[str, Callable[[Any, Any], object]] = {
    "get_or_create": lambda region, f: region.get_or_create("k", lambda: 1),
    "get_or_create_multi": lambda region, f: region.get_or_create_multi(
        ["k", "l"], lambda *names: [1 for _ in names]
    ),
    "call": lambda region, f: f(1),
    "refresh": lambda region, f: f.refresh(1),
    "set": lambda region, f: region.set("k", 1),
    "delete": lambda region, f: region.delete("k"),
    "invalidate": lambda region, f: region.invalidate(),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", REGIONAL)
def test_nor_does_anybody_in_a_region(way: str) -> None:
    place = 0
    while True:
        place += 1
        region, function = regional()
        if not broken_off(place, lambda r=region, f=function: REGIONAL[way](r, f)):  # type: ignore[misc]
            break
        answers: list[int] = []

        def ask(region: Any = region, function: Any = function, found: Any = answers) -> None:
            found.append(region.get_or_create("k", lambda: 1))
            found.append(function(1))
            found += region.get_or_create_multi(["l", "k"], lambda *names: [1 for _ in names])

        caller = threading.Thread(target=ask, daemon=True)
        caller.start()
        caller.join(PATIENCE)
        assert answers == [1, 1, 1, 1], f"broken off at its function number {place}"
    assert place > 1
