"""Wakes a thread that waits at sockets."""

from __future__ import annotations

import os
import weakref

__all__ = ["Bell"]


class Bell:
    """A descriptor that becomes readable when somebody rings.

    It is closed when nobody has it any more, and not before: a ring that comes late must not
    reach a file that has the number by then.

    Threads: safe.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = weakref.finalize(self, os.close, self.descriptor)
        self._closed.atexit = False

    def ring(self) -> None:
        """Make it readable. In a signal's handler too."""
        os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        """Make it not readable."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            pass  # it was rung for somebody who came by himself
