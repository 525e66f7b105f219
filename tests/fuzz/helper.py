"""A thread that does something while another is in the middle of something."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

__all__ = ["Helper"]

_PATIENCE = 0.002
"""Seconds; a store with a lock lets the helper in only later."""


class Helper:
    """Does *work* in its own thread whenever it is asked. Threads: safe."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._orders: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Have it done, and wait for that a moment."""
        if threading.current_thread() is not self._thread:
            done = threading.Event()
            self._orders.put(done)
            done.wait(_PATIENCE)

    def rest(self) -> None:
        """Wait until all is done that was asked for."""
        done = threading.Event()
        self._orders.put(done)
        done.wait()

    def stop(self) -> None:
        """End the thread."""
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (done := self._orders.get()) is not None:
            try:
                self._work()
            finally:
                done.set()
