"""How a computation ended: with a value or with an exception, as a thing that can be passed on."""

from __future__ import annotations

from types import TracebackType
from typing import Any

__all__ = ["Outcome"]


class Outcome:
    """A value, or the exception that stands in its place.

    Generators cannot let a ``StopIteration`` of user code pass, and threads cannot raise
    in one another: what a computation did travels as data, and is raised where its caller
    is.

    Attributes:
        value: what was returned; ``None`` with an error.
        error: what was raised, or ``None``.

    Threads: immutable.
    """

    __slots__ = ("_traceback", "error", "value")

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self._traceback: TracebackType | None = None if error is None else error.__traceback__

    def get(self) -> Any:
        """The value; raises the exception if there is one."""
        if self.error is not None:
            # Many callers raise this one object: each starts from where it was raised
            # first, or the traceback would grow with every one of them.
            raise self.error.with_traceback(self._traceback)
        return self.value

    def __repr__(self) -> str:
        return f"Outcome({self.value!r})" if self.error is None else f"Outcome({self.error!r})"
