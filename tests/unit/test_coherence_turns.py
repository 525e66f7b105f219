"""A caller who is stopped while he sends by himself."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("zmq")

from tiered.clock import SYSTEM_CLOCK
from tiered.coherence.zeromq.readiness import Readiness
from tiered.coherence.zeromq.turns import Turns
from tiered.stats.reports import Reports


class Stopped(BaseException): ...


class StoppedAtTheEnd(Turns):
    """A signal's handler raises when all was sent, before that is noted."""

    _cut_short = False

    @property
    def cut_short(self) -> bool:
        return self._cut_short

    @cut_short.setter
    def cut_short(self, cut_short: bool) -> None:
        if self._cut_short and not cut_short:
            raise Stopped
        self._cut_short = cut_short


def test_the_thread_is_woken_for_what_was_cut_short_at_the_very_end() -> None:
    readiness = Readiness()
    reports = Reports("tiered.coherence", SYSTEM_CLOCK)
    turns = StoppedAtTheEnd(threading.RLock(), readiness, lambda: 10.0, lambda now: True, reports)
    turns.sleeping = True
    with pytest.raises(Stopped):
        turns.wake()
    assert turns.cut_short
    assert not turns.sleeping
    readiness.sleep(30.0)  # is ended by the bell
