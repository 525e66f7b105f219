"""What a program does when it is told to end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

__all__ = ["on_end"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def on_end(action: Callable[[], object]) -> Iterator[None]:
    """Call *action* on SIGINT, SIGTERM and SIGHUP, in place of being killed; main thread only.

    Once that has happened, these signals are ignored afterwards: the program ends, which takes
    some time, and who tells it again (a terminal and a parent both do) is not to kill it then.
    """
    told = False

    def handle(_signal: int, _frame: FrameType | None) -> None:
        nonlocal told
        told = True
        action()

    previous = [signal.signal(one, handle) for one in _SIGNALS]
    try:
        yield
    finally:
        for one, handler in zip(_SIGNALS, previous, strict=True):
            signal.signal(one, signal.SIG_IGN if told else handler)
