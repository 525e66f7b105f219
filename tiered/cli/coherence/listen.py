"""``coherence listen``: shows what happens on a bus, and keeps a host's files in step."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from tiered.cli import output
from tiered.cli.arguments import byte_size, seconds, whole
from tiered.cli.coherence.secret import add_secrets, secrets_of
from tiered.cli.keyfile import lines_of
from tiered.cli.signals import on_end

if TYPE_CHECKING:
    from tiered.clients.files import FilesCacheClient

__all__ = ["add_to"]

_NAME: Final = "tiered coherence listen"
_CHECKSUM_VARIABLE: Final = "TIERED_CHECKSUM_KEY"

_DESCRIPTION = """\
Follows a bus, as a node that never becomes the broker, and prints each event when it comes:
time, kind, namespace and key. Lines with -- tell when the broker is found or lost, and when
events may be missing.

Namespaces (the topic of coherent_cached, "tiered" by default) are hashes on the bus: those
given with --namespace are shown by name. Keys of more than 255 bytes are hashes, too.

With --files PATH, it keeps the directory of a FilesCacheClient in step, for all processes of
the host that read through it in front of a shared tier, and need no bus of their own then.
What is deleted or replaced elsewhere in the namespaces given is removed, what expires is made
stale; each a second time a second later, as somebody may have been copying the value. Files
cannot ask whether a broker still lives. So everything in PATH is made stale, to be read from
the shared tier again, at the beginning, after events were lost, with a new broker, and
again and again while none answers for twice the detection time. Those who read through the
files should keep no longer-lived copies in front of them. Should this process end, nobody
keeps the files in step: have it restarted. It goes on when its output cannot be written.
"""

_EPILOG = """\
examples:
  python -m tiered coherence listen --connect ipc:///run/tiered/bus --namespace tiered
  python -m tiered coherence listen --connect tcp://10.0.0.1:5555 --key-file bus.key \\
      --namespace tiered --files /var/cache/app --quiet

exit codes: 0 ended as it was told, or all was heard that was asked for; 1 the time was over
before --count events, or without --count before a broker was found; 2 wrong arguments, or the
output cannot be written
"""


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "listen",
        help="show what happens; keep a host's files in step",
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
        "--namespace",
        nargs="+",
        action="extend",
        default=[],
        metavar="NS",
        help="show these by name; with --files, follow these",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no events, only what becomes of the broker"
    )
    parser.add_argument(
        "--count", type=whole(1, 10**15), metavar="N", help="end after so many events"
    )
    parser.add_argument("--timeout", type=seconds, metavar="S", help="end after so many seconds")
    parser.add_argument(
        "--detection",
        type=seconds,
        default=1.0,
        metavar="S",
        help="the detection time of the bus, the same for all (default 1 second)",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--files", metavar="PATH", help="keep this directory in step")
    files.add_argument(
        "--size",
        type=byte_size,
        default=10**9,
        metavar="BYTES",
        help="what it is to hold, should it have to be made (default 1G)",
    )
    files.add_argument(
        "--checksum-key-file",
        metavar="F",
        help=f"a file with the checksum_key of the files; or the variable {_CHECKSUM_VARIABLE}; "
        f"where they have one and it is not given here, what would be made stale is removed",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Listen; the exit status."""
    from tiered.cli.coherence.ear import Ear
    from tiered.cli.coherence.spoken import Phrasing, unanswered
    from tiered.coherence import ZmqBus
    from tiered.coherence.hostfiles import HostFiles

    logging.basicConfig(format=f"{_NAME}: %(message)s", level=logging.WARNING)
    files = None
    try:
        secrets = secrets_of(options)
        bus = ZmqBus(
            options.connect,
            key=secrets.key,
            curve=secrets.curve,
            detection=options.detection,
            candidate=False,
            neighbours=False,  # nobody here wants to hear of events before their turn
        )
        if options.files is not None:
            if not options.namespace:
                raise ValueError("--files needs --namespace: whose keys are they?")
            files = HostFiles(_client(options), bus, options.namespace)
        phrasing = Phrasing(options.namespace, as_json=options.json)
    except (TypeError, ValueError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2
    alone = f"{_NAME}: {unanswered(options.connect)}"
    keeps = files is not None  # in step, which is for others than who reads our output
    ear = Ear(bus, phrasing, alone=alone, quiet=options.quiet, goes_on=keeps)
    bus.join(ear)
    # Until the end of it all: who is told twice to end leaves as orderly as who is told once.
    with on_end(ear.end), ExitStack() as closing:
        if files is not None:
            files.start()
            closing.callback(files.close)
        closing.enter_context(bus)
        try:
            return ear.listen(options.count, options.timeout)
        except OSError as error:
            return output.refused(_NAME, error)


def _client(options: argparse.Namespace) -> FilesCacheClient:
    from tiered.clients.files import FilesCacheClient

    checksum_key: list[str] | None = None
    if options.checksum_key_file is not None:
        checksum_key = lines_of("--checksum-key-file", options.checksum_key_file)
    elif os.environ.get(_CHECKSUM_VARIABLE):
        checksum_key = [os.environ[_CHECKSUM_VARIABLE]]
    # Nothing is read from the files but their names and dates: no pickle is ever opened.
    return FilesCacheClient(
        options.size, options.files, checksum_key=checksum_key, serializer="raw"
    )
