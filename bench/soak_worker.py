"""The threads of a soak, which use a cache in every way, and judge each answer."""

from __future__ import annotations

import faulthandler
import random
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from bench.soak_board import OPERATIONS, Board, Column, Slot
from bench.soak_process import CLAIM_TTL, TTL, Process, Settings
from bench.soak_truth import Floor, Truth
from tiered import CacheMissError
from tiered.clients.base import CacheClient

__all__ = ["WEIGHTS", "Thread", "work"]

WEIGHTS: Final = {
    "call": 50, "get": 12, "get_multi": 6, "multi": 3, "peek": 3, "delete": 5, "invalidate": 5,
    "put": 4, "add": 3, "fill": 5, "renew": 3, "expire": 1,
}  # fmt: skip


class Thread:
    """One thread, which does one thing after the other until it is told to stop."""

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.truth = process.truth
        self.slot: Slot = process.board.slot(process.number, number)
        self.random = random.Random(f"{process.settings.seed}/{process.number}/{number}")
        self.function = process.function
        self.client: CacheClient = process.function.client
        weights = dict(WEIGHTS)
        if process.settings.tiers:
            # It would lengthen the life of a near copy that is behind already.
            del weights["renew"]
        self._names = list(weights)
        self._weights = list(weights.values())

    def run(self) -> None:
        board = self.process.board
        self.process.computed.keys = []
        while board.word == Board.WAIT:
            time.sleep(0.01)
        while board.word == Board.GO:
            (name,) = self.random.choices(self._names, self._weights)
            key = self.random.randrange(self.truth.keys)
            self.slot.begin(OPERATIONS.index(name), key)
            try:
                getattr(self, name)(key)
            except Exception as error:
                # Nothing that a server does may show as an exception.
                self.slot.count(Column.WRONG)
                self.process.fault(key, f"wrong: {name} raised {error!r}")
            finally:
                self.slot.end()

    # -- Reading -----------------------------------------------------------------

    def call(self, key: int) -> None:
        """The cached function."""
        with self.process.underway.calls([key]) as floors:
            value = self.function(key)
            self.read("call", key, value, floors[key])
        self._count_calls(1)

    def multi(self, key: int) -> None:
        """The cached function, for some keys."""
        keys = self._some(key)
        with self.process.underway.calls(keys) as floors:
            values = self.function.multi(keys)
            for one in keys:
                self.read("multi", one, values[one], floors[one])
        self._count_calls(len(keys))

    def _count_calls(self, calls: int) -> None:
        computed = self.process.computed.keys
        self.slot.count(Column.COMPUTED, len(computed))
        self.slot.count(Column.MISSES, len(computed))
        self.slot.count(Column.HITS, calls - len(computed))
        computed.clear()

    def get(self, key: int) -> None:
        """A plain read."""
        floor = self.truth.floor(key)
        self.found("get", key, self.client.get(key, None), floor)

    def peek(self, key: int) -> None:
        """The cached function, without computing."""
        floor = self.truth.floor(key)
        value: Any
        try:
            value = self.function.peek(key)
        except CacheMissError:
            value = None
        self.found("peek", key, value, floor)

    def get_multi(self, key: int) -> None:
        """A plain read of some keys."""
        keys = self._some(key)
        floors = {one: self.truth.floor(one) for one in keys}
        values = self.client.get_multi(keys, None)
        for one in keys:
            self.found("get_multi", one, values[one], floors[one])

    def found(self, what: str, key: int, value: Any, floor: Floor) -> None:
        """Judge and count what a read without computing has found."""
        self.slot.count(Column.MISSES if value is None else Column.HITS)
        if value is not None:
            self.read(what, key, value, floor)

    def read(self, what: str, key: int, value: Any, floor: Floor) -> None:
        """Judge an answer."""
        fault = self.truth.fault(key, value, floor)
        if fault is None:
            self.process.note(key, f"{what} finds {value.version} by {value.source}")
            return
        self.slot.count(Column[fault.partition(":")[0].upper()])
        if not fault.startswith("late"):
            self.process.fault(key, f"{what} finds {fault}")

    # -- Writing -----------------------------------------------------------------

    def delete(self, key: int) -> None:
        """A new version, and a delete."""
        self._change("delete", key, self.client.delete)

    def invalidate(self, key: int) -> None:
        """A new version, which the cached function is told of."""
        self._change("invalidate", key, self.function.invalidate)

    def _change(self, what: str, key: int, delete: Callable[[int], Any]) -> None:
        lock = self.truth.lock(key)
        if not lock.acquire(block=False):
            return  # somebody else is at it, and may have to wait for a server
        try:
            version = self.truth.bump(key)
            self.process.note(key, f"{what} of all before {version} begins")
            errors = self.process.remote.stats.errors
            found = delete(key)
            # Others' failures count here too: then a delete is less certain than it could be.
            clean = self.process.remote.stats.errors == errors
            self.truth.acknowledge(key, version, clean=clean)
        finally:
            lock.release()
        self.slot.count(Column.DELETES)
        self.slot.count(Column.FAILED_DELETES, not clean)
        failures = "" if clean else ", with failures meanwhile"
        self.process.note(key, f"{what} of all before {version} returned {found}{failures}")

    def put(self, key: int) -> None:
        """The present version is written; nobody changes it meanwhile."""
        self._write("put", key, self.client.put)

    def add(self, key: int) -> None:
        """The same, if nothing is there."""
        self._write("add", key, self.client.add)

    def _write(self, what: str, key: int, write: Callable[[int, Any, float], bool]) -> None:
        lock = self.truth.lock(key)
        if not lock.acquire(block=False):
            return
        try:
            version = self.truth.version(key)
            value = self.process.value(key, version, "put")
            self.process.note(key, f"{what} of {version} begins")
            errors = self.process.remote.stats.errors
            written = write(key, value, TTL)
            if not written and self.process.remote.stats.errors != errors:
                self.truth.put_failed(key, version)
        finally:
            lock.release()
        self.slot.count(Column.WRITES, written)
        self.process.note(key, f"{what} of {version} returned {written}")

    def fill(self, key: int) -> None:
        """A claim, and a value that is true when it is claimed."""
        claim = self.client.claim(key, CLAIM_TTL)
        if claim is None:
            return
        version = self.truth.version(key)
        self.process.note(key, f"claimed, to fill it with {version}")
        time.sleep(self.random.choice((0.0, 0.002)))
        written = claim.fill(self.process.value(key, version, "fill"), TTL)
        self.slot.count(Column.WRITES if written else Column.REFUSED_FILLS)
        self.process.note(key, f"fill with {version} returned {written}")

    def renew(self, key: int) -> None:
        """A longer life."""
        self.process.note(key, f"renew returned {self.client.renew(key, TTL + 5)}")

    def expire(self, key: int) -> None:
        """The end of a life."""
        self.process.note(key, f"expire returned {self.client.expire(key)}")

    def _some(self, key: int) -> list[int]:
        keys = self.truth.keys
        return [(key + step) % keys for step in range(min(8, keys))]


def work(number: int, settings: Settings, truth: Truth, board: Board, pipe: Connection) -> None:
    """Run the threads of process *number*, and send a report when they have ended."""
    faulthandler.register(signal.SIGUSR1)
    process = Process(number, settings, truth, board)
    threads = [
        threading.Thread(target=Thread(process, thread).run, name=f"{number}.{thread}", daemon=True)
        for thread in range(settings.threads)
    ]
    for one in threads:
        one.start()
    pipe.send("ready")
    while board.word != Board.STOP:
        board.slot(number, 0)[Column.ERRORS] = process.remote.stats.errors
        time.sleep(0.1)
    deadline = time.monotonic() + 10
    for one in threads:
        one.join(max(0.0, deadline - time.monotonic()))
    report = process.report
    report.stuck = [one.name for one in threads if one.is_alive()]
    report.stats = str(process.remote.stats)
    pipe.send(report)
    pipe.recv()  # when all have ended, it is known which histories are wanted
    pipe.send(process.histories())
