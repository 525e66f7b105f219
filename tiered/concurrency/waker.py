"""What ends a pause before its time."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Waker"]


class Waker:
    """Wakes the one who waits, in whatever way he does.

    A ring is remembered until :meth:`clear`: who clears, looks and then waits misses none.

    Threads: any may ring, and does not wait; one at a time waits.
    """

    __slots__ = ("_callback", "_lock", "_rung")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rung = threading.Event()
        self._callback: Callable[[], object] | None = None

    def ring(self) -> None:
        """Wake him, now or as soon as he waits."""
        with self._lock:
            self._rung.set()
            callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def clear(self) -> None:
        """What was rung for has been seen to."""
        with self._lock:
            self._rung.clear()
            self._callback = None

    def wait(self, seconds: float) -> bool:
        """Until it rings; ``False`` after *seconds*."""
        return self._rung.wait(seconds)

    def then(self, callback: Callable[[], object]) -> None:
        """Call *callback*, and none that was given before, when it rings; at once if it has.

        In the thread that rings: *callback* is to be quick, and not to raise.
        """
        with self._lock:
            if not self._rung.is_set():
                self._callback = callback
                return
        callback()
