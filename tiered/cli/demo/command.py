"""The demo: starts workers, a broker and what they share; shows; cleans up."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import multiprocessing.connection
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Final, TextIO

from tiered.cli.demo.accident import Accident
from tiered.cli.demo.board import Board
from tiered.cli.demo.broker import BrokerProcess
from tiered.cli.demo.coherent import DETECTION, Coherence
from tiered.cli.demo.report import Report
from tiered.cli.demo.shared import shared_tier
from tiered.cli.demo.worker import Job, Progress, serve
from tiered.cli.demo.workload import find_modules

__all__ = ["run"]

_CONTEXT: Final = multiprocessing.get_context("spawn")
_INTERRUPTED: Final = 130
_STOP_WITHIN: Final = 5.0


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0, or 130 when interrupted, or 1 when it could not run."""
    # With --json, standard output is for the data alone.
    say = sys.stderr if options.json else sys.stdout
    report: Report | None = None
    interrupted, lost = False, 0
    try:
        # The signals first, and what is shared last to go: an interruption is met at any moment.
        with _ending_on_signals() as look, contextlib.ExitStack() as cleanup:
            try:
                shared = shared_tier(options, cleanup)
            except OSError as error:
                print(f"tiered demo: {error}", file=sys.stderr)
                return 1
            print(f"shared tier: {shared.words}", file=say, flush=True)
            modules = find_modules()
            report = Report(options.workers, len(modules), shared.words)
            secret = secrets.token_hex(8)
            broker = BrokerProcess(secret)
            board = Board(_CONTEXT)
            coherence = Coherence(broker.address, board, options.workers)
            jobs = [
                Job(number, modules, shared, secret, options.seconds, coherence)
                for number in range(options.workers)
            ]
            try:
                lost = _watch(jobs, report, say, broker, look)
            except OSError as error:
                print(f"tiered demo: {error}", file=sys.stderr)
                return 1
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted", file=say)
    if report is not None and not (interrupted and not report.data()["requests"]):
        if options.json:
            print(json.dumps(report.data(), indent=2))
        else:
            print(f"\n{report.table()}")
    if interrupted:
        return _INTERRUPTED
    stale = 0 if report is None else report.coherence.stale
    if lost:
        print(f"tiered demo: {lost} of {options.workers} workers failed", file=sys.stderr)
    if stale:
        print(f"tiered demo: {stale} answers were out of date", file=sys.stderr)
    return 1 if lost or stale else 0


def _watch(
    jobs: list[Job],
    report: Report,
    say: TextIO,
    broker: BrokerProcess,
    look: Callable[[], object],
) -> int:
    """Run the workers and show their progress; how many ended before their time."""
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(broker.start(DETECTION)).await_ready()
        started = time.monotonic()
        accident = Accident(broker, jobs[0].seconds)
        pipes: list[Connection] = []
        for job in jobs:
            ours, theirs = _CONTEXT.Pipe()
            worker = _CONTEXT.Process(target=serve, args=(job, theirs), daemon=True)
            worker.start()
            theirs.close()
            cleanup.callback(_end, worker, ours)
            pipes.append(ours)
        try:
            return len(jobs) - _follow(pipes, report, started, say, accident=accident, look=look)
        finally:
            report.seconds = time.monotonic() - started


def _follow(
    pipes: list[Connection],
    report: Report,
    started: float,
    say: TextIO,
    *,
    accident: Accident | None = None,
    look: Callable[[], object] = bool,
) -> int:
    """Until all workers have ended; how many of them were done. *look* is called in each turn."""
    done, heard = 0, math.inf
    live = list(pipes)
    shown = started
    screen = say.isatty()
    while live:
        look()
        for pipe in multiprocessing.connection.wait(live, timeout=0.5):
            assert isinstance(pipe, Connection)
            try:
                progress: Progress = pipe.recv()
            except EOFError:
                live.remove(pipe)
                continue
            report.take(progress)
            heard = min(heard, time.monotonic())
            done += progress.done
        now = time.monotonic()
        report.seconds = now - started
        if accident is not None:
            accident.happen(now - heard)
            report.coherence.killed_at = accident.happened_at
        if now > heard and now - shown >= (0.2 if screen else 1.0):
            shown = now
            print(
                f"\r{report.line()}" if screen else report.line(),
                end="" if screen else "\n",
                file=say,
                flush=True,
            )
    if screen:
        print(file=say)
    return done


def _end(worker: Any, pipe: Connection) -> None:
    with contextlib.suppress(OSError):
        pipe.send("stop")
    # Read on, so that a worker with a full pipe comes to see that it should stop.
    deadline = time.monotonic() + _STOP_WITHIN
    with contextlib.suppress(EOFError, OSError):
        while pipe.poll(max(0.0, deadline - time.monotonic())):
            pipe.recv()
    pipe.close()
    worker.join(max(0.1, deadline - time.monotonic()))
    if worker.is_alive():
        worker.kill()
        worker.join()


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[Callable[[], None]]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: with everything cleaned up.

    Yields what raises once more if a signal has come. The interpreter drops what is raised while
    it runs a finaliser or a callback of a weak reference, as imports have them: then the demo
    would go on to its end.
    """
    told = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal told
        told = True
        raise KeyboardInterrupt

    def look() -> None:
        if told:
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # What is ignored stays so: a shell's job in the background does not hear of Ctrl-C.
    previous = {one: signal.getsignal(one) for one in signals}
    changed = [one for one in signals if previous[one] not in (signal.SIG_IGN, None)]
    for one in changed:
        signal.signal(one, interrupt)
    try:
        yield look
    finally:
        for one in changed:
            signal.signal(one, previous[one])
