"""A soak: many processes on servers that die, and a checker that knows what is true.

    python bench/soak.py [--seconds N] [--processes N] [--threads N] [--servers N]
        [--kill-every N] [--seed N] [--keys N] [--tiers] [--freeze] [--large] [--no-namespace]
        [--forget N]

Every answer is held against the true version of its key: none may be older than the last
acknowledged delete, none of another key, damaged or torn, and no operation may take more than
five seconds. A line of figures every five seconds; at the end a summary, with the history of
the keys that had a fault. Exits with 1 if there was one.

``--forget 1000`` breaks the client on purpose: one delete of a thousand is not sent. That has
to be noticed. With ``--freeze``, answers that are too old are reported only: what a stopped
server has in its buffers is carried out when it goes on.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.soak_board import OPERATIONS, Board, Column
from bench.soak_process import Event, Report, Settings
from bench.soak_servers import Servers, Trouble
from bench.soak_truth import Truth
from bench.soak_worker import work
from tiered.cli.demo.server import PrivateMemcached

__all__ = ["Outcome", "Soak", "main"]

STUCK = 5.0
NEAR_TTL = 2.0
INTERVAL = 5.0
LARGE_EVERY = 40
"""Of so many keys one has large values: each costs as much as thousands of the others."""
SHOWN_KEYS = 5
SHOWN_EVENTS = 60
PATIENCE = 60.0
"""Seconds for processes to start, and to end."""


@dataclass
class Outcome:
    """What a soak has come to.

    Attributes:
        figures: the counts of :class:`Column`, in all.
        faults: the first of each key and process, in the order of time.
        histories: what happened to those keys, up to the fault.
        stuck: operations that took more than five seconds.
        kills: how many servers were killed, or frozen.
    """

    figures: dict[Column, int]
    faults: list[tuple[int, Event]]
    histories: dict[int, list[Event]]
    stuck: list[str]
    kills: int
    stats: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """Answers that should not have been."""
        return sum(self.figures[one] for one in (Column.WRONG, Column.STALE, Column.UNSURE))


class Soak:
    """One run.

    Args:
        options: of the command.
        tell: takes the lines of the report.
    """

    def __init__(self, options: argparse.Namespace, *, quiet: bool = False) -> None:
        self.options = options
        self.quiet = quiet
        context = get_context("spawn")
        near_ttl = NEAR_TTL if options.tiers else 0.0
        self.truth = Truth(context, options.keys, near_ttl)
        self.board = Board(context, options.processes, options.threads)
        self._context = context
        self._crowd: list[tuple[SpawnProcess, Connection]] = []
        self._stuck: dict[tuple[tuple[int, int], int], str] = {}
        self._started = 0.0
        self._before: dict[Column, int] = {}

    def run(self) -> Outcome:
        """Do it, and tell what came of it."""
        with Servers(self.options.servers) as servers:
            try:
                self._start(servers.addresses)
                return self._soak(servers)
            finally:
                for process, _ in self._crowd:
                    process.kill()
                    process.join()

    def _start(self, addresses: list[str]) -> None:
        options = self.options
        settings = Settings(
            addresses=tuple(addresses),
            secret=secrets.token_hex(8),
            prefix="soak/",
            seed=options.seed,
            threads=options.threads,
            tiers=options.tiers,
            near_ttl=self.truth.near_ttl,
            large=LARGE_EVERY if options.large else 0,
            forget=options.forget,
            namespace=options.namespace,
        )
        for number in range(options.processes):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=work, args=(number, settings, self.truth, self.board, theirs), daemon=True
            )
            process.start()
            self._crowd.append((process, ours))
        for number in range(options.processes):
            if self._hear(number) != "ready":
                raise RuntimeError(f"process {number} did not start")

    def _hear(self, number: int) -> object:
        process, pipe = self._crowd[number]
        if not pipe.poll(PATIENCE):
            raise RuntimeError(f"process {number} hangs ({process.exitcode=})")
        return pipe.recv()

    def _soak(self, servers: Servers) -> Outcome:
        options = self.options
        trouble = Trouble(
            servers, options.kill_every, freeze=options.freeze, seed=options.seed, tell=self._tell
        )
        self._started = time.monotonic()
        self._before = self._figures()
        self.board.word = Board.GO
        report = self._started + INTERVAL
        end = self._started + options.seconds
        while (now := time.monotonic()) < end:
            trouble.step()
            self._look_for_stuck()
            if now >= report:
                self._tell_figures(INTERVAL)
                report += INTERVAL
            time.sleep(0.05)
        trouble.end()
        self.board.word = Board.STOP
        return self._outcome(trouble.made)

    def _look_for_stuck(self) -> None:
        now = time.monotonic_ns()
        for slot in self.board.slots():
            began = slot[Column.BEGAN]
            if not began or now - began < STUCK * 1e9 or (slot.name, began) in self._stuck:
                continue
            process, thread = slot.name
            what = f"{OPERATIONS[slot[Column.OPERATION]]} of key {slot[Column.KEY]}"
            self._stuck[slot.name, began] = f"{process}.{thread}: {what}"
            self._tell(f"stuck: {process}.{thread} in {what}")
            if len(self._stuck) <= 3:
                pid = self._crowd[process][0].pid
                assert pid is not None
                os.kill(pid, signal.SIGUSR1)  # where all its threads are

    def _outcome(self, kills: int) -> Outcome:
        reports: list[Report] = []
        for number in range(len(self._crowd)):
            report = self._hear(number)
            assert isinstance(report, Report)
            reports.append(report)
        histories: dict[int, list[Event]] = {}
        for _, pipe in self._crowd:
            pipe.send("histories")
        for number in range(len(self._crowd)):
            told = self._hear(number)
            assert isinstance(told, dict)
            for key, events in told.items():
                histories.setdefault(key, []).extend(events)
        faults = [pair for one in reports for pair in one.faults.items()]
        return Outcome(
            figures=self._figures(),
            faults=sorted(faults, key=lambda pair: pair[1].at),
            histories={key: sorted(events) for key, events in histories.items()},
            stuck=[*self._stuck.values(), *(name for one in reports for name in one.stuck)],
            kills=kills,
            stats=[one.stats for one in reports],
        )

    # -- Telling -----------------------------------------------------------------

    def _figures(self) -> dict[Column, int]:
        return {column: self.board.total(column) for column in Column}

    def _tell(self, line: str) -> None:
        if not self.quiet:
            print(f"{self._since(time.monotonic()):7.2f} s  {line}", flush=True)

    def _since(self, at: float) -> float:
        return at - self._started

    def _tell_figures(self, seconds: float) -> None:
        figures = self._figures()
        new = {column: figures[column] - self._before[column] for column in Column}
        self._before = figures
        slots = self.board.slots()
        slowest = max(slot[Column.SLOWEST] for slot in slots)
        for slot in slots:
            slot[Column.SLOWEST] = 0
        words = [f"{new[Column.OPERATIONS] / seconds:,.0f} operations/s"]
        words += [
            f"{new[column]:,} {column.name.lower().replace('_', ' ')}"
            for column in Column
            if column >= Column.HITS and (new[column] or column < Column.WRONG)
        ]
        self._tell(f"{', '.join(words)}, slowest {slowest / 1e9:.2f} s")

    def summary(self, outcome: Outcome) -> str:
        """The figures of the whole run, and the histories of some keys with a fault."""
        lines = [f"\n{outcome.kills} times a server was {self._done}; in all:"]
        for column in Column:
            if column >= Column.OPERATIONS:
                words = column.name.lower().replace("_", " ")
                lines.append(f"  {words:<16}{outcome.figures[column]:>12,}")
        lines += [f"  stuck           {len(outcome.stuck):>12,}", ""]
        lines += [f"process {number}: {text}" for number, text in enumerate(outcome.stats)]
        keys = list(dict.fromkeys(key for key, _ in outcome.faults))
        lines.append(f"\n{len(keys)} keys with a fault" + (", the first:" if keys else ""))
        for key in keys[:SHOWN_KEYS]:
            lines += self._history(key, outcome)
        lines += [f"stuck: {one}" for one in outcome.stuck]
        return "\n".join(lines)

    @property
    def _done(self) -> str:
        return "frozen" if self.options.freeze else "killed"

    def _history(self, key: int, outcome: Outcome) -> list[str]:
        fault = next(event for one, event in outcome.faults if one == key)
        before = [event for event in outcome.histories.get(key, []) if event.at <= fault.at]
        lines = [f"\nkey {key}"]
        for event in [*before[-SHOWN_EVENTS:], fault]:
            lines.append(f"  {self._since(event.at):10.4f} s  {event.who:>5}  {event.what}")
        return lines


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=8, help="in each process")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--tiers", action="store_true", help="a tier in memory in front")
    parser.add_argument("--freeze", action="store_true", help="stop servers for 2 s, not for good")
    parser.add_argument("--large", action="store_true", help="3 MB for one key of 40")
    parser.add_argument("--no-namespace", action="store_false", dest="namespace")
    parser.add_argument("--forget", type=int, default=0, help="lose one delete of so many")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and judge; the exit status."""
    options = parsed(arguments)
    if not PrivateMemcached.installed():
        print("memcached is not installed; there is nothing to soak", file=sys.stderr)
        return 0
    soak = Soak(options)
    outcome = soak.run()
    print(soak.summary(outcome))
    forgiven = outcome.figures[Column.STALE] + outcome.figures[Column.UNSURE]
    violations = outcome.violations - (forgiven if options.freeze else 0)
    return 1 if violations or outcome.stuck else 0


if __name__ == "__main__":
    sys.exit(main())
