"""``coherence broker``: a broker in a process of its own."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from tiered.cli import output
from tiered.cli.arguments import seconds, whole
from tiered.cli.coherence.secret import add_secrets, secrets_of
from tiered.cli.signals import on_end

if TYPE_CHECKING:
    from tiered.coherence import ZmqBroker

__all__ = ["add_to"]

_NAME: Final = "tiered coherence broker"
_LOOK: Final = 0.05
"""Seconds between two looks at who follows."""

_DESCRIPTION = """\
Runs a broker until it is told to end (SIGTERM, SIGINT or SIGHUP): then it tells all who
follow it, and they look for another one at their other addresses. One line tells when it is
ready.
"""

_EPILOG = """\
examples:
  python -m tiered coherence broker --bind ipc:///run/tiered/bus
  python -m tiered coherence broker --bind 'tcp://*:5555' --key-file /etc/tiered/bus.key -v

exit codes: 0 ended as it was told; 1 an address cannot be bound; 2 wrong arguments
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "broker",
        help="run a broker in a process of its own",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bind",
        nargs="+",
        required=True,
        metavar="ADDRESS",
        help="where to be found: tcp://host:port, tcp://*:port, ipc:///path or ipc://@name",
    )
    add_secrets(parser)
    parser.add_argument(
        "--detection",
        type=seconds,
        default=1.0,
        metavar="S",
        help="the detection time of the bus, the same for all (default 1 second)",
    )
    parser.add_argument(
        "--journal-events",
        type=whole(1, 10**9),
        default=100_000,
        metavar="N",
        help="events that are kept for nodes that missed some (default 100000)",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="tell who joins and who leaves"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Be a broker; the exit status."""
    from tiered.coherence import ZmqBroker

    logging.basicConfig(format=f"{_NAME}: %(message)s", level=logging.WARNING)
    try:
        secrets = secrets_of(options)
        broker = ZmqBroker(
            options.bind,
            key=secrets.key,
            curve=secrets.curve,
            detection=options.detection,
            journal_events=options.journal_events,
        )
    except (TypeError, ValueError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2
    ended = threading.Event()
    narrator = threading.Thread(target=_narrate, args=(broker, ended, options.verbose), daemon=True)
    with on_end(broker.stop):
        narrator.start()
        try:
            broker.run()
        except OSError as error:
            print(f"{_NAME}: {error}", file=sys.stderr)
            return 1
        finally:
            ended.set()
            narrator.join()
    return 0


def _narrate(broker: ZmqBroker, ended: threading.Event, verbose: bool) -> None:
    """Say when it is ready, and who is there."""
    try:
        while not (stats := broker.stats).epoch:
            if ended.wait(_LOOK):
                return
        _say(f"ready at {stats.broker}, epoch {stats.epoch:016x}")
        known: dict[bytes, str] = {}
        while verbose and not ended.wait(_LOOK):
            there = {row.node: row.label for row in broker.rows}
            for node in there.keys() - known.keys():
                _say(f"joined: {node.hex()} {_shown(there[node])}")
            for node in known.keys() - there.keys():
                _say(f"left: {node.hex()} {_shown(known[node])}")
            known = there
    except OSError:
        output.abandon()  # that is no reason to end


def _say(line: str) -> None:
    print(f"{_NAME}: {line}", flush=True)


def _shown(label: str) -> str:
    return label if label.isprintable() else ascii(label)
