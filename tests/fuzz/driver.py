"""Runs fuzzing programs: ``python -m tests.fuzz.driver --store lru --seed 1 --operations 10000``.

A program is made from its seed; without threads the same seed does the same. What goes wrong
ends the run with the command that repeats it.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.fuzz.calls import CallSiege
from tests.fuzz.leaks import measure
from tests.fuzz.program import Program
from tests.fuzz.siege import Siege
from tests.fuzz.stores import STORES, MakeStore

__all__ = ["TARGETS", "besiege", "hostile_surroundings", "main"]

_ROUND = 2000
"""Operations between two checks."""
_TOLERATED_MIB = 2.0
_TOLERATED_REFERENCES = 500
"""Growth that steady work may show: caches of the interpreter, arenas of its allocator."""
_LOGGERS = ("tiered.stores", "tiered.decorators", "tiered.clients", "asyncio")
TARGETS: dict[str, MakeStore | None] = {**STORES, "calls": None}
"""The stores; and cached functions on clients, with the store that these choose."""


@contextmanager
def hostile_surroundings() -> Iterator[None]:
    """Failing finalisers and callbacks are not reported; collections are quick; threads rush."""
    hook, interval = sys.unraisablehook, sys.getswitchinterval()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    disabled = [logger.disabled for logger in loggers]
    gc.collect()
    gc.freeze()
    try:
        sys.unraisablehook = lambda _: None
        sys.setswitchinterval(1e-5)
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        sys.unraisablehook = hook
        sys.setswitchinterval(interval)
        for logger, before in zip(loggers, disabled, strict=True):
            logger.disabled = before
        gc.unfreeze()


def besiege(
    make: MakeStore | None, program: Program, operations: int, threads: int = 1
) -> Siege | CallSiege:
    """Run *program* with checks on the way and at the end.

    Args:
        make: the class of the store; ``None`` for cached functions and their client.

    Raises:
        Broken: a promise was not kept.
    """
    siege = CallSiege(program, alone=threads == 1) if make is None else Siege(make, program)
    left = operations
    while left > 0:
        now = min(_ROUND, left)
        _perform(siege.step, now, threads)
        siege.check()
        left -= now
    siege.end()
    return siege


def _perform(step: Callable[[], None], times: int, threads: int) -> None:
    """*step* as often as that, shared out among *threads*."""

    def work(share: int) -> None:
        for _ in range(share):
            step()

    if threads == 1:
        work(times)
        return
    workers = [threading.Thread(target=work, args=(times // threads,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.driver", description=__doc__)
    parser.add_argument("--store", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--operations", type=int, default=10_000, help="of each seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--leaks", action="store_true", help="steady work instead, to see whether memory grows"
    )
    parser.add_argument("--verbose", action="store_true", help="name each seed before it runs")
    return parser.parse_args()


def _look_for_leaks(operations: int) -> int:
    """Steady work; 1 if memory or references grow with it."""
    figures = []
    for done, memory, references in measure(operations):
        figures.append((memory, references))
        counts = ", ".join(f"{name} {count}" for name, count in references.items())
        print(f"{done:>12,} operations: {memory:8.2f} MiB, references: {counts}", flush=True)
    (memory, references), (memory_then, references_then) = figures[0], figures[-1]
    grown = memory_then - memory
    more = {name: references_then[name] - count for name, count in references.items()}
    leaks = grown > _TOLERATED_MIB or max(more.values()) > _TOLERATED_REFERENCES
    print(f"grown by {grown:.2f} MiB, references by {more}: {'a LEAK' if leaks else 'no leak'}")
    return int(leaks)


def main() -> int:
    """The command; 1 if anything failed."""
    options = _options()
    faulthandler.enable()
    if options.leaks:
        with hostile_surroundings():
            return _look_for_leaks(options.operations)
    failed = 0
    targets = TARGETS if options.store == "all" else {options.store: TARGETS[options.store]}
    with hostile_surroundings():
        for name, make in targets.items():
            begun, strikes = time.monotonic(), 0
            for seed in range(options.seed, options.seed + options.seeds):
                program = Program.of(seed)
                if options.verbose:
                    print(f"{name} {program}", file=sys.stderr, flush=True)
                try:
                    siege = besiege(make, program, options.operations, options.threads)
                    strikes += siege.mischief.strikes
                except AssertionError as error:
                    failed += 1
                    print(
                        f"FAILED: {error}\n  python -m tests.fuzz.driver --store {name} "
                        f"--seed {seed} --operations {options.operations} "
                        f"--threads {options.threads}\n  {program}",
                        flush=True,
                    )
            print(
                f"{name}: {options.seeds} programs of {options.operations} operations, "
                f"{strikes} strikes, {time.monotonic() - begun:.1f} s",
                flush=True,
            )
    return min(failed, 1)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # else a seed would not say what happens
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.fuzz.driver", *sys.argv[1:]])
    sys.exit(main())
