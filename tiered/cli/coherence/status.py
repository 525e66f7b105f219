"""``coherence status``: who takes part in a bus, and how it is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from tiered.cli import output
from tiered.cli.arguments import seconds
from tiered.cli.coherence.secret import add_secrets, secrets_of
from tiered.cli.signals import on_end

if TYPE_CHECKING:
    from tiered.cli.coherence.health import Health
    from tiered.coherence.zeromq.inquiry import Reported

__all__ = ["add_to"]

_NAME: Final = "tiered coherence status"
_EVERY: Final = 1.0

_DESCRIPTION = """\
Asks the brokers at the addresses of a bus who is there, without taking part: for each node
how many events it is behind, and for how long it was not heard of.
"""

_EPILOG = """\
examples:
  python -m tiered coherence status --connect ipc:///run/tiered/bus
  python -m tiered coherence status --connect tcp://10.0.0.1:5555 tcp://10.0.0.2:5555 \\
      --key-file /etc/tiered/bus.key --json

exit codes: 0 all is well; 1 no broker answers; 2 wrong arguments, or the output cannot be
written; 3 a node is behind for longer than the detection time, or was not heard of for that
time, or there are two brokers; with --watch, that of the last look
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "status",
        help="who takes part, and how it is",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--connect",
        nargs="+",
        required=True,
        metavar="ADDRESS",
        help="the addresses of the bus: tcp://host:port, ipc:///path or ipc://@name",
    )
    add_secrets(parser)
    parser.add_argument(
        "--detection",
        type=seconds,
        default=1.0,
        metavar="S",
        help="the detection time of the bus (default 1 second)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=2.0,
        metavar="S",
        help="how long an address may take to answer (default 2 seconds)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one line for each look")
    parser.add_argument(
        "--watch", action="store_true", help="look again each second, until interrupted"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look, and show; the exit status."""
    from tiered.cli.coherence.health import looked_at
    from tiered.coherence.zeromq.inquiry import Inquiry

    try:
        secrets = secrets_of(options)
        inquiry = Inquiry(
            options.connect, key=secrets.key, curve=secrets.curve, timeout=options.timeout
        )
    except (TypeError, ValueError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2
    output.forgive()
    code = 1
    try:
        with on_end(_interrupt):
            while True:
                health = looked_at(inquiry, options.detection)
                code = health.exit_code
                _show(health, options)
                if not options.watch:
                    break
                time.sleep(_EVERY)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        output.abandon()
    except OSError as error:
        return output.refused(_NAME, error)
    return code


def _interrupt() -> None:
    raise KeyboardInterrupt


def _show(health: Health, options: argparse.Namespace) -> None:
    from tiered.cli.coherence.spoken import unanswered

    if options.json:
        print(json.dumps(_data(health)), flush=True)
        return
    if options.watch and sys.stdout is not None and sys.stdout.isatty():
        print("\x1b[2J\x1b[H", end="")
    for broker in health.brokers:
        print("\n".join(_lines(broker, health)), flush=True)
    if not health.brokers:
        print(f"{_NAME}: {unanswered(options.connect)}", file=sys.stderr)
    elif health.is_split:
        print(
            f"{_NAME}: {len(health.brokers)} brokers at a time: the bus is split, or one is "
            f"about to give way",
            file=sys.stderr,
        )


def _data(health: Health) -> dict[str, Any]:
    return {
        "well": health.well,
        "brokers": [
            {
                "address": broker.address,
                "epoch": f"{broker.report.epoch:016x}",
                "age": broker.report.age / 1000,
                "seq": broker.report.seq,
                "journal": _journal(broker),
                "claims": broker.report.claims,
                "nodes": [
                    {
                        "node": row.node.hex(),
                        "label": row.label,
                        "seq": row.seq,
                        "lag": max(0, broker.report.seq - row.seq),
                        "silent": row.silent / 1000,
                        "trouble": health.trouble(row),
                    }
                    for row in broker.report.rows
                ],
            }
            for broker in health.brokers
        ],
    }


def _lines(broker: Reported, health: Health) -> Iterator[str]:
    report = broker.report
    yield f"{broker.address}  epoch {report.epoch:016x}, since {_duration(report.age / 1000)}"
    yield (
        f"event {report.seq:,}, the last {_journal(broker):,} kept; "
        f"{report.claims:,} claims; {len(report.rows):,} nodes"
    )
    if report.rows:
        yield f"{'node':<16}  {'event':>12}  {'lag':>8}  {'silent':>8}  {'':<7} label"
    for row in report.rows:
        lag, silent = max(0, report.seq - row.seq), row.silent / 1000
        label = row.label if row.label.isprintable() else ascii(row.label)
        yield (
            f"{row.node.hex()}  {row.seq:>12,}  {lag:>8,}  {silent:>6.2f} s  "
            f"{health.trouble(row):<7} {label}"
        )


def _journal(broker: Reported) -> int:
    """How many events are kept."""
    return broker.report.seq + 1 - broker.report.oldest


def _duration(length: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if length >= size:
            return f"{length / size:.1f} {unit}"
    return f"{length:.1f} s"
