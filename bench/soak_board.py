"""What the threads of a soak are doing, in memory that all its processes share."""

from __future__ import annotations

import time
from collections.abc import MutableSequence
from enum import IntEnum
from multiprocessing.context import SpawnContext
from typing import Final

__all__ = ["OPERATIONS", "Board", "Column", "Slot"]

OPERATIONS: Final = (
    "call", "get", "get_multi", "multi", "peek", "delete", "invalidate", "put", "add", "fill",
    "renew", "expire",
)  # fmt: skip


class Column(IntEnum):
    """What is noted of a thread."""

    BEGAN = 0  # nanoseconds; 0 between two operations
    OPERATION = 1
    KEY = 2
    SLOWEST = 3  # nanoseconds, since the last report
    OPERATIONS = 4
    HITS = 5
    MISSES = 6
    COMPUTED = 7
    DELETES = 8
    FAILED_DELETES = 9
    WRITES = 10
    REFUSED_FILLS = 11
    WRONG = 12
    STALE = 13
    UNSURE = 14
    LATE = 15
    ERRORS = 16


class Board:
    """A row of numbers for each thread of each process, and one word for all of them.

    Threads: each writes into its own row; anybody reads.
    """

    WAIT: Final = 0
    GO: Final = 1
    STOP: Final = 2

    def __init__(self, context: SpawnContext, processes: int, threads: int) -> None:
        self.processes = processes
        self.threads = threads
        self._rows: MutableSequence[int] = context.RawArray("q", processes * threads * len(Column))
        self._word: MutableSequence[int] = context.RawArray("b", [self.WAIT])

    @property
    def word(self) -> int:
        """What all threads are to do."""
        return self._word[0]

    @word.setter
    def word(self, word: int) -> None:
        self._word[0] = word

    def slot(self, process: int, thread: int) -> Slot:
        """The row of one thread."""
        return Slot(self, (process * self.threads + thread) * len(Column))

    def slots(self) -> list[Slot]:
        """All rows."""
        return [self.slot(p, t) for p in range(self.processes) for t in range(self.threads)]

    def total(self, column: Column) -> int:
        """The sum over all threads."""
        return sum(self._rows[column :: len(Column)])


class Slot:
    """The row of one thread."""

    def __init__(self, board: Board, offset: int) -> None:
        self._rows = board._rows
        self._offset = offset
        self.name = divmod(offset // len(Column), board.threads)

    def __getitem__(self, column: Column) -> int:
        return self._rows[self._offset + column]

    def __setitem__(self, column: Column, number: int) -> None:
        self._rows[self._offset + column] = number

    def count(self, column: Column, number: int = 1) -> None:
        """Add to a number."""
        self._rows[self._offset + column] += number

    def begin(self, operation: int, key: int) -> None:
        """An operation begins."""
        self[Column.OPERATION], self[Column.KEY] = operation, key
        self[Column.BEGAN] = time.monotonic_ns()

    def end(self) -> None:
        """It has ended, somehow."""
        took = time.monotonic_ns() - self[Column.BEGAN]
        self[Column.BEGAN] = 0
        self[Column.SLOWEST] = max(self[Column.SLOWEST], took)
        self.count(Column.OPERATIONS)
