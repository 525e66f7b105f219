"""Invalidations between processes, beside plain pyzmq and chorde: how fast, how many, how sure.

    python bench/coherence.py [--json] [--assert] [--rounds N] [--deletes N] [--flood N]

Four questions, each on tcp and ipc sockets of this machine:

- How long after a delete began in process A is the value gone from the private tier of process B?
  A deletes every 4 ms. The values note when they end, and all processes of a machine have one
  monotonic clock, so nothing in B looks for the end, nor competes with the thread that brings it.
  One line is over a real memcached, whose round trip is part of the time; in the others, and for
  chorde, a stand-in in each process's memory takes the place of the shared tier. Processes of one
  host tell each other ahead of the bus; "by the bus alone" is without that, as between hosts.
- How many deletes a second go from one process through a broker of its own to four nodes? The
  publisher deletes one key after another through its client, with some thousand under way at a
  time, and a stand-in for the shared tier. What a node did not hear of, without reporting that
  something was missing, is lost unnoticed.
- For how long does nobody hear anything by the bus when the broker is killed? Neighbours hear even
  then, so it is measured without.
- What does a read cost while a node may not serve what it holds, and has to confirm it?
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.coherence_latency import IN_A, IN_B, ONE_HOP, OURS, THIRD, Latency, latencies
from bench.coherence_rates import HELD, NOT_HELD, Rate, rates
from bench.coherence_reads import reads
from bench.coherence_takeover import IN_A_NODE, IN_ITS_OWN, Takeover, takeovers
from bench.goals import Goal, Verdict, judge
from bench.peers import announce_missing, environment
from bench.sections import Measured, measure, shown
from bench.tables import Table
from bench.timing import Result
from tiered.cli.demo.server import PrivateMemcached

MODULES = ("zmq", "chorde")
TRANSPORTS = ("tcp", "ipc")

LATENCY = "delete in A, gone from B"
RATE = "deletes through a third process to four nodes"
TAKEOVER = "broker killed"

MOST_MS = {IN_A: (0.3, 0.8), IN_B: (0.3, 0.8), THIRD: (0.4, 0.8)}
"""p50 and p99."""
LEAST_RATE = 20.0
MOST_SECONDS = 2.0

GOALS = [
    *(
        Goal(f"{LATENCY}, {transport}, {share}", f"{OURS}, {where}", limit, absolute=True)
        for transport in TRANSPORTS
        for where, limits in MOST_MS.items()
        for share, limit in zip(("p50", "p99"), limits, strict=True)
    ),
    *(
        Goal(f"{RATE}, {transport}", name, LEAST_RATE, at_least=True, absolute=True)
        for transport in TRANSPORTS
        for name in (HELD, NOT_HELD)
    ),
    *(
        Goal(f"{TAKEOVER}, {transport}", name, MOST_SECONDS, absolute=True)
        for transport in TRANSPORTS
        for name in (IN_ITS_OWN, IN_A_NODE)
    ),
]


# -- What was measured, as tables and as what goals are about ----------------------------


LineT = TypeVar("LineT", Latency, Rate, Takeover)


def of(transport: str, lines: Iterable[LineT]) -> list[LineT]:
    """Those on *transport*."""
    return [line for line in lines if line.transport == transport]


def latency_table(transport: str, lines: Iterable[Latency]) -> Table:
    """Of one transport."""
    return Table(
        f"{LATENCY}, {transport}",
        ("contender", "p50 ms", "p99 ms", f"p50, x {ONE_HOP}"),
        [
            (one.name, f"{one.p50:.3f}", f"{one.p99:.3f}", f"{one.ratio:.2f}")
            for one in of(transport, lines)
        ],
    )


def rate_table(transport: str, lines: Iterable[Rate]) -> Table:
    """Of one transport."""
    return Table(
        f"{RATE}, {transport}",
        ("contender", "1,000/s", "x PUB/SUB", "lost", "lost unnoticed"),
        [
            (
                one.name,
                shown(one.rate),
                f"{one.ratio:.2f}",
                f"{one.lost:.1%}",
                f"{one.unnoticed:,}",
            )
            for one in of(transport, lines)
        ],
    )


def takeover_table(transport: str, lines: Iterable[Takeover]) -> Table:
    """Of one transport."""
    return Table(
        f"{TAKEOVER}, {transport}",
        ("", "first delete arrives, s", "worst, s", "verified again, s", "stale values served"),
        [
            (
                one.name,
                f"{one.first:.3f}",
                f"{one.worst:.3f}",
                f"{one.verified:.3f}",
                str(one.stale),
            )
            for one in of(transport, lines)
        ],
    )


def measured(
    latency: Iterable[Latency], rate: Iterable[Rate], takeover: Iterable[Takeover]
) -> dict[str, Measured]:
    """The figures that goals are about, by title."""
    found: dict[str, Measured] = {}

    def add(title: str, unit: str, name: str, value: float, ratio: float = 1.0) -> None:
        section = found.setdefault(title, Measured(ONE_HOP, unit, []))
        section.results.append(Result(name, value, ratio))

    for line in latency:
        add(f"{LATENCY}, {line.transport}, p50", "ms", line.name, line.p50, line.ratio)
        add(f"{LATENCY}, {line.transport}, p99", "ms", line.name, line.p99)
    for one in rate:
        add(f"{RATE}, {one.transport}", "thousand/s", one.name, one.rate, one.ratio)
    for killed in takeover:
        add(f"{TAKEOVER}, {killed.transport}", "s", killed.name, killed.worst)
    return found


def sure(rate: Iterable[Rate], takeover: Iterable[Takeover]) -> list[Verdict]:
    """That nothing of ours was lost unnoticed, and nothing stale was served."""
    verdicts = []
    for one in rate:
        if one.name.startswith(OURS):
            words = f"{RATE}, {one.transport}: {one.name}, 0 lost unnoticed"
            verdicts.append(Verdict(words, one.unnoticed, not one.unnoticed))
    for killed in takeover:
        words = f"{TAKEOVER}, {killed.transport}: {killed.name}, 0 stale values served"
        verdicts.append(Verdict(words, killed.stale, not killed.stale))
    return verdicts


def main() -> int:
    """Run, print, and judge."""
    parser = command.parser(__doc__, rounds=5)
    parser.add_argument("--deletes", type=int, default=500, help="paced ones, in each round")
    parser.add_argument("--flood", type=int, default=50_000, help="unpaced ones, in each round")
    options = parser.parse_args()
    if not PrivateMemcached.installed():
        print("memcached is not installed; nothing to measure", file=sys.stderr)
        return 0
    announce_missing(*MODULES)
    latency: list[Latency] = []
    rate: list[Rate] = []
    takeover: list[Takeover] = []
    with PrivateMemcached() as server:
        for transport in TRANSPORTS:
            latency += latencies(transport, server.address, options.rounds, options.deletes)
            rate += rates(transport, options.rounds, options.flood)
            takeover += takeovers(transport, server.address, options.rounds)
    sections = measure(reads(), options.rounds)
    tables = [latency_table(one, latency) for one in TRANSPORTS]
    tables += [rate_table(one, rate) for one in TRANSPORTS]
    tables += [takeover_table(one, takeover) for one in TRANSPORTS]
    data = {
        "environment": environment(*MODULES),
        "tables": [asdict(table) for table in tables],
        "sections": {title: asdict(one) for title, one in sections.items()},
    }
    text = "\n\n".join(
        [table.text() for table in tables] + [one.table(name) for name, one in sections.items()]
    )
    verdicts = judge(GOALS, measured(latency, rate, takeover)) + sure(rate, takeover)
    return command.conclude(options, data, text, verdicts)


if __name__ == "__main__":
    sys.exit(main())
